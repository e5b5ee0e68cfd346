// Boost.Asio's ssl::stream, with C++20 coroutines on one io_context. It measures itself.
//
//     asio WORK PORT CA.pem A B
//
// WORK, A and B are those of worker.py, and so is the line of JSON on stdout; peer.c says what is spoken.

#include <utility> // awaitable.hpp of Boost 1.74 needs it and does not say so

#include <algorithm>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <vector>

namespace asio = boost::asio;
namespace ssl = asio::ssl;
using asio::awaitable;
using asio::use_awaitable;
using Stream = ssl::stream<asio::ip::tcp::socket>;
using Connection = std::unique_ptr<Stream>;

constexpr std::size_t chunk_size = 1 << 16, read_size = 1 << 18, ping = 64;
constexpr std::uint64_t warm_up = 4 << 20, burst = 10 << 20;
constexpr int warm_rounds = 200, warm_handshakes = 10, warm_connections = 8;

static char buffer[read_size];
static unsigned short port;

// -- measuring -------------------------------------------------------------------------------------------------------

static double seconds(clockid_t clock)
{
    timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

struct Reading {
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), user, system;

    Reading()
    {
        rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        user = usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6;
        system = usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6;
    }

    void report(const std::string &more = "") const
    {
        Reading to;
        std::printf("{\"wall\": %.6f, \"cpu\": %.6f, \"user\": %.6f, \"system\": %.6f%s}\n", to.wall - wall,
                    to.cpu - cpu, to.user - user, to.system - system, more.c_str());
    }
};

static double resident_kib()
{
    long pages = 0;
    std::FILE *file = std::fopen("/proc/self/statm", "r");
    if (!file || std::fscanf(file, "%*s %ld", &pages) != 1)
        std::abort();
    std::fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024.0);
}

// -- the verbs ---------------------------------------------------------------------------------------------------------

static awaitable<Connection> open(ssl::context &context)
{
    auto stream = std::make_unique<Stream>(co_await asio::this_coro::executor, context);
    co_await stream->lowest_layer().async_connect({asio::ip::address_v4::loopback(), port}, use_awaitable);
    stream->lowest_layer().set_option(asio::ip::tcp::no_delay(true));
    stream->set_verify_callback(ssl::host_name_verification("127.0.0.1"));
    co_await stream->async_handshake(Stream::client, use_awaitable);
    co_return stream;
}

static awaitable<void> close(Stream &stream)
{
    boost::system::error_code ignored; // "stream truncated" is what a shutdown may complete with
    co_await stream.async_shutdown(asio::redirect_error(use_awaitable, ignored));
    stream.lowest_layer().close();
}

static awaitable<void> order(Stream &stream, char what, std::uint64_t count)
{
    unsigned char message[9] = {static_cast<unsigned char>(what)};
    for (int i = 8; i >= 1; i--, count >>= 8)
        message[i] = count & 0xff;
    co_await asio::async_write(stream, asio::buffer(message), use_awaitable);
}

static awaitable<void> read_exactly(Stream &stream, std::uint64_t count)
{
    while (count)
        count -= co_await stream.async_read_some(
            asio::buffer(buffer, std::min<std::uint64_t>(count, read_size)), use_awaitable);
}

static awaitable<void> receive(Stream &stream, std::uint64_t count)
{
    co_await order(stream, 'S', count);
    co_await read_exactly(stream, count);
}

static awaitable<void> send(Stream &stream, std::uint64_t count)
{
    co_await order(stream, 'R', count);
    while (count)
        count -= co_await asio::async_write(
            stream, asio::buffer(buffer, std::min<std::uint64_t>(count, chunk_size)), use_awaitable);
    co_await read_exactly(stream, 1);
}

static awaitable<void> echo(Stream &stream, std::size_t size, std::uint64_t rounds)
{
    co_await order(stream, 'E', size * rounds);
    while (rounds--) {
        co_await asio::async_write(stream, asio::buffer(buffer, size), use_awaitable);
        co_await read_exactly(stream, size);
    }
}

// -- the works ---------------------------------------------------------------------------------------------------------

