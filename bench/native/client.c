/* The limit: a blocking client on libssl (epoll where there are many connections). It measures itself.
 *
 *     client WORK PORT CA.pem A B
 *
 * WORK, A and B are those of worker.py, and so is the line of JSON on stdout; peer.c says what is spoken.
 */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 16, READ_SIZE = 1 << 18, PING = 64, EVENTS = 256 };
static const uint64_t WARM_UP = 4 << 20, BURST = 10 << 20;
enum { WARM_ROUNDS = 200, WARM_HANDSHAKES = 10, WARM_CONNECTIONS = 8 };

struct connection {
    int descriptor;
    SSL *tls;
    uint64_t rounds, left; /* of the echo among many */
};

static SSL_CTX *context;
static int port;
static char buffer[READ_SIZE];

static void die(const char *what)
{
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* -- measuring ---------------------------------------------------------------------------------------------------- */

struct reading {
    double wall, cpu, user, system;
};

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static struct reading read_clocks(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct reading){
        .wall = seconds(CLOCK_MONOTONIC),
        .cpu = seconds(CLOCK_PROCESS_CPUTIME_ID),
        .user = usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6,
        .system = usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6,
    };
}

static void report(struct reading from, const char *more)
{
    struct reading to = read_clocks();
    printf("{\"wall\": %.6f, \"cpu\": %.6f, \"user\": %.6f, \"system\": %.6f%s}\n", to.wall - from.wall,
           to.cpu - from.cpu, to.user - from.user, to.system - from.system, more);
}

static double resident_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*s %ld", &pages) != 1)
        die("/proc/self/statm");
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024.0);
}

/* -- the verbs ------------------------------------------------------------------------------------------------------ */

static struct connection open_connection(void)
{
    struct connection c = {.descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1;
    if (c.descriptor < 0 || connect(c.descriptor, (struct sockaddr *)&address, sizeof address))
        die("connect");
    setsockopt(c.descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    c.tls = SSL_new(context);
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c.tls), "127.0.0.1");
    SSL_set_fd(c.tls, c.descriptor);
    if (SSL_connect(c.tls) != 1)
        die("SSL_connect");
    return c;
}

static void close_connection(struct connection c)
{
    if (SSL_shutdown(c.tls) == 0) /* sent; the second call awaits the peer's */
        while (SSL_shutdown(c.tls) < 0 && SSL_get_error(c.tls, -1) == SSL_ERROR_SSL && SSL_read(c.tls, buffer, READ_SIZE) > 0)
            ERR_clear_error();
    SSL_free(c.tls);
    close(c.descriptor);
}

static void write_all(struct connection c, const void *data, int size)
{
    if (SSL_write(c.tls, data, size) != size)
        die("SSL_write");
}

static void order(struct connection c, char what, uint64_t count)
{
    unsigned char message[9] = {what};
    for (int i = 8; i >= 1; i--, count >>= 8)
        message[i] = count & 0xff;
    write_all(c, message, sizeof message);
}

static void read_exactly(struct connection c, uint64_t count)
{
    while (count) {
        int got = SSL_read(c.tls, buffer, count < READ_SIZE ? (int)count : READ_SIZE);
        if (got <= 0)
            die("SSL_read");
        count -= got;
    }
}

static void receive(struct connection c, uint64_t count)
{
    order(c, 'S', count);
    read_exactly(c, count);
}

static void send_bytes(struct connection c, uint64_t count)
{
    order(c, 'R', count);
    for (uint64_t left = count; left;) {
        int size = left < CHUNK ? (int)left : CHUNK;
        write_all(c, buffer, size);
        left -= size;
    }
    read_exactly(c, 1);
}

static void echo(struct connection c, int size, uint64_t rounds)
{
    order(c, 'E', size * rounds);
    while (rounds--) {
        write_all(c, buffer, size);
        read_exactly(c, size);
    }
}

