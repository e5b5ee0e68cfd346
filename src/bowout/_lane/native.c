/* The lane in C: application data of one open TLS connection, in and out, without Python for each record.
 *
 * The lane does what is usual: recv, decrypt, encrypt, send. At the first unusual thing (an alert, a handshake message,
 * FIN, an error) it stops, and Python leaves it: `leave` gives back what was received and not decrypted, and the engine
 * in `_core` judges as ever. So nothing about the *ending* of a connection is here.
 *
 * Who owes whom what:
 *   OpenSSL    is the one that CPython's _ssl uses. Its functions are looked up in _ssl's own shared object; nothing is
 *              linked. If one is missing, the import fails, and Python does without this module.
 *   CPython    makes the SSL, by context.wrap_bio(). We learn of it by a callback of OpenSSL's ex_data, which is public;
 *              no structure of CPython's is guessed. A lane holds a reference to the SSL, for its own use of it to the end,
 *              and one to the SSLObject, which OpenSSL's callbacks into CPython need.
 *   The SSL    reads and writes CPython's MemoryBIOs, except between `enter` and `leave`. Then it has our BIOs, which
 *              fall back on the MemoryBIOs: input that is not ours is read there, output that is not ours goes there.
 *   The engine may use the SSLObject at any time for output. Before it gives the SSL any input, it calls `leave`.
 *   A transport of asyncio's may take the kernel's place. It puts what it receives into our memory, behind a headroom,
 *              and `take` decrypts it there. `write` calls three of its methods, which may run any code of Python's:
 *              the lane may have been left when they return, and the thread's memory used.
 *   The GIL    is held, except while many bytes are encrypted or decrypted; `busy` then keeps others out.
 *
 * Python 3.11's limited API, so that one binary serves every later version. Tests: tests/test_lane*.py.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE */
#endif

#ifdef LANE_FAULTS /* In the build of `make sanitize`, a test lets an allocation fail: the one with this number. */
__attribute__((visibility("default"))) int lane_fault;
static void *allocate(size_t size)
{
    return lane_fault && --lane_fault == 0 ? NULL : malloc(size);
}
#else
#define allocate malloc
#endif

/* -- OpenSSL: the part of its public interface that is used here (manual pages of 3.0) ---------------------------------- */

typedef struct ssl_st SSL;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;
typedef struct crypto_ex_data_st CRYPTO_EX_DATA;
typedef void message_callback(int outgoing, int version, int type, const void *data, size_t size, SSL *ssl, void *lane);
typedef void new_callback(void *ssl, void *ptr, CRYPTO_EX_DATA *data, int index, long number, void *pointer);

enum {
    WANT_READ = 2,                                         /* SSL_get_error */
    CTRL_SET_MSG_CALLBACK_ARG = 16,                        /* SSL_ctrl */
    EX_INDEX_SSL = 0,                                      /* CRYPTO_get_ex_new_index */
    FLUSH = 11, PENDING = 10, WPENDING = 13,               /* BIO_ctrl */
    SOURCE_SINK = 0x400,                                   /* BIO_meth_new */
    RETRY_READ = 0x01 | 0x08, RETRY_WRITE = 0x02 | 0x08, RETRY_ANY = 0x01 | 0x02 | 0x04 | 0x08, /* BIO_set_flags */
};

#define OPENSSL(F) \
    F(int, SSL_up_ref, (SSL *)) \
    F(void, SSL_free, (SSL *)) \
    F(int, SSL_read_ex, (SSL *, void *, size_t, size_t *)) \
    F(int, SSL_write_ex, (SSL *, const void *, size_t, size_t *)) \
    F(int, SSL_get_error, (const SSL *, int)) \
    F(int, SSL_pending, (const SSL *)) \
    F(BIO *, SSL_get_rbio, (const SSL *)) \
    F(BIO *, SSL_get_wbio, (const SSL *)) \
    F(void, SSL_set0_rbio, (SSL *, BIO *)) \
    F(void, SSL_set0_wbio, (SSL *, BIO *)) \
    F(void, SSL_set_msg_callback, (SSL *, message_callback *)) \
    F(long, SSL_ctrl, (SSL *, int, long, void *)) \
    F(BIO_METHOD *, BIO_meth_new, (int, const char *)) \
    F(int, BIO_meth_set_read_ex, (BIO_METHOD *, int (*)(BIO *, char *, size_t, size_t *))) \
    F(int, BIO_meth_set_write_ex, (BIO_METHOD *, int (*)(BIO *, const char *, size_t, size_t *))) \
    F(int, BIO_meth_set_ctrl, (BIO_METHOD *, long (*)(BIO *, int, long, void *))) \
    F(BIO *, BIO_new, (const BIO_METHOD *)) \
    F(void, BIO_set_data, (BIO *, void *)) \
    F(void *, BIO_get_data, (BIO *)) \
    F(void, BIO_set_init, (BIO *, int)) \
    F(int, BIO_up_ref, (BIO *)) \
    F(int, BIO_free, (BIO *)) \
    F(int, BIO_read_ex, (BIO *, void *, size_t, size_t *)) \
    F(int, BIO_write_ex, (BIO *, const void *, size_t, size_t *)) \
    F(size_t, BIO_ctrl_pending, (BIO *)) \
    F(void, BIO_set_flags, (BIO *, int)) \
    F(void, BIO_clear_flags, (BIO *, int)) \
    F(int, CRYPTO_get_ex_new_index, (int, long, void *, new_callback *, void *, new_callback *)) \
    F(void, ERR_clear_error, (void)) \
    F(unsigned long, ERR_peek_last_error, (void)) \
    F(void, ERR_new, (void)) \
    F(void, ERR_set_error, (int, int, const char *, ...))
#define DECLARE(type, name, arguments) static type (*name) arguments;
OPENSSL(DECLARE)
#undef DECLARE

/* Replace a reference that we hold; `value` is stolen. */
#define SET(place, value) do { PyObject *old = (place); (place) = (value); Py_XDECREF(old); } while (0)

/* -- TLS ------------------------------------------------------------------------------------------------------------------ */

enum {
    ALERT = 21, HANDSHAKE = 22, APPLICATION_DATA = 23, /* content types */
    NEW_SESSION_TICKET = 4, KEY_UPDATE = 24,           /* handshake messages that may come at any time */
    HEADER = 5, MAX_PLAINTEXT = 16384, MAX_BODY = MAX_PLAINTEXT + 256,
    CHUNK = 2 * MAX_PLAINTEXT,                         /* `Outgoing.WRITE_SIZE`: what the timeline counts as one send */
    BATCH = 2,                                         /* chunks of one system call */
    MIN_READ = 17 << 10,                               /* `channel.MIN_READ` */
    FAIR = 32,                                         /* `connection._FAIR` */
    PROBE_INTERVAL = 4,                                /* `channel._PROBE_INTERVAL` */
    STRETCHES = 7,                                     /* see Stretch */
    HEADROOM = 17 << 10,                               /* `_lane.HEADROOM`: for a record that a transport has begun */
    SLICE = 1 << 20,                                   /* `winddown.SLICE`: of one `write`, then others run */
    TAKEN_AT_ONCE = 64 << 10,                          /* bytes of one object of `take` */
    LARGE = 4096,                                      /* bytes from which on the GIL is released */
};

/* -- the lane ------------------------------------------------------------------------------------------------------------- */

/* Application data in one direction, as the timeline counts it. The last of STRETCHES may be of both: by then the
 * timeline has begun its two-way exchange, whatever it had before. */
typedef struct {
    unsigned long long sent, received;
    double from, until;
    unsigned count;
    int sent_last;
} Stretch;

typedef struct {
    Py_buffer view;
    int held;
} Memory;

/* A thread's memory: a memoryview, which keeps it in its place. */
typedef struct {
    PyObject *owner;
    unsigned char *data;
    size_t size;
} Scratch;

typedef enum { IDLE, WAITING, DONE, CANCELLED } State;

typedef struct {
    PyObject_HEAD
    /* for the connection's life */
    PyObject *tls;       /* the SSLObject; the collector may clear it before us, so `ssl` has a reference of its own */
    PyObject *messages;  /* list of what the message filter keeps, or NULL */
    SSL *ssl;
    BIO *memory_in, *memory_out; /* CPython's MemoryBIOs; references of ours */
    int every;           /* whether the filter keeps every handshake message */
    /* between `enter` and `leave` */
    BIO *bio;            /* ours, in both directions; owned by `ssl` */
    int fd, busy, direct;
    Scratch ciphertext, plaintext; /* of the thread, for one call at a time */
    const unsigned char *window;  /* what OpenSSL may read next: the record */
    size_t window_size;
    unsigned char *part, *part_memory; /* received and not decrypted, and the memory where that is, or was before it */
    size_t part_size;
    unsigned char *held, *held_memory; /* decrypted and not read, and the memory where that is, or was before it */
    size_t held_size;
    unsigned char *cipher_out; /* where our BIO puts output while `direct` */
    size_t cipher_out_size, cipher_out_room;
    size_t frame;        /* bytes by which the last record's body was longer than its data; a guess for the next */
    int rest;            /* whether OpenSSL has decrypted more of a record than was read */
    int dry, eager, tells_once, over, ended, eof, error, send_error, noted, operations, waits;
    unsigned long failure; /* OpenSSL's error */
    Stretch stretch[STRETCHES];
    int stretches;
    /* the wait, a future of asyncio's: see there */
    State state;
    char blocking;
    int watched, step_at_once, wants_number; /* the latter: it waits for data in `into` */
    Py_ssize_t wanted;
    Memory into;
    size_t filled;       /* bytes in `into` of which the task has not heard */
    PyObject *loop, *on_readable, *callback, *context;
    PyObject *result;    /* of the wait; the cancellation's message, if it was cancelled */
    /* a transport's methods: see there */
    PyObject *transport_write, *transport_waiting, *transport_closing;
    size_t unwritten; /* of the `write` that is being done */
} Lane;

