// Situation 2 with Boost.Asio: leave while a read is pending.

#include "leaving.hpp"

#include <unistd.h>

struct Reader {
    bool ended = false;
    error_code error;
};

awaitable<void> read(Stream stream, std::shared_ptr<Reader> reader)
{
    char buffer[4096];
    while (!reader->error) {
        auto size = co_await stream->async_read_some(
            asio::buffer(buffer), redirect_error(use_awaitable, reader->error));
        std::cout.write(buffer, size).flush();
    }
    reader->ended = true;
}

awaitable<void> chat(ssl::context &context, std::string host, std::string port)
{
    auto executor = co_await asio::this_coro::executor;
    auto stream = co_await connect(context, host, port);
    auto reader = std::make_shared<Reader>();
    asio::co_spawn(executor, read(stream, reader), asio::detached);

    asio::posix::stream_descriptor input(executor, dup(STDIN_FILENO));
    std::string typed;
    error_code end;
    for (;;) {
        auto size = co_await asio::async_read_until(
            input, asio::dynamic_buffer(typed), '\n', redirect_error(use_awaitable, end));
        if (end || typed.starts_with("quit\n"))
            break;
        co_await asio::async_write(*stream, asio::buffer(typed, size), use_awaitable);
        typed.erase(0, size);
    }
    // A cancel ends only what waits at this moment. A read whose handler is due goes on if it has half a record, so
    // cancel again. A write that waits would be cut inside a record and spoil the stream; in this program none can.
    while (!reader->ended) {
        stream->lowest_layer().cancel();
        co_await asio::post(executor, use_awaitable);
    }
    if (reader->error == asio::error::operation_aborted) // by us
        std::cout << co_await close(stream) << std::endl;
    else if (reader->error == asio::error::eof) // the peer's close_notify came first
        std::cout << co_await close(stream) << std::endl;
    else // ssl::error::stream_truncated, connection_reset, an alert
        std::cout << reader->error.message() << std::endl;
}

int main(int argc, char **argv)
{
    return start(chat, argc, argv);
}