/* -- the works ------------------------------------------------------------------------------------------------------ */

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void handshakes(uint64_t count)
{
    double *latencies = malloc(count * sizeof *latencies);
    for (int i = 0; i < WARM_HANDSHAKES; i++)
        close_connection(open_connection());
    struct reading from = read_clocks();
    for (uint64_t i = 0; i < count; i++) {
        double began = seconds(CLOCK_MONOTONIC);
        close_connection(open_connection());
        latencies[i] = seconds(CLOCK_MONOTONIC) - began;
    }
    char more[128];
    qsort(latencies, count, sizeof *latencies, by_value);
    snprintf(more, sizeof more, ", \"p50\": %.7f, \"p95\": %.7f", latencies[count / 2], latencies[count * 95 / 100]);
    report(from, more);
}

static struct connection *open_many(uint64_t count)
{
    struct connection *all = malloc(count * sizeof *all);
    for (uint64_t i = 0; i < count; i++) {
        all[i] = open_connection();
        echo(all[i], PING, 1);
    }
    return all;
}

/* The descriptors stay blocking: a record arrives whole here, and one is read only when epoll saw it. */
static void echo_together(struct connection *all, uint64_t count, uint64_t rounds)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS];
    for (uint64_t i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].descriptor, &event);
        order(all[i], 'E', PING * rounds);
        all[i].rounds = rounds;
        all[i].left = PING;
        write_all(all[i], buffer, PING);
    }
    for (uint64_t open = count; open;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            int got = SSL_read(c->tls, buffer, READ_SIZE);
            if (got <= 0)
                die("SSL_read");
            if ((c->left -= got) > 0)
                continue;
            if (--c->rounds == 0) {
                open--;
                continue;
            }
            c->left = PING;
            write_all(*c, buffer, PING);
        }
    }
    close(epoll);
}

static void many(uint64_t count, uint64_t rounds)
{
    struct connection *all = open_many(count);
    echo_together(all, count, 2);
    struct reading from = read_clocks();
    echo_together(all, count, rounds);
    report(from, "");
}

static void burst(struct connection *all, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        receive(all[i], BURST);
        send_bytes(all[i], BURST);
    }
}

static void memory(uint64_t count, uint64_t bursts)
{
    struct connection *kept = open_many(WARM_CONNECTIONS);
    struct reading from = read_clocks();
    double before = resident_kib();
    struct connection *all = open_many(count);
    double idle = resident_kib();
    burst(kept, 1); /* what the process keeps, and no connection, is not counted */
    double quiet = resident_kib();
    burst(all, bursts);
    char more[128];
    snprintf(more, sizeof more, ", \"idle_kib\": %.3f, \"burst_kib\": %.3f", (idle - before) / count,
             (resident_kib() - quiet) / bursts);
    report(from, more);
}

static void one_connection(const char *work, uint64_t a, uint64_t b)
{
    struct connection c = open_connection();
    struct reading from;
    if (strcmp(work, "send") == 0) {
        send_bytes(c, WARM_UP);
        from = read_clocks();
        send_bytes(c, a);
    } else if (strcmp(work, "echo") == 0) {
        echo(c, (int)a, WARM_ROUNDS);
        from = read_clocks();
        echo(c, (int)a, b);
    } else {
        receive(c, WARM_UP);
        from = read_clocks();
        receive(c, a);
    }
    report(from, "");
    close_connection(c);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: client WORK PORT CA.pem A B\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    const char *work = argv[1];
    uint64_t a = strtoull(argv[4], NULL, 10), b = strtoull(argv[5], NULL, 10);
    port = atoi(argv[2]);
    context = SSL_CTX_new(TLS_client_method());
    if (SSL_CTX_load_verify_locations(context, argv[3], NULL) != 1)
        die(argv[3]);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS); /* as the standard library of Python does */

    if (strcmp(work, "handshake") == 0)
        handshakes(a);
    else if (strcmp(work, "many") == 0)
        many(a, b);
    else if (strcmp(work, "memory") == 0)
        memory(a, b);
    else
        one_connection(work, a, b);
    return 0;
}