/* asyncio's; and what can be told when there is no memory: -1, -2, and the results of `send` and `write` */
static PyObject *cancelled_error, *no_bytes, *others_first, *send_failed, *write_failed;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void count(Lane *lane, size_t sent, size_t received, unsigned records, double at)
{
    Stretch *last = lane->stretches ? &lane->stretch[lane->stretches - 1] : NULL;
    if (last == NULL || (lane->stretches < STRETCHES && (sent > 0) != (last->sent > 0))) {
        last = &lane->stretch[lane->stretches++];
        memset(last, 0, sizeof *last);
        last->from = at;
    }
    last->sent += sent;
    last->received += received;
    last->count += records;
    last->until = at;
    last->sent_last = sent > 0;
}

/* -- our BIOs ------------------------------------------------------------------------------------------------------------- */

static BIO_METHOD *method;

static int bio_read(BIO *bio, char *data, size_t size, size_t *got)
{
    Lane *lane = BIO_get_data(bio);
    BIO_clear_flags(bio, RETRY_ANY);
    if (lane->window_size) {
        *got = size < lane->window_size ? size : lane->window_size;
        memcpy(data, lane->window, *got);
        lane->window += *got;
        lane->window_size -= *got;
        return 1;
    }
    if (BIO_read_ex(lane->memory_in, data, size, got)) return 1;
    BIO_set_flags(bio, RETRY_READ);
    return 0;
}

static int bio_write(BIO *bio, const char *data, size_t size, size_t *done)
{
    Lane *lane = BIO_get_data(bio);
    BIO_clear_flags(bio, RETRY_ANY);
    if (!lane->direct) return BIO_write_ex(lane->memory_out, data, size, done);
    if (size > lane->cipher_out_room - lane->cipher_out_size) {
        BIO_set_flags(bio, RETRY_WRITE); /* padding of the system's configuration; Python has room for it */
        return 0;
    }
    memcpy(lane->cipher_out + lane->cipher_out_size, data, size);
    lane->cipher_out_size += size;
    *done = size;
    return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    Lane *lane = BIO_get_data(bio);
    (void)number, (void)pointer;
    switch (command) {
    case FLUSH: return 1;
    case PENDING: return (long)(lane->window_size + BIO_ctrl_pending(lane->memory_in));
    case WPENDING: return (long)BIO_ctrl_pending(lane->memory_out);
    default: return 0;
    }
}

static BIO *make_bio(Lane *lane)
{
    BIO *bio = BIO_new(method);
    if (bio != NULL) {
        BIO_set_data(bio, lane);
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* -- receiving ------------------------------------------------------------------------------------------------------------ */

/* Keep `size` bytes at `data`, which may be the end of `part`, and `more_size` bytes. Return 0 if there is no memory. */
static int keep_both(Lane *lane, unsigned char *data, size_t size, const unsigned char *more, size_t more_size)
{
    int within = lane->part_size && data >= lane->part && data < lane->part + lane->part_size;
    if (size + more_size == 0) {
        free(lane->part_memory);
        lane->part = lane->part_memory = NULL;
    } else if (within && more_size == 0) {
        lane->part = data;
    } else {
        unsigned char *part = allocate(size + more_size);
        if (part == NULL) return 0;
        if (size) memcpy(part, data, size);
        if (more_size) memcpy(part + size, more, more_size);
        free(lane->part_memory);
        lane->part = lane->part_memory = part;
    }
    lane->part_size = size + more_size;
    return 1;
}

static int keep(Lane *lane, unsigned char *data, size_t size)
{
    return keep_both(lane, data, size, NULL, 0);
}

/* There is no memory for what was received: it is lost, and so is all that would follow it. The connection ends by that. */
static void lose(Lane *lane)
{
    lane->over = 1;
    lane->error = ENOMEM;
    lane->rest = 0;
    keep(lane, NULL, 0);
    free(lane->held_memory);
    lane->held = lane->held_memory = NULL;
    lane->held_size = 0;
}

static void keep_or_lose(Lane *lane, unsigned char *data, size_t size)
{
    if (!keep(lane, data, size)) lose(lane);
}

/* Hold plaintext, which precedes what is held, for the next read. */
static void hold(Lane *lane, const void *data, size_t size)
{
    if (size == 0) return;
    unsigned char *memory = allocate(size + lane->held_size);
    if (memory == NULL) {
        lose(lane);
        return;
    }
    memcpy(memory, data, size);
    if (lane->held_size) memcpy(memory + size, lane->held, lane->held_size);
    free(lane->held_memory);
    lane->held = lane->held_memory = memory;
    lane->held_size += size;
}

static void drop_held(Lane *lane, size_t size)
{
    lane->held += size;
    lane->held_size -= size;
    if (lane->held_size) return;
    free(lane->held_memory);
    lane->held = lane->held_memory = NULL;
}

static size_t body_of(const unsigned char *header)
{
    return (size_t)header[3] << 8 | header[4];
}

static int may_be_data(const unsigned char *header)
{
    return header[0] == APPLICATION_DATA && header[1] == 3 && body_of(header) <= MAX_BODY;
}

/* Decrypt records of application data from `data` into `buffer`, as many as fit, up to the first unusual thing, which
 * sets `over`. Return the number of bytes; `used` is how much of `data` OpenSSL was given. */
static size_t decrypt(Lane *lane, const unsigned char *data, size_t size, size_t *used, unsigned char *buffer, size_t room)
{
    size_t total = 0, at = 0, body = 0;
    unsigned records = 0;
    while (total < room && !lane->over) {
        if (!lane->rest) {
            if (size - at < HEADER) break;
            const unsigned char *header = data + at;
            body = body_of(header);
            if (!may_be_data(header)) {
                lane->over = 1;
                break;
            }
            if (size - at < HEADER + body) break;
            lane->window = header;
            lane->window_size = HEADER + body;
            at += HEADER + body;
        }
        size_t got = 0;
        if (SSL_read_ex(lane->ssl, buffer + total, room - total, &got)) {
            total += got;
            records++;
            int begun = lane->rest;
            lane->rest = total == room && SSL_pending(lane->ssl) > 0;
            if (!begun && !lane->rest) lane->frame = body - got;
        } else {
            lane->rest = 0;
            if (SSL_get_error(lane->ssl, 0) != WANT_READ) {
                lane->over = lane->ended = 1;
                lane->failure = ERR_peek_last_error();
            }
            ERR_clear_error();
        }
        if (lane->noted || BIO_ctrl_pending(lane->memory_out)) lane->over = 1; /* a message, and perhaps our answer */
    }
    at -= lane->window_size; /* nothing, unless OpenSSL refused to read */
    lane->window_size = 0;
    *used = at;
    if (total) count(lane, 0, total, records, now());
    return total;
}

/* Return the number of bytes; 0: there are none now, or `over`. */
static size_t receive(Lane *lane, unsigned char *buffer, size_t room)
{
    unsigned char *memory = lane->ciphertext.data;
    size_t total = 0, used = 0;
    if (lane->over || room == 0) return 0;
    if (lane->rest || lane->part_size) {
        total = decrypt(lane, lane->part, lane->part_size, &used, buffer, room);
        if (used) keep_or_lose(lane, lane->part + used, lane->part_size - used);
        if (total || lane->over) return total;
    }
    if (lane->dry && !lane->eager) return 0;
    size_t size = lane->ciphertext.size - lane->part_size;
    size_t wanted = room < MIN_READ ? MIN_READ : room + room / 512 + 64; /* a record's frame is less than a 512th */
    if (wanted > size) wanted = size;
    if (lane->part_size) memcpy(memory, lane->part, lane->part_size);
    ssize_t came = recv(lane->fd, memory + lane->part_size, wanted, 0);
    if (came > 0) {
        size = lane->part_size + (size_t)came;
        lane->dry = (size_t)came < wanted;
        total = decrypt(lane, memory, size, &used, buffer, room);
        keep_or_lose(lane, memory + used, size - used);
        return total;
    }
    lane->dry = 1;
    lane->eager = 0; /* an attempt that finds something is repeated */
    if (came == 0) {
        lane->eof = lane->over = 1;
    } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        lane->error = errno;
        lane->over = 1;
    }
    return 0;
}

static size_t receive_unlocked(Lane *lane, unsigned char *buffer, size_t room)
{
    size_t total;
    lane->busy = 1; /* in either case: while a message is noted, the collector may run any code */
    if (room < LARGE) {
        total = receive(lane, buffer, room);
    } else {
        Py_BEGIN_ALLOW_THREADS
        total = receive(lane, buffer, room);
        Py_END_ALLOW_THREADS
    }
    lane->busy = 0;
    return total;
}

static int usable(Lane *lane)
{
    if (lane->bio != NULL && !lane->busy) return 1;
    PyErr_SetString(PyExc_RuntimeError, lane->busy ? "the lane is used by another thread" : "the lane was left");
    return 0;
}

/* bytes; (bytes,): the same, and leave; None: none now; False: leave; True: let others run first */
static PyObject *read_bytes(Lane *lane, Py_ssize_t limit)
{
    size_t room = lane->held_size ? lane->held_size : lane->plaintext.size;
    if ((size_t)limit < room) room = (size_t)limit;
    if (lane->held_size) {
        PyObject *held = PyBytes_FromStringAndSize((char *)lane->held, (Py_ssize_t)room);
        if (held != NULL) drop_held(lane, room);
        return held;
    }
    size_t total = receive_unlocked(lane, lane->plaintext.data, room);
    if (total) {
        PyObject *data = PyBytes_FromStringAndSize((char *)lane->plaintext.data, (Py_ssize_t)total);
        if (data == NULL) hold(lane, lane->plaintext.data, total);
        if (data == NULL || !lane->over) return data;
        PyObject *last = PyTuple_Pack(1, data);
        if (last == NULL) return PyErr_Clear(), data; /* The next read tells to leave. */
        Py_DECREF(data);
        return last;
    }
    if (lane->over) Py_RETURN_FALSE;
    Py_RETURN_NONE;
}

/* The argument of a read; -1 with an exception */
static Py_ssize_t limit_of(PyObject *argument)
{
    Py_ssize_t limit = PyLong_AsSsize_t(argument);
    if (limit > 0) return limit;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the limit is less than 1");
    return -1;
}

static PyObject *lane_read(Lane *lane, PyObject *argument)
{
    Py_ssize_t limit = limit_of(argument);
    if (limit < 0 || !usable(lane)) return NULL;
    if (++lane->operations >= FAIR) Py_RETURN_TRUE;
    if (lane->tells_once) lane->dry = 0;
    return read_bytes(lane, limit);
}

/* Return the number of bytes; 0: there are none now, or `over`. */
static size_t fill(Lane *lane, unsigned char *buffer, size_t room)
{
    if (lane->held_size == 0) return receive_unlocked(lane, buffer, room);
    size_t total = lane->held_size < room ? lane->held_size : room;
    memcpy(buffer, lane->held, total);
    drop_held(lane, total);
    return total;
}

/* The number of bytes; 0: none now; -1: leave; -2: let others run first; -2 - n: n bytes, and leave. Without memory for
 * the number, the bytes are held. */
static PyObject *number_read(Lane *lane, const void *buffer, size_t total)
{
    Py_ssize_t number = (Py_ssize_t)total;
    if (lane->over) number = total ? -2 - number : -1;
    PyObject *told = PyLong_FromSsize_t(number);
    if (told == NULL) hold(lane, buffer, total);
    return told;
}

static PyObject *read_view(Lane *lane, Py_buffer *view)
{
    if (!usable(lane)) return NULL;
    if (++lane->operations >= FAIR) return Py_NewRef(others_first);
    if (lane->tells_once) lane->dry = 0;
    return number_read(lane, view->buf, fill(lane, view->buf, (size_t)view->len));
}

/* A buffer's owner may run any code as the buffer is taken or released, and leave the lane: here as in all that follows, it
 * is asked after the one whether the lane is usable, and made before the other what is returned. */
static PyObject *lane_read_into(Lane *lane, PyObject *argument)
{
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_WRITABLE)) return NULL;
    PyObject *told = read_view(lane, &view);
    PyBuffer_Release(&view);
    return told;
}

