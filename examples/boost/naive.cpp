// Situation 2 done wrong: a shutdown begins while a read is pending. A line for each has the error.

#include "leaving.hpp"

awaitable<void> read(Stream stream)
{
    char buffer[4096];
    error_code error;
    while (!error)
        co_await stream->async_read_some(asio::buffer(buffer), redirect_error(use_awaitable, error));
    std::cout << "read: " << error.message() << std::endl;
}

awaitable<void> leave(ssl::context &context, std::string host, std::string port)
{
    auto executor = co_await asio::this_coro::executor;
    auto stream = co_await connect(context, host, port);
    asio::co_spawn(executor, read(stream), asio::detached);
    co_await asio::post(executor, use_awaitable);
    std::cout << "shutdown: " << co_await close(stream) << std::endl;
}

int main(int argc, char **argv)
{
    return start(leave, argc, argv);
}
