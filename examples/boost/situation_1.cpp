// Situation 1 with Boost.Asio: leave from inside a read.

#include "leaving.hpp"

awaitable<void> chat(ssl::context &context, std::string host, std::string port)
{
    auto stream = co_await connect(context, host, port);
    co_await asio::async_write(*stream, asio::buffer(std::string("hello\nplease quit\n")), use_awaitable);
    std::string received, line;
    while (line != "please quit") {
        auto size = co_await asio::async_read_until(*stream, asio::dynamic_buffer(received), '\n', use_awaitable);
        line = received.substr(0, size - 1);
        received.erase(0, size);
        std::cout << line << std::endl;
    }
    std::cout << co_await close(stream) << std::endl;
}

int main(int argc, char **argv)
{
    return start(chat, argc, argv);
}