/* -- sending -------------------------------------------------------------------------------------------------------------- */

/* What became of a send. A chunk that the kernel took in part is given back whole, so that its records can be counted. */
typedef struct {
    size_t done;                   /* bytes of plaintext that were encrypted */
    const unsigned char *left;     /* ciphertext of the chunks that the kernel has not taken whole, in `cipher_out` */
    size_t left_size, left_taken;  /* and how much of its first chunk the kernel has taken */
    size_t chunk_ends[BATCH], chunk_plain[BATCH]; /* of the last batch */
    int chunks, first_left;
} Sent;

/* Encrypt the next chunks into `room` bytes at `cipher`, which are enough. */
static void encrypt_batch(Lane *lane, const unsigned char *data, size_t size, Sent *sent, void *cipher, size_t room)
{
    lane->cipher_out = cipher;
    lane->cipher_out_room = room;
    lane->cipher_out_size = 0;
    lane->direct = 1;
    sent->chunks = 0;
    while (sent->chunks < BATCH && sent->done < size) {
        size_t end = sent->done + CHUNK < size ? sent->done + CHUNK : size, begun = sent->done;
        while (sent->done < end) {
            size_t wrote = 0;
            if (!SSL_write_ex(lane->ssl, data + sent->done, end - sent->done, &wrote)) break;
            sent->done += wrote;
        }
        ERR_clear_error();
        if (sent->done > begun) {
            sent->chunk_ends[sent->chunks] = lane->cipher_out_size;
            sent->chunk_plain[sent->chunks++] = sent->done - begun;
        }
        if (sent->done < end) break; /* half of a handshake message must be read first */
    }
    lane->direct = 0;
}

/* Count the chunks of a batch, the `size` bytes at `cipher`, of which `taken` have left; return whether all have. None are
 * counted if a message of OpenSSL's own, a key update for example, came before them: Python has to hear of that first. */
static int count_batch(Lane *lane, Sent *sent, const unsigned char *cipher, size_t size, size_t taken)
{
    double at = now();
    size_t begins = 0;
    int i = 0;
    if (lane->noted) lane->over = 1;
    for (; !lane->noted && i < sent->chunks && sent->chunk_ends[i] <= taken; begins = sent->chunk_ends[i++])
        count(lane, sent->chunk_plain[i], 0, 1, at);
    sent->first_left = i;
    sent->left = cipher + begins;
    sent->left_size = size - begins;
    sent->left_taken = taken - begins;
    if (taken == size && i == sent->chunks) sent->left_size = sent->left_taken = 0; /* whatever OpenSSL added of its own */
    return taken == size && sent->chunks > 0 && !lane->noted;
}

/* [(ciphertext, plaintext), …]; without plaintext, it is OpenSSL's own, which must not be lost either */
static PyObject *chunks_left(const Sent *sent)
{
    PyObject *chunks = PyList_New(0);
    size_t base = sent->first_left ? sent->chunk_ends[sent->first_left - 1] : 0, begins = 0;
    for (int i = sent->first_left; chunks != NULL && i < sent->chunks; i++) {
        size_t ends = sent->chunk_ends[i] - base;
        PyObject *chunk = Py_BuildValue("(y#n)", sent->left + begins, (Py_ssize_t)(ends - begins), (Py_ssize_t)sent->chunk_plain[i]);
        if (chunk == NULL || PyList_Append(chunks, chunk)) Py_CLEAR(chunks);
        Py_XDECREF(chunk);
        begins = ends;
    }
    if (chunks != NULL && begins < sent->left_size) {
        PyObject *own = Py_BuildValue("(y#i)", sent->left + begins, (Py_ssize_t)(sent->left_size - begins), 0);
        if (own == NULL || PyList_Append(chunks, own)) Py_CLEAR(chunks);
        Py_XDECREF(own);
    }
    return chunks;
}

/* Encrypt the next chunks, and give them to the kernel; return whether it took all. */
static int send_batch(Lane *lane, const unsigned char *data, size_t size, Sent *sent)
{
    encrypt_batch(lane, data, size, sent, lane->plaintext.data, lane->plaintext.size);
    size_t taken = 0;
    while (taken < lane->cipher_out_size) {
        ssize_t count = send(lane->fd, lane->cipher_out + taken, lane->cipher_out_size - taken, MSG_NOSIGNAL);
        if (count < 0) {
            if (errno == EINTR) continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK) lane->send_error = errno;
            break;
        }
        taken += (size_t)count;
    }
    return count_batch(lane, sent, lane->cipher_out, lane->cipher_out_size, taken);
}

/* Forget the exception that is set, if it is one of three; otherwise return 0. */
static int forgive(PyObject *first, PyObject *second, PyObject *third)
{
    int known = PyErr_ExceptionMatches(first) || PyErr_ExceptionMatches(second) || PyErr_ExceptionMatches(third);
    if (known) PyErr_Clear();
    return known;
}

/* Let Python say what is wrong with an argument, as it does without a lane; other exceptions are raised. */
static PyObject *refuse_buffer(void)
{
    return forgive(PyExc_TypeError, PyExc_BufferError, PyExc_ValueError) ? Py_NewRef(Py_False) : NULL;
}

