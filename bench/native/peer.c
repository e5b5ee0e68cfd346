/* The peer of every benchmark: a TLS server on libssl, non-blocking, one thread, one epoll.
 *
 *     peer CERTIFICATE.pem [1.2|1.3]
 *
 * It prints "port N", and "tls VERSION CIPHER" when that differs from the connection before; it ends when its stdin does.
 * A connection is a row of orders, each a letter and eight bytes, a big-endian count of bytes:
 *
 *     S n   it sends n bytes
 *     R n   it receives n bytes, and then answers with one
 *     E n   it sends the next n bytes back as they come
 *
 * It answers close_notify with its own, and closes.
 */

#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ORDER_SIZE = 9, CHUNK = 1 << 16, EVENTS = 256 };
enum state { HANDSHAKE, ORDER, SEND, RECEIVE, ECHO_BACK };
enum outcome { GOES_ON, WANTS_READ, WANTS_WRITE, OVER };

struct connection {
    int descriptor;
    SSL *tls;
    enum state state;
    uint64_t left;             /* bytes of the order that is carried out */
    unsigned char order[ORDER_SIZE];
    int order_size;
    char *owed;                /* bytes that must be sent before anything else */
    int owed_size, owed_capacity;
    uint32_t watched;
};

static char chunk[CHUNK];
static char last_cipher[128];

static void die(const char *what)
{
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void tell_cipher(SSL *tls)
{
    char now[sizeof last_cipher];
    snprintf(now, sizeof now, "%s %s", SSL_get_version(tls), SSL_get_cipher_name(tls));
    if (strcmp(now, last_cipher) != 0) {
        printf("tls %s\n", now);
        memcpy(last_cipher, now, sizeof now);
    }
}

/* What to do after an OpenSSL call that gave no bytes. */
static enum outcome why(struct connection *c, int result)
{
    switch (SSL_get_error(c->tls, result)) {
    case SSL_ERROR_WANT_READ:
        return WANTS_READ;
    case SSL_ERROR_WANT_WRITE:
        return WANTS_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        SSL_shutdown(c->tls); /* the answer to its close_notify */
        return OVER;
    default:
        return OVER;
    }
}

static void owe(struct connection *c, const char *data, int size)
{
    if (size > c->owed_capacity) {
        c->owed = realloc(c->owed, size);
        c->owed_capacity = size;
    }
    memcpy(c->owed, data, size);
    c->owed_size = size;
}

static enum outcome pay(struct connection *c)
{
    int count = SSL_write(c->tls, c->owed, c->owed_size);
    if (count <= 0)
        return why(c, count);
    memmove(c->owed, c->owed + count, c->owed_size - count);
    c->owed_size -= count;
    return GOES_ON;
}

static enum outcome take_order(struct connection *c)
{
    int count = SSL_read(c->tls, c->order + c->order_size, ORDER_SIZE - c->order_size);
    if (count <= 0)
        return why(c, count);
    c->order_size += count;
    if (c->order_size < ORDER_SIZE)
        return GOES_ON;
    c->order_size = 0;
    c->left = 0;
    for (int i = 1; i < ORDER_SIZE; i++)
        c->left = c->left << 8 | c->order[i];
    switch (c->order[0]) {
    case 'S':
        c->state = SEND;
        return GOES_ON;
    case 'R':
        c->state = RECEIVE;
        return GOES_ON;
    case 'E':
        c->state = ECHO_BACK;
        return GOES_ON;
    default:
        return OVER;
    }
}

static enum outcome send_some(struct connection *c)
{
    int count = SSL_write(c->tls, chunk, c->left < CHUNK ? (int)c->left : CHUNK);
    if (count <= 0)
        return why(c, count);
    c->left -= count;
    if (c->left == 0)
        c->state = ORDER;
    return GOES_ON;
}

static enum outcome receive_some(struct connection *c)
{
    static char buffer[CHUNK];
    int count = SSL_read(c->tls, buffer, c->left < CHUNK ? (int)c->left : CHUNK);
    if (count <= 0)
        return why(c, count);
    c->left -= count;
    if (c->state == ECHO_BACK)
        owe(c, buffer, count);
    else if (c->left == 0)
        owe(c, "!", 1);
    if (c->left == 0)
        c->state = ORDER;
    return GOES_ON;
}

static enum outcome step(struct connection *c)
{
    if (c->state == HANDSHAKE) {
        int result = SSL_accept(c->tls);
        if (result != 1)
            return why(c, result);
        tell_cipher(c->tls);
        c->state = ORDER;
        return GOES_ON;
    }
    if (c->owed_size)
        return pay(c);
    switch (c->state) {
    case SEND:
        return send_some(c);
    case RECEIVE:
    case ECHO_BACK:
        return receive_some(c);
    default:
        return take_order(c);
    }
}

static void end(struct connection *c)
{
    close(c->descriptor);
    SSL_free(c->tls);
    free(c->owed);
    free(c);
}

/* Go on until it has to wait: libssl may hold what epoll does not know of. */
static void serve(int epoll, struct connection *c)
{
    enum outcome outcome;
    ERR_clear_error();
    while ((outcome = step(c)) == GOES_ON)
        ;
    if (outcome == OVER) {
        end(c);
        return;
    }
    uint32_t wanted = outcome == WANTS_READ ? EPOLLIN : EPOLLOUT;
    if (wanted == c->watched)
        return;
    struct epoll_event event = {.events = wanted, .data.ptr = c};
    epoll_ctl(epoll, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->descriptor, &event);
    c->watched = wanted;
}

static void accept_all(int epoll, int listener, SSL_CTX *context)
{
    int descriptor, yes = 1;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct connection *c = calloc(1, sizeof *c);
        c->descriptor = descriptor;
        c->tls = SSL_new(context);
        if (!c->tls || SSL_set_fd(c->tls, descriptor) != 1)
            die("SSL_new");
        SSL_set_accept_state(c->tls);
        serve(epoll, c);
    }
}

static SSL_CTX *make_context(const char *certificate, const char *version)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    int number = strcmp(version, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, certificate, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_min_proto_version(context, number) != 1 || SSL_CTX_set_max_proto_version(context, number) != 1)
        die("certificate or version");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    return context;
}

static int make_listener(void)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        die("listen");
    printf("port %d\n", ntohs(address.sin_port));
    return listener;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: peer CERTIFICATE.pem [1.2|1.3]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);

    SSL_CTX *context = make_context(argv[1], argc > 2 ? argv[2] : "1.3");
    int listener = make_listener(), epoll = epoll_create1(EPOLL_CLOEXEC);
    /* The address of each tells which it is; connections have their own. */
    struct epoll_event on_listener = {.events = EPOLLIN, .data.ptr = &listener};
    struct epoll_event on_stdin = {.events = EPOLLIN, .data.ptr = &limit}, events[EVENTS];
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &on_listener) || epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &on_stdin))
        die("epoll_ctl");
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &limit)
                return 0;
            if (events[i].data.ptr == &listener)
                accept_all(epoll, listener, context);
            else
                serve(epoll, events[i].data.ptr);
        }
    }
}