static awaitable<void> handshakes(ssl::context &context, std::uint64_t count)
{
    for (int i = 0; i < warm_handshakes; i++)
        co_await close(*co_await open(context));
    std::vector<double> latencies;
    Reading from;
    for (std::uint64_t i = 0; i < count; i++) {
        double began = seconds(CLOCK_MONOTONIC);
        co_await close(*co_await open(context));
        latencies.push_back(seconds(CLOCK_MONOTONIC) - began);
    }
    std::sort(latencies.begin(), latencies.end());
    from.report(", \"p50\": " + std::to_string(latencies[count / 2]) +
                ", \"p95\": " + std::to_string(latencies[count * 95 / 100]));
}

static awaitable<std::deque<Connection>> open_many(ssl::context &context, std::uint64_t count)
{
    std::deque<Connection> all;
    for (std::uint64_t i = 0; i < count; i++) {
        all.push_back(co_await open(context));
        co_await echo(*all.back(), ping, 1);
    }
    co_return all;
}

static awaitable<void> echo_together(std::deque<Connection> &all, std::uint64_t rounds)
{
    auto executor = co_await asio::this_coro::executor;
    std::size_t busy = all.size();
    asio::steady_timer done(executor, asio::steady_timer::time_point::max());
    for (auto &stream : all)
        asio::co_spawn(executor, echo(*stream, ping, rounds), [&](std::exception_ptr error) {
            if (error)
                std::rethrow_exception(error);
            if (--busy == 0)
                done.cancel();
        });
    boost::system::error_code cancelled;
    co_await done.async_wait(asio::redirect_error(use_awaitable, cancelled));
}

static awaitable<void> many(ssl::context &context, std::uint64_t count, std::uint64_t rounds)
{
    auto all = co_await open_many(context, count);
    co_await echo_together(all, 2);
    Reading from;
    co_await echo_together(all, rounds);
    from.report();
}

static awaitable<void> one_burst(Stream &stream)
{
    co_await receive(stream, burst);
    co_await send(stream, burst);
}

static awaitable<void> memory(ssl::context &context, std::uint64_t count, std::uint64_t bursts)
{
    auto kept = co_await open_many(context, warm_connections);
    Reading from;
    double before = resident_kib();
    auto all = co_await open_many(context, count);
    double idle = resident_kib();
    co_await one_burst(*kept[0]); // what the process keeps, and no connection, is not counted
    double quiet = resident_kib();
    for (std::uint64_t i = 0; i < bursts; i++)
        co_await one_burst(*all[i]);
    double after = resident_kib();
    from.report(", \"idle_kib\": " + std::to_string((idle - before) / count) +
                ", \"burst_kib\": " + std::to_string((after - quiet) / bursts));
}

static awaitable<void> one_connection(ssl::context &context, std::string work, std::uint64_t a, std::uint64_t b)
{
    auto stream = co_await open(context);
    if (work == "send") {
        co_await send(*stream, warm_up);
        Reading from;
        co_await send(*stream, a);
        from.report();
    } else if (work == "echo") {
        co_await echo(*stream, a, warm_rounds);
        Reading from;
        co_await echo(*stream, a, b);
        from.report();
    } else {
        co_await receive(*stream, warm_up);
        Reading from;
        co_await receive(*stream, a);
        from.report();
    }
    co_await close(*stream);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        std::fprintf(stderr, "usage: asio WORK PORT CA.pem A B\n");
        return 2;
    }
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    std::string work = argv[1];
    port = static_cast<unsigned short>(std::atoi(argv[2]));
    std::uint64_t a = std::strtoull(argv[4], nullptr, 10), b = std::strtoull(argv[5], nullptr, 10);

    asio::io_context loop(1);
    ssl::context context(ssl::context::tls_client);
    context.load_verify_file(argv[3]);
    context.set_verify_mode(ssl::verify_peer);
    auto job = work == "handshake" ? handshakes(context, a)
               : work == "many"    ? many(context, a, b)
               : work == "memory"  ? memory(context, a, b)
                                   : one_connection(context, work, a, b);
    asio::co_spawn(loop, std::move(job), [](std::exception_ptr error) {
        if (error)
            std::rethrow_exception(error);
    });
    loop.run();
}