static PyObject *send_view(Lane *lane, Py_buffer *view)
{
    if (!usable(lane)) return NULL;
    if (++lane->operations >= FAIR) Py_RETURN_TRUE;
    if (lane->over || lane->send_error || BIO_ctrl_pending(lane->memory_out)) Py_RETURN_FALSE;
    size_t size = (size_t)view->len;
    Sent sent;
    memset(&sent, 0, sizeof sent);
    PyThreadState *thread = NULL;
    lane->busy = 1;
    if (size > LARGE) thread = PyEval_SaveThread();
    while (sent.done < size && lane->operations < FAIR && send_batch(lane, view->buf, size, &sent)) lane->operations++;
    if (thread != NULL) PyEval_RestoreThread(thread);
    PyObject *told = NULL;
    if (sent.left_size == 0 && sent.done == size) {
        told = Py_NewRef(Py_None);
    } else if (sent.left_size == 0 && sent.done == 0) {
        told = Py_NewRef(Py_False);
    } else {
        PyObject *chunks = chunks_left(&sent);
        if (chunks != NULL)
            told = Py_BuildValue(
                "(nNniN)", (Py_ssize_t)sent.done, chunks, (Py_ssize_t)sent.left_taken, lane->send_error, PyBool_FromLong(lane->noted));
    }
    lane->busy = 0;
    if (told != NULL) return told;
    PyErr_Clear(); /* What was encrypted is lost: nothing may be sent after it. */
    lane->send_error = ENOMEM;
    return Py_NewRef(send_failed);
}

/* None: the kernel has all. False: nothing was done. True: let others run first.
 * (done, [(ciphertext, plaintext), …], taken, errno, noted): so many bytes were encrypted; these chunks wait, or were not
 * counted, and of them the kernel has taken so much; `noted`: leave, since OpenSSL sent a message before them. */
static PyObject *lane_send(Lane *lane, PyObject *argument)
{
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE)) return refuse_buffer();
    PyObject *told = send_view(lane, &view);
    PyBuffer_Release(&view);
    return told;
}

/* -- a transport of asyncio's, which pushes what it received, and buffers what it cannot send ------------------------------ */

/* Put the `size` bytes that the transport has put into the memory behind what was left; return where both begin. */
static unsigned char *join(Lane *lane, size_t *size)
{
    unsigned char *data = lane->ciphertext.data + HEADROOM;
    if (*size && lane->part_size <= HEADROOM) {
        data -= lane->part_size;
        if (lane->part_size) memcpy(data, lane->part, lane->part_size);
        *size += lane->part_size;
        return data;
    }
    if (*size && !keep_both(lane, lane->part, lane->part_size, data, *size)) return NULL;
    *size = lane->part_size;
    return lane->part_size ? lane->part : data;
}

/* `join` the bytes that `argument` counts. Return NULL with an exception. */
static unsigned char *join_arrived(Lane *lane, PyObject *argument, size_t *size)
{
    *size = PyLong_AsSize_t(argument);
    if (PyErr_Occurred()) return NULL;
    if (*size > lane->ciphertext.size - HEADROOM) {
        PyErr_SetString(PyExc_ValueError, "the memory is smaller");
        return NULL;
    }
    unsigned char *data = join(lane, size);
    if (data == NULL) PyErr_NoMemory();
    return data;
}

/* Decrypt what was joined, and keep the rest. Return the number of bytes. */
static size_t decrypt_joined(Lane *lane, unsigned char *data, size_t size, unsigned char *buffer, size_t room)
{
    PyThreadState *thread = NULL;
    size_t used, total;
    lane->busy = 1;
    if (size > LARGE) thread = PyEval_SaveThread();
    total = decrypt(lane, data, size, &used, buffer, room);
    if (thread != NULL) PyEval_RestoreThread(thread);
    lane->busy = 0;
    keep_or_lose(lane, data + used, size - used);
    return total;
}

/* Without memory to tell of the bytes that were decrypted, hold them, and tell to leave: the engine has time for them. */
static PyObject *hold_and_leave(Lane *lane, const void *data, size_t size)
{
    PyErr_Clear();
    lane->over = 1;
    hold(lane, data, size);
    Py_RETURN_FALSE;
}

/* Whether `part` begins with a whole record, or with what cannot become one of data. */
static int has_record(const Lane *lane)
{
    return lane->part_size >= HEADER && (!may_be_data(lane->part) || lane->part_size >= HEADER + body_of(lane->part));
}

/* Guess how many bytes of plaintext are in the whole records of `data`, up to TAKEN_AT_ONCE. */
static size_t guess(Lane *lane, const unsigned char *data, size_t size)
{
    size_t total = 0;
    while (size > HEADER && total < TAKEN_AT_ONCE) {
        size_t body = body_of(data);
        if (size < HEADER + body) break;
        if (body > lane->frame) total += body - lane->frame;
        data += HEADER + body;
        size -= HEADER + body;
    }
    return total;
}

/* take(size): bytes; (bytes,): the same, and there may be more; None: nothing now; False: leave */
static PyObject *lane_take(Lane *lane, PyObject *argument)
{
    size_t size, total;
    unsigned char *data;
    if (!usable(lane) || (data = join_arrived(lane, argument, &size)) == NULL) return NULL;
    /* Much is decrypted into a new object at once, which has the right size if the guess is right. */
    size_t room = size > LARGE && !lane->rest ? guess(lane, data, size) : 0;
    PyObject *object = room > LARGE ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room) : NULL;
    PyErr_Clear();
    if (object == NULL) room = TAKEN_AT_ONCE;
    unsigned char *buffer = object == NULL ? lane->plaintext.data : (unsigned char *)PyBytes_AsString(object);
    total = decrypt_joined(lane, data, size, buffer, room);
    if (total == 0) {
        Py_XDECREF(object);
        return Py_NewRef(lane->over ? Py_False : Py_None);
    }
    PyObject *whole = object != NULL && total == room ? Py_NewRef(object) : PyBytes_FromStringAndSize((char *)buffer, (Py_ssize_t)total);
    int more = lane->over || lane->rest || has_record(lane);
    PyObject *told = whole == NULL || !more ? Py_XNewRef(whole) : PyTuple_Pack(1, whole);
    if (told == NULL) told = hold_and_leave(lane, buffer, total);
    Py_XDECREF(whole);
    Py_XDECREF(object);
    return told;
}

static PyObject *take_view(Lane *lane, PyObject *argument, Py_buffer *view)
{
    size_t size;
    unsigned char *data;
    if (!usable(lane) || (data = join_arrived(lane, argument, &size)) == NULL) return NULL;
    size_t total = decrypt_joined(lane, data, size, view->buf, (size_t)view->len);
    if (total == 0) return Py_NewRef(lane->over ? Py_False : Py_None);
    int more = lane->over || lane->rest || has_record(lane);
    PyObject *told = PyLong_FromSsize_t(more ? -(Py_ssize_t)total : (Py_ssize_t)total);
    return told != NULL ? told : hold_and_leave(lane, view->buf, total);
}

/* take_into(size, buffer): the number of bytes; less than 0: so many, and there may be more; None; False */
static PyObject *lane_take_into(Lane *lane, PyObject *arguments)
{
    PyObject *argument, *buffer;
    Py_buffer view;
    if (!PyArg_ParseTuple(arguments, "OO", &argument, &buffer)) return NULL;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)) return NULL;
    PyObject *told = take_view(lane, argument, &view);
    PyBuffer_Release(&view);
    return told;
}

/* Called within a `write`, by what the transport runs: how many bytes of plaintext it has not passed on yet. */
static PyObject *lane_unwritten(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(lane->unwritten);
}

/* 1 or 0; -1 with an exception */
static int call_for_truth(PyObject *method)
{
    PyObject *result = PyObject_CallNoArgs(method);
    int truth = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return truth;
}

/* Write `size` bytes, `cipher`, to the transport, and tell how much of it has left, and how much waits there: neither, if
 * it is closing. Return 0 with an exception. */
static int give_to_transport(Lane *lane, PyObject *cipher, size_t size, size_t *left, size_t *waits)
{
    PyObject *write = Py_NewRef(lane->transport_write), *waiting = Py_NewRef(lane->transport_waiting);
    PyObject *closing = Py_NewRef(lane->transport_closing), *result = NULL;
    int ends = call_for_truth(closing);
    if (ends == 0) {
        result = PyObject_CallFunctionObjArgs(write, cipher, NULL);
        ends = result == NULL ? -1 : call_for_truth(closing); /* If it is, it is unknown how much it took. */
    }
    if (ends == 0) {
        SET(result, PyObject_CallNoArgs(waiting));
        size_t queued = result == NULL ? 0 : PyLong_AsSize_t(result);
        if (PyErr_Occurred()) ends = -1;
        else *waits = queued < size ? queued : size, *left = size - *waits;
    }
    Py_XDECREF(result);
    Py_DECREF(write);
    Py_DECREF(waiting);
    Py_DECREF(closing);
    return ends >= 0;
}

/* Encrypt the next chunks, and give them to the transport; return whether all have left. `memory` becomes the object with
 * what was given, of which `waits` bytes wait in the transport. */
