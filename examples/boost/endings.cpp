// What an application on Boost.Asio sees of a peer's ending: it measures the table of docs/explanation/boost-asio.md.
//
//     endings HOST PORT CA.pem BYTES MILLISECONDS
//
// It reads BYTES, or to the end (BYTES 0), and closes within MILLISECONDS; a line for each has the error.

#include "leaving.hpp"

static std::size_t wanted;
static std::chrono::milliseconds limit;

awaitable<void> observe(ssl::context &context, std::string host, std::string port)
{
    auto stream = co_await connect(context, host, port);
    std::string received;
    error_code error;
    auto until = asio::transfer_at_least(wanted ? wanted : SIZE_MAX);
    co_await asio::async_read(
        *stream, asio::dynamic_buffer(received), until, redirect_error(use_awaitable, error));
    std::cout << error.message() << std::endl;
    std::cout << co_await close(stream, limit) << std::endl;
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return std::cerr << "usage: " << argv[0] << " HOST PORT CA.pem BYTES MILLISECONDS\n", 2;
    wanted = std::stoul(argv[4]);
    limit = std::chrono::milliseconds(std::stoul(argv[5]));
    return start(observe, argc, argv);
}