static int write_batch(Lane *lane, const unsigned char *data, size_t size, Sent *sent, PyObject **memory, size_t *waits)
{
    size_t next = size - sent->done < BATCH * CHUNK ? size - sent->done : BATCH * CHUNK, left = 0;
    int large = next > LARGE; /* Then it is not copied; with the smallest records, of 512 bytes, it grows by a sixth. */
    SET(*memory, large ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(next + next / 4 + LARGE)) : NULL);
    if (large && *memory == NULL) return 0;
    lane->busy = 1; /* until the transport has it: nothing may be sent before it, by what the collector runs for example */
    if (large) {
        PyThreadState *thread = PyEval_SaveThread();
        encrypt_batch(lane, data, size, sent, PyBytes_AsString(*memory), (size_t)PyBytes_Size(*memory));
        PyEval_RestoreThread(thread);
    } else {
        encrypt_batch(lane, data, size, sent, lane->plaintext.data, lane->plaintext.size);
        *memory = PyBytes_FromStringAndSize((char *)lane->cipher_out, (Py_ssize_t)lane->cipher_out_size);
        if (*memory == NULL) { /* What was encrypted is lost, and counts as not sent; the error ends the connection. */
            while (sent->chunks) sent->done -= sent->chunk_plain[--sent->chunks];
            sent->first_left = 0;
            lane->busy = 0;
            return 0;
        }
    }
    size_t cipher_size = lane->cipher_out_size;
    PyObject *view = large ? PyMemoryView_FromObject(*memory) : Py_NewRef(*memory);
    if (large && view != NULL) SET(view, PySequence_GetSlice(view, 0, (Py_ssize_t)cipher_size));
    lane->busy = 0;
    if (cipher_size && view != NULL) give_to_transport(lane, view, cipher_size, &left, waits);
    Py_XDECREF(view);
    lane->unwritten = size - sent->done;
    return count_batch(lane, sent, (unsigned char *)PyBytes_AsString(*memory), cipher_size, left);
}

static PyObject *write_view(Lane *lane, Py_buffer *view)
{
    if (!usable(lane)) return NULL;
    if (lane->over || lane->transport_write == NULL || BIO_ctrl_pending(lane->memory_out)) Py_RETURN_FALSE;
    size_t size = (size_t)view->len, waits = 0;
    PyObject *memory = NULL, *kind = NULL, *error = NULL, *traceback = NULL, *told = NULL;
    Sent sent;
    memset(&sent, 0, sizeof sent);
    lane->unwritten = size;
    while (sent.done < size && sent.done < SLICE && write_batch(lane, view->buf, size, &sent, &memory, &waits) && lane->bio != NULL)
        ;
    lane->unwritten = 0;
    int noted = lane->noted;
    PyErr_Fetch(&kind, &error, &traceback);
    if (kind == NULL && sent.left_size == 0 && sent.done == size) {
        told = Py_NewRef(Py_None);
    } else if (kind == NULL && sent.left_size == 0 && sent.done == 0) {
        told = Py_NewRef(Py_False);
    } else {
        PyErr_NormalizeException(&kind, &error, &traceback);
        if (traceback != NULL) PyException_SetTraceback(error, traceback);
        PyObject *chunks = chunks_left(&sent);
        if (chunks != NULL)
            told = Py_BuildValue(
                "(nNnnON)", (Py_ssize_t)sent.done, chunks, (Py_ssize_t)sent.left_taken, (Py_ssize_t)waits,
                error == NULL ? Py_None : error, PyBool_FromLong(noted));
        if (told == NULL) PyErr_Clear(), told = Py_NewRef(write_failed);
    }
    Py_XDECREF(memory);
    Py_XDECREF(kind);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return told;
}

/* None: all has left. False: nothing was done.
 * (done, [(ciphertext, plaintext), …], left, waits, error, noted): so many bytes were encrypted; these chunks were given to
 * the transport, and have not left it whole, or were not counted; of them so much has left, and waits there; it raised the
 * error; `noted`: leave, since OpenSSL sent a message before them. */
static PyObject *lane_write(Lane *lane, PyObject *argument)
{
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE)) return refuse_buffer();
    PyObject *told = write_view(lane, &view);
    PyBuffer_Release(&view);
    return told;
}

/* -- waiting: the lane is its own future of asyncio, for one task at a time ------------------------------------------------ */

static void release(Memory *memory)
{
    if (!memory->held) return;
    Memory released = *memory; /* Its owner may run any code, and use this one again. */
    memory->held = 0;
    PyBuffer_Release(&released.view);
}

/* Have the task's next step called by `loop`, with the other references of the wait. */
static PyObject *call_soon(Lane *lane, PyObject *loop, PyObject *callback, PyObject *context)
{
    PyObject *soon = NULL, *arguments = NULL, *named = NULL, *done = NULL;
    if (loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the lane has no loop");
    } else if ((soon = PyObject_GetAttrString(loop, "call_soon")) != NULL
               && (arguments = PyTuple_Pack(2, callback, (PyObject *)lane)) != NULL
               && (named = Py_BuildValue("{sO}", "context", context)) != NULL) {
        done = PyObject_Call(soon, arguments, named);
    }
    Py_XDECREF(soon);
    Py_XDECREF(arguments);
    Py_XDECREF(named);
    return done;
}

/* Wake the task; within the loop's callback at once, otherwise soon. */
static PyObject *finish(Lane *lane, PyObject *result, State state, int at_once)
{
    PyObject *callback = lane->callback, *context = lane->context, *done = NULL;
    lane->callback = lane->context = NULL;
    lane->state = state;
    SET(lane->result, result);
    if (callback == NULL) Py_RETURN_NONE;
    PyObject *run = at_once && lane->step_at_once ? PyObject_GetAttrString(context, "run") : NULL;
    if (run != NULL) {
        done = PyObject_CallFunctionObjArgs(run, callback, (PyObject *)lane, NULL);
        Py_DECREF(run);
    } else {
        PyErr_Clear();
        PyObject *loop = lane->loop == NULL ? NULL : Py_NewRef(lane->loop);
        done = call_soon(lane, loop, callback, context);
        Py_XDECREF(loop);
    }
    Py_DECREF(callback);
    Py_DECREF(context);
    return done;
}

static PyObject *watch(Lane *lane)
{
    return PyObject_CallMethod(lane->loop, "add_reader", "iO", lane->fd, lane->on_readable);
}

/* The result of a wait that got nothing, and is over all the same: the task looks again, after others. */
static PyObject *look_again(const Lane *lane)
{
    return Py_NewRef(lane->wants_number ? others_first : Py_True);
}

/* Return the lane, to be awaited; `into` is held already. */
static PyObject *begin_wait(Lane *lane)
{
    lane->filled = 0;
    Py_CLEAR(lane->result);
    lane->state = WAITING;
    lane->operations = 0;
    lane->eager = !lane->tells_once && ++lane->waits % PROBE_INTERVAL == 0;
    if (lane->held_size) {
        lane->state = DONE;
        lane->result = look_again(lane);
    } else if (!lane->watched) {
        lane->watched = 1;
        PyObject *done = watch(lane);
        Py_XDECREF(done);
        if (done == NULL) {
            lane->watched = 0;
            lane->state = IDLE;
            /* The descriptor was closed elsewhere: without the lane, the next read reports that. */
            if (!forgive(PyExc_OSError, PyExc_ValueError, PyExc_ValueError)) return NULL;
            lane->state = DONE;
            lane->result = Py_NewRef(lane->wants_number ? no_bytes : Py_False);
        }
    }
    return Py_NewRef((PyObject *)lane);
}

static int can_wait(Lane *lane)
{
    if (!usable(lane)) return 0;
    if (lane->state == IDLE && lane->loop != NULL) return 1;
    PyErr_SetString(PyExc_RuntimeError, "a task waits already, or the loop has no readers");
    return 0;
}

static PyObject *lane_wait(Lane *lane, PyObject *argument)
{
    Py_ssize_t wanted = limit_of(argument);
    if (wanted < 0 || !can_wait(lane)) return NULL;
    lane->wanted = wanted;
    lane->wants_number = 0;
    return begin_wait(lane);
}

static PyObject *lane_wait_into(Lane *lane, PyObject *argument)
{
    Memory into = {.held = 1};
    if (PyObject_GetBuffer(argument, &into.view, PyBUF_WRITABLE)) return NULL;
    if (into.view.len == 0) PyErr_SetString(PyExc_ValueError, "the buffer is empty");
    if (into.view.len == 0 || !can_wait(lane)) {
        release(&into);
        return NULL;
    }
    lane->into = into;
    lane->wants_number = 1;
    PyObject *future = begin_wait(lane);
    if (future == NULL) release(&lane->into);
    return future;
}

/* Hold the data of a wait's result, of which no task will hear. */
static void take_back(Lane *lane, PyObject *result)
{
    if (PyTuple_Check(result)) result = PyTuple_GetItem(result, 0);
    if (PyBytes_Check(result)) hold(lane, PyBytes_AsString(result), (size_t)PyBytes_Size(result));
}

/* Receive for the task that waits; NULL: nothing came, or another thread has ended the wait meanwhile, and it is held. */
static PyObject *receive_for_task(Lane *lane)
{
    PyObject *result;
    if (lane->into.held) {
        Memory into = lane->into; /* not to be released by that other thread */
        lane->into.held = 0;
        size_t total = fill(lane, into.view.buf, (size_t)into.view.len);
        if (lane->state != WAITING) {
            hold(lane, into.view.buf, total);
            release(&into);
            return NULL;
        }
        lane->into = into;
        if (total == 0 && !lane->over) return NULL;
        result = number_read(lane, into.view.buf, total);
        if (result != NULL) lane->filled = total;
    } else {
        result = read_bytes(lane, lane->wanted);
        if (result != NULL && (result == Py_None || lane->state != WAITING)) {
            take_back(lane, result);
            Py_DECREF(result);
            return NULL;
        }
    }
    if (result == NULL) PyErr_Clear(), result = look_again(lane); /* There was no memory: what came is held. */
    return result;
}

static PyObject *lane_on_readable(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    if (lane->loop == NULL) Py_RETURN_NONE; /* It was left. */
    if (lane->state != WAITING) {
        lane->watched = lane->dry = 0;
        return PyObject_CallMethod(lane->loop, "remove_reader", "i", lane->fd);
    }
    /* Another thread uses the lane, which is a mistake of the program. The loop may not call again (uvloop tells an error
     * once), so the task looks again: it gets what there is then, or hears of the mistake. */
    if (lane->busy) return finish(lane, look_again(lane), DONE, 0);
    lane->dry = 0;
    PyObject *result = receive_for_task(lane);
    if (result == NULL) Py_RETURN_NONE;
    return finish(lane, result, DONE, 1);
}

/* The wait ended by an exception: what it got already is kept for the next read. */
static PyObject *lane_forget_wait(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    PyObject *result = lane->result;
    lane->result = NULL;
    if (lane->state == DONE && lane->into.held) hold(lane, lane->into.view.buf, lane->filled);
    else if (lane->state == DONE && result != NULL) take_back(lane, result);
    lane->filled = 0;
    lane->state = IDLE;
    Py_CLEAR(lane->callback);
    Py_CLEAR(lane->context);
    release(&lane->into);
    Py_XDECREF(result);
    Py_RETURN_NONE;
}

static PyObject *lane_next(Lane *lane)
{
    if (lane->state == WAITING) {
        lane->blocking = 1;
        return Py_NewRef((PyObject *)lane);
    }
    if (lane->state != DONE || lane->result == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the lane is awaited without a wait");
        return NULL;
    }
    PyObject *result = lane->result;
    lane->result = NULL;
    lane->state = IDLE;
    lane->filled = 0;
    release(&lane->into);
    PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, result, NULL); /* a tuple would be unpacked */
    Py_DECREF(result);
    if (stop != NULL) PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
    return NULL;
}

static PyObject *lane_await(Lane *lane)
{
    return Py_NewRef((PyObject *)lane);
}

static PyObject *lane_add_done_callback(Lane *lane, PyObject *arguments, PyObject *named)
{
    PyObject *callback, *context = NULL;
    static char *names[] = {"callback", "context", NULL};
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "O|$O", names, &callback, &context)) return NULL;
    if (context == NULL || lane->callback != NULL || lane->state == IDLE) {
        PyErr_SetString(PyExc_RuntimeError, "only a task of asyncio can wait for a lane");
        return NULL;
    }
    if (lane->state != WAITING) return call_soon(lane, lane->loop, callback, context); /* It ended meanwhile. */
    lane->callback = Py_NewRef(callback);
    lane->context = Py_NewRef(context);
    Py_RETURN_NONE;
}

static PyObject *lane_remove_done_callback(Lane *lane, PyObject *Py_UNUSED(callback))
{
    int removed = lane->callback != NULL;
    Py_CLEAR(lane->callback);
    Py_CLEAR(lane->context);
    return PyLong_FromLong(removed);
}

static PyObject *lane_cancel(Lane *lane, PyObject *arguments, PyObject *named)
{
    PyObject *message = Py_None;
    static char *names[] = {"msg", NULL};
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "|O", names, &message)) return NULL;
    if (lane->state != WAITING) Py_RETURN_FALSE;
    release(&lane->into);
    PyObject *done = finish(lane, Py_NewRef(message), CANCELLED, 0);
    if (done == NULL) return NULL;
    Py_DECREF(done);
    Py_RETURN_TRUE;
}

static PyObject *lane_result(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    if (lane->state != CANCELLED) Py_RETURN_NONE;
    PyObject *message = lane->result == NULL || lane->result == Py_None ? NULL : lane->result;
    PyObject *error = PyObject_CallFunctionObjArgs(cancelled_error, message, NULL);
    if (error != NULL) PyErr_SetObject(cancelled_error, error);
    Py_XDECREF(error);
    return NULL;
}

/* What looks at the tasks of a loop, anyio's test kit for example, asks this of what they wait for. */
static PyObject *lane_done(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(lane->state != WAITING);
}

static PyObject *lane_cancelled(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(lane->state == CANCELLED);
}

static PyObject *lane_get_loop(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(lane->loop != NULL ? lane->loop : Py_None);
}

/* -- entering and leaving ------------------------------------------------------------------------------------------------- */

static int use_scratch(Scratch *scratch, PyObject *memory)
{
    Py_buffer view;
    if (!PyMemoryView_Check(memory)) {
        PyErr_SetString(PyExc_TypeError, "a memoryview is needed");
        return 0;
    }
    if (PyObject_GetBuffer(memory, &view, PyBUF_WRITABLE)) return 0;
    scratch->data = view.buf;
    scratch->size = (size_t)view.len;
    PyBuffer_Release(&view);
    SET(scratch->owner, Py_NewRef(memory));
    return 1;
}

static PyObject *lane_enter(Lane *lane, PyObject *arguments)
{
    PyObject *ciphertext, *plaintext;
    int fd, dry;
    char *part = NULL;
    Py_ssize_t part_size = 0;
    if (!PyArg_ParseTuple(arguments, "iOOp|y#", &fd, &ciphertext, &plaintext, &dry, &part, &part_size)) return NULL;
    if (lane->bio != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the lane was entered already");
        return NULL;
    }
    if (lane->ciphertext.owner == NULL && !(use_scratch(&lane->plaintext, plaintext) && use_scratch(&lane->ciphertext, ciphertext))) return NULL;
    if (lane->ciphertext.size < 4 * MAX_PLAINTEXT || lane->plaintext.size < (BATCH + 1) * CHUNK
        || (size_t)part_size > lane->ciphertext.size - MIN_READ) {
        PyErr_SetString(PyExc_ValueError, "the memory is too small");
        Py_CLEAR(lane->ciphertext.owner); /* Another may be large enough. */
        return NULL;
    }
    if (!keep(lane, (unsigned char *)part, (size_t)part_size)) return PyErr_NoMemory();
    BIO *bio = make_bio(lane);
    if (bio == NULL) return PyErr_NoMemory();
    BIO_up_ref(lane->memory_in); /* SSL_set0 takes a reference, and frees what was there */
    BIO_up_ref(lane->memory_out);
    BIO_up_ref(bio);
    SSL_set0_rbio(lane->ssl, bio);
    SSL_set0_wbio(lane->ssl, bio);
    lane->bio = bio;
    lane->fd = fd;
    lane->dry = dry;
    lane->over = lane->ended = lane->eof = lane->error = lane->send_error = lane->eager = lane->rest = lane->noted = 0;
    lane->failure = 0;
    Py_RETURN_NONE;
}

static void restore_bios(Lane *lane)
{
    if (lane->bio == NULL) return;
    lane->bio = NULL;
    SSL_set0_rbio(lane->ssl, lane->memory_in); /* this frees ours; the references are those of `enter` */
    SSL_set0_wbio(lane->ssl, lane->memory_out);
}

/* Write to a transport, by these methods of it, until the lane is left. */
static PyObject *lane_use_transport(Lane *lane, PyObject *arguments)
{
    PyObject *write, *waiting, *closing;
    if (!PyArg_ParseTuple(arguments, "OOO", &write, &waiting, &closing)) return NULL;
    SET(lane->transport_write, Py_NewRef(write));
    SET(lane->transport_waiting, Py_NewRef(waiting));
    SET(lane->transport_closing, Py_NewRef(closing));
    Py_RETURN_NONE;
}

/* Make the lane a future of `loop`: once, and only where the loop can watch descriptors. */
static PyObject *lane_use_loop(Lane *lane, PyObject *arguments)
{
    PyObject *loop;
    int tells_once, at_once, watched;
    if (!PyArg_ParseTuple(arguments, "Oppp", &loop, &tells_once, &at_once, &watched)) return NULL;
    PyObject *on_readable = PyObject_GetAttrString((PyObject *)lane, "on_readable");
    if (on_readable == NULL) return NULL;
    SET(lane->on_readable, on_readable);
    SET(lane->loop, Py_NewRef(loop));
    lane->tells_once = tells_once;
    lane->step_at_once = at_once;
    lane->watched = watched;
    if (!watched) Py_RETURN_NONE;
    PyObject *done = watch(lane); /* in place of Python's reader */
    if (done != NULL) return done;
    lane->watched = 0;
    /* Neither descriptor nor loop, perhaps: the next wait meets that. */
    return forgive(PyExc_OSError, PyExc_ValueError, PyExc_RuntimeError) ? Py_NewRef(Py_None) : NULL;
}

static void clear_transport(Lane *lane)
{
    Py_CLEAR(lane->transport_write); /* likewise: the transport has us, through its protocol */
    Py_CLEAR(lane->transport_waiting);
    Py_CLEAR(lane->transport_closing);
}

/* Wake the task that waits, as the last step of `leave`: this calls the loop, which may run any code. A loop that is closed
 * runs no task any more: there is nobody to wake. Return another error, or NULL. */
static PyObject *wake_at_last(Lane *lane, PyObject *loop)
{
    PyObject *callback = lane->callback, *context = lane->context, *done = NULL;
    PyObject *kind, *error, *traceback;
    if (lane->state == WAITING) {
        PyObject *result = lane->wants_number ? no_bytes : Py_False;
        lane->state = DONE;
        SET(lane->result, Py_NewRef(result));
        release(&lane->into);
    } else {
        callback = NULL;
    }
    if (callback == NULL) return NULL;
    lane->callback = lane->context = NULL;
    done = call_soon(lane, loop, callback, context);
    Py_DECREF(callback);
    Py_DECREF(context);
    Py_XDECREF(done);
    if (done != NULL) return NULL;
    if (PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        PyErr_Clear();
        return NULL;
    }
    PyErr_Fetch(&kind, &error, &traceback);
    PyErr_NormalizeException(&kind, &error, &traceback);
    if (traceback != NULL) PyException_SetTraceback(error, traceback);
    Py_XDECREF(kind);
    Py_XDECREF(traceback);
    return error;
}

/* (received and not decrypted, decrypted and not read, whether OpenSSL has more of it, FIN, errno, dry, whether the loop
 * watches the descriptor for us, whether OpenSSL ended: then the next read, at once, meets that end, or raises the error
 * that is in OpenSSL's queue now; what was raised, but for a closed loop, when the waiting task was woken).
 * An exception: nothing has changed, but a task that waits was told to look again. */
static PyObject *lane_leave(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    if (!usable(lane)) {
        PyObject *kind, *error, *traceback;
        PyErr_Fetch(&kind, &error, &traceback);
        PyObject *woken = lane->state == WAITING ? finish(lane, look_again(lane), DONE, 0) : NULL; /* It must not wait for ever. */
        Py_XDECREF(woken);
        PyErr_Restore(kind, error, traceback);
        return NULL;
    }
    lane->busy = 1; /* The collector may run any code while objects are made. */
    PyObject *state = Py_BuildValue(
        "(y#y#NNiNNNO)", lane->part == NULL ? "" : (char *)lane->part, (Py_ssize_t)lane->part_size,
        lane->held == NULL ? "" : (char *)lane->held, (Py_ssize_t)lane->held_size, PyBool_FromLong(lane->rest),
        PyBool_FromLong(lane->eof), lane->error, PyBool_FromLong(lane->dry), PyBool_FromLong(lane->watched),
        PyBool_FromLong(lane->ended), Py_None);
    lane->busy = 0;
    if (state == NULL) return NULL;
    restore_bios(lane);
    drop_held(lane, lane->held_size);
    keep(lane, NULL, 0);
    lane->watched = lane->rest = 0;
    PyObject *loop = lane->loop; /* a cycle: the loop's callback is a method of ours */
    lane->loop = NULL;
    Py_CLEAR(lane->on_readable);
    clear_transport(lane);
    PyObject *raised = wake_at_last(lane, loop);
    Py_XDECREF(loop);
    if (raised != NULL) PyTuple_SetItem(state, 8, raised);
    if (lane->failure) {
        ERR_new();
        ERR_set_error((int)(lane->failure >> 23 & 0xFF), (int)(lane->failure & 0x7FFFFF), NULL);
    }
    return state;
}

/* [(sent, received, count, seconds since the first, and since the last, whether the last were sent), …] since the last call */
static PyObject *lane_take_counts(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    PyObject *counts = PyList_New(0);
    double at = now();
    for (int i = 0; counts != NULL && i < lane->stretches; i++) {
        Stretch *each = &lane->stretch[i];
        PyObject *one = Py_BuildValue("(KKIddN)", each->sent, each->received, each->count, at - each->from, at - each->until, PyBool_FromLong(each->sent_last));
        if (one == NULL || PyList_Append(counts, one)) Py_CLEAR(counts);
        Py_XDECREF(one);
    }
    if (counts != NULL) lane->stretches = 0;
    return counts;
}

static PyObject *lane_rested(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    lane->operations = 0;
    Py_RETURN_NONE;
}

/* For a loop whose tasks do not wait for the lane itself: there is something to receive. The next read is tried without a
 * wait, now and then. */
static PyObject *lane_arrived(Lane *lane, PyObject *Py_UNUSED(ignored))
{
    lane->dry = 0;
    lane->operations = 0;
    lane->eager = ++lane->waits % PROBE_INTERVAL == 0;
    Py_RETURN_NONE;
}

/* -- messages ------------------------------------------------------------------------------------------------------------- */

/* Keep alerts, and handshake messages that the timeline keeps: Python is not called for anything else. */
static void on_message(int outgoing, int version, int type, const void *data, size_t size, SSL *ssl, void *argument)
{
    Lane *lane = argument;
    const unsigned char *bytes = data;
    (void)version, (void)ssl;
    if (type == HANDSHAKE) {
        if (!lane->every && (size == 0 || (bytes[0] != NEW_SESSION_TICKET && bytes[0] != KEY_UPDATE))) return;
    } else if (type != ALERT) {
        return;
    }
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *kind, *value, *traceback;
    PyErr_Fetch(&kind, &value, &traceback);
    lane->noted = 1;
    PyObject *message = Py_BuildValue("(Niy#)", PyBool_FromLong(outgoing), type, (const char *)data, (Py_ssize_t)size);
    if (message == NULL || PyList_Append(lane->messages, message)) PyErr_WriteUnraisable(lane->messages);
    Py_XDECREF(message);
    PyErr_Restore(kind, value, traceback);
    PyGILState_Release(state);
}

static PyObject *lane_report(Lane *lane, PyObject *messages)
{
    if (!PyList_Check(messages)) {
        PyErr_SetString(PyExc_TypeError, "a list is needed");
        return NULL;
    }
    SET(lane->messages, Py_NewRef(messages));
    SSL_set_msg_callback(lane->ssl, on_message);
    SSL_ctrl(lane->ssl, CTRL_SET_MSG_CALLBACK_ARG, 0, lane);
    Py_RETURN_NONE;
}

static PyObject *lane_report_every(Lane *lane, PyObject *every)
{
    int value = PyObject_IsTrue(every);
    if (value < 0) return NULL;
    lane->every = value;
    Py_RETURN_NONE;
}

/* -- the type ------------------------------------------------------------------------------------------------------------- */

static int lane_traverse(Lane *lane, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)lane));
    Py_VISIT(lane->tls);
    Py_VISIT(lane->messages);
    Py_VISIT(lane->loop);
    Py_VISIT(lane->on_readable);
    Py_VISIT(lane->callback);
    Py_VISIT(lane->context);
    Py_VISIT(lane->result);
    Py_VISIT(lane->transport_write);
    Py_VISIT(lane->transport_waiting);
    Py_VISIT(lane->transport_closing);
    return 0;
}

static int lane_clear(Lane *lane)
{
    Py_CLEAR(lane->loop);
    Py_CLEAR(lane->on_readable);
    Py_CLEAR(lane->callback);
    Py_CLEAR(lane->context);
    Py_CLEAR(lane->result);
    clear_transport(lane);
    return 0;
}

static void lane_dealloc(Lane *lane)
{
    PyTypeObject *type = Py_TYPE((PyObject *)lane);
    PyObject_GC_UnTrack(lane);
    restore_bios(lane);
    if (lane->messages != NULL) SSL_set_msg_callback(lane->ssl, NULL);
    if (lane->memory_in != NULL) BIO_free(lane->memory_in);
    if (lane->memory_out != NULL) BIO_free(lane->memory_out);
    Py_CLEAR(lane->ciphertext.owner);
    Py_CLEAR(lane->plaintext.owner);
    release(&lane->into);
    free(lane->part_memory);
    lane_clear(lane);
    free(lane->held_memory);
    Py_CLEAR(lane->messages);
    Py_CLEAR(lane->tls);
    SSL_free(lane->ssl);
    PyObject_GC_Del(lane);
    Py_DECREF(type);
}

static PyObject *get_blocking(Lane *lane, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(lane->blocking);
}

static int set_blocking(Lane *lane, PyObject *value, void *Py_UNUSED(closure))
{
    int blocking = value == NULL ? 0 : PyObject_IsTrue(value);
    if (blocking < 0) return -1;
    lane->blocking = (char)blocking;
    return 0;
}

static PyMethodDef lane_methods[] = {
    {"enter", (PyCFunction)lane_enter, METH_VARARGS, NULL},
    {"use_loop", (PyCFunction)lane_use_loop, METH_VARARGS, NULL},
    {"leave", (PyCFunction)lane_leave, METH_NOARGS, NULL},
    {"read", (PyCFunction)lane_read, METH_O, NULL},
    {"read_into", (PyCFunction)lane_read_into, METH_O, NULL},
    {"send", (PyCFunction)lane_send, METH_O, NULL},
    {"use_transport", (PyCFunction)lane_use_transport, METH_VARARGS, NULL},
    {"take", (PyCFunction)lane_take, METH_O, NULL},
    {"take_into", (PyCFunction)lane_take_into, METH_VARARGS, NULL},
    {"write", (PyCFunction)lane_write, METH_O, NULL},
    {"unwritten", (PyCFunction)lane_unwritten, METH_NOARGS, NULL},
    {"wait", (PyCFunction)lane_wait, METH_O, NULL},
    {"wait_into", (PyCFunction)lane_wait_into, METH_O, NULL},
    {"forget_wait", (PyCFunction)lane_forget_wait, METH_NOARGS, NULL},
    {"rested", (PyCFunction)lane_rested, METH_NOARGS, NULL},
    {"arrived", (PyCFunction)lane_arrived, METH_NOARGS, NULL},
    {"take_counts", (PyCFunction)lane_take_counts, METH_NOARGS, NULL},
    {"report", (PyCFunction)lane_report, METH_O, NULL},
    {"report_every", (PyCFunction)lane_report_every, METH_O, NULL},
    {"on_readable", (PyCFunction)lane_on_readable, METH_NOARGS, NULL},
    {"add_done_callback", (PyCFunction)(void (*)(void))lane_add_done_callback, METH_VARARGS | METH_KEYWORDS, NULL},
    {"remove_done_callback", (PyCFunction)lane_remove_done_callback, METH_O, NULL},
    {"cancel", (PyCFunction)(void (*)(void))lane_cancel, METH_VARARGS | METH_KEYWORDS, NULL},
    {"result", (PyCFunction)lane_result, METH_NOARGS, NULL},
    {"done", (PyCFunction)lane_done, METH_NOARGS, NULL},
    {"cancelled", (PyCFunction)lane_cancelled, METH_NOARGS, NULL},
    {"get_loop", (PyCFunction)lane_get_loop, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef lane_attributes[] = {
    {"_asyncio_future_blocking", (getter)get_blocking, (setter)set_blocking, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot lane_slots[] = {
    {Py_tp_dealloc, lane_dealloc},
    {Py_tp_traverse, lane_traverse},
    {Py_tp_clear, lane_clear},
    {Py_tp_methods, lane_methods},
    {Py_tp_getset, lane_attributes},
    {Py_am_await, lane_await},
    {Py_tp_iter, lane_await},
    {Py_tp_iternext, lane_next},
    {Py_tp_doc, "Application data of one open TLS connection."},
    {0, NULL},
};

static PyType_Spec lane_spec = {
    .name = "bowout._lane._native.Lane",
    .basicsize = sizeof(Lane),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = lane_slots,
};

/* -- the module ----------------------------------------------------------------------------------------------------------- */

static PyTypeObject *lane_type;
static _Thread_local int capturing, captures;
static _Thread_local SSL *captured;

static void on_new_ssl(void *ssl, void *ptr, CRYPTO_EX_DATA *data, int index, long number, void *pointer)
{
    (void)ptr, (void)data, (void)index, (void)number, (void)pointer;
    if (capturing) {
        captured = ssl;
        captures++;
    }
}

static void on_freed_ssl(void *ssl, void *ptr, CRYPTO_EX_DATA *data, int index, long number, void *pointer)
{
    (void)ptr, (void)data, (void)index, (void)number, (void)pointer;
    if (captured == ssl) captured = NULL;
}

/* Tell whether `ssl` reads the MemoryBIO `incoming`: then it is the SSL of the SSLObject, in the OpenSSL of _ssl. */
static int reads_from(SSL *ssl, PyObject *incoming)
{
    BIO *bio = SSL_get_rbio(ssl);
    if (bio == NULL || SSL_get_wbio(ssl) == NULL || BIO_ctrl_pending(bio) != 0) return 0;
    PyObject *wrote = PyObject_CallMethod(incoming, "write", "y", "?");
    if (wrote == NULL) return -1;
    Py_DECREF(wrote);
    int same = BIO_ctrl_pending(bio) == 1;
    PyObject *read = PyObject_CallMethod(incoming, "read", NULL);
    if (read == NULL) return -1;
    Py_DECREF(read);
    return same && BIO_ctrl_pending(bio) == 0;
}

/* open(wrap_bio, incoming) -> (SSLObject, Lane or None): call `wrap_bio`, which makes an SSLObject over `incoming`. */
static PyObject *module_open(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *wrap, *incoming;
    if (!PyArg_ParseTuple(arguments, "OO", &wrap, &incoming)) return NULL;
    capturing = 1;
    captures = 0;
    PyObject *tls = PyObject_CallObject(wrap, NULL);
    capturing = 0;
    SSL *ssl = captured;
    captured = NULL;
    if (tls == NULL) return NULL;
    int same = 0;
    if (captures == 1 && ssl != NULL) {
        SSL_up_ref(ssl); /* `incoming` may be anything, and its methods may drop `ssl`. */
        same = reads_from(ssl, incoming);
    } else {
        ssl = NULL;
    }
    Lane *lane = same > 0 ? PyObject_GC_New(Lane, lane_type) : NULL;
    if (lane == NULL) {
        if (ssl != NULL) SSL_free(ssl);
        if (PyErr_Occurred()) return Py_DECREF(tls), NULL;
        return Py_BuildValue("(NO)", tls, Py_None);
    }
    memset((char *)lane + sizeof(PyObject), 0, sizeof *lane - sizeof(PyObject));
    lane->tls = Py_NewRef(tls);
    lane->ssl = ssl;
    lane->memory_in = SSL_get_rbio(ssl);
    lane->memory_out = SSL_get_wbio(ssl);
    BIO_up_ref(lane->memory_in);
    BIO_up_ref(lane->memory_out);
    lane->fd = -1;
    PyObject_GC_Track((PyObject *)lane);
    return Py_BuildValue("(NN)", tls, lane);
}

/* Look up OpenSSL's functions where CPython's _ssl has them from. Return 0 and set ImportError if one is missing. */
static int find_openssl(void)
{
    PyObject *module = PyImport_ImportModule("_ssl");
    if (module == NULL) return 0;
    PyObject *file = PyObject_GetAttrString(module, "__file__"); /* none, if it is a part of the interpreter */
    Py_DECREF(module);
    PyErr_Clear();
    PyObject *path = file == NULL ? NULL : PyUnicode_EncodeFSDefault(file);
    Py_XDECREF(file);
    PyErr_Clear();
    void *library = dlopen(path == NULL ? NULL : PyBytes_AsString(path), RTLD_LAZY);
    Py_XDECREF(path);
    if (library == NULL) {
        PyErr_Format(PyExc_ImportError, "_ssl cannot be opened: %s", dlerror());
        return 0;
    }
#define FIND(type, name, arguments) \
    *(void **)&name = dlsym(library, #name); \
    if (name == NULL) { \
        PyErr_SetString(PyExc_ImportError, "the OpenSSL of _ssl does not show " #name); \
        return 0; \
    }
    OPENSSL(FIND)
#undef FIND
    return 1;
}

static PyMethodDef module_methods[] = {
    {"open", module_open, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "The lane in C.", -1, module_methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void)
{
    if (lane_type == NULL) {
        if (!find_openssl()) return NULL;
        method = BIO_meth_new(SOURCE_SINK | 100, "bowout lane");
        if (method == NULL || CRYPTO_get_ex_new_index(EX_INDEX_SSL, 0, NULL, on_new_ssl, NULL, on_freed_ssl) < 0) return PyErr_NoMemory();
        BIO_meth_set_read_ex(method, bio_read);
        BIO_meth_set_write_ex(method, bio_write);
        BIO_meth_set_ctrl(method, bio_ctrl);
        PyObject *asyncio = PyImport_ImportModule("asyncio.exceptions");
        if (asyncio == NULL) return NULL;
        cancelled_error = PyObject_GetAttrString(asyncio, "CancelledError");
        Py_DECREF(asyncio);
        no_bytes = PyLong_FromLong(-1);
        others_first = PyLong_FromLong(-2);
        send_failed = Py_BuildValue("(i[]iiO)", 0, 0, ENOMEM, Py_False);
        write_failed = Py_BuildValue("(i[]iiOO)", 0, 0, 0, PyExc_MemoryError, Py_False);
        if (!(cancelled_error && no_bytes && others_first && send_failed && write_failed)) return NULL;
        lane_type = (PyTypeObject *)PyType_FromSpec(&lane_spec);
        if (lane_type == NULL) return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL || PyModule_AddIntConstant(module, "HEADROOM", HEADROOM) || PyModule_AddIntConstant(module, "SLICE", SLICE)) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
