// Connect and leave with Boost.Asio: what situation_1.cpp and situation_2.cpp share.

#pragma once

#include <utility> // awaitable.hpp of Boost 1.74 needs it and does not include it

#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>

namespace asio = boost::asio;
namespace ssl = asio::ssl;
using asio::awaitable, asio::redirect_error, asio::use_awaitable, asio::ip::tcp;
using boost::system::error_code;
using Stream = std::shared_ptr<ssl::stream<tcp::socket>>; // shared with handlers that may run later

inline awaitable<Stream> connect(ssl::context &context, std::string host, std::string port)
{
    auto executor = co_await asio::this_coro::executor;
    auto stream = std::make_shared<ssl::stream<tcp::socket>>(executor, context);
    tcp::resolver resolver(executor);
    auto addresses = co_await resolver.async_resolve(host, port, use_awaitable);
    co_await asio::async_connect(stream->lowest_layer(), addresses, use_awaitable);
    SSL_set_tlsext_host_name(stream->native_handle(), host.c_str());
    stream->set_verify_callback(ssl::host_name_verification(host));
    co_await stream->async_handshake(stream->client, use_awaitable);
    co_return stream;
}

// End TLS and TCP within the limit, and return a verdict. No read and no write may wait.
inline awaitable<std::string> close(Stream stream, std::chrono::milliseconds limit = std::chrono::seconds(5))
{
    auto late = std::make_shared<bool>(false);
    asio::steady_timer deadline(co_await asio::this_coro::executor, limit);
    deadline.async_wait([stream, late](error_code cancelled) {
        if (cancelled)
            return;
        *late = true;
        error_code ignored;
        stream->lowest_layer().close(ignored);
    });
    error_code error, ignored;
    co_await stream->async_shutdown(redirect_error(use_awaitable, error));
    deadline.cancel();
    stream->lowest_layer().close(ignored);
    if (*late)
        co_return "deadline: no close_notify from the peer";
    if (error == ssl::error::stream_truncated)
        co_return "the peer left without close_notify";
    co_return error ? error.message() : "clean";
}

using Application = awaitable<void>(ssl::context &context, std::string host, std::string port);

// Run an application with the arguments HOST PORT CA.pem.
inline int start(Application application, int argc, char **argv)
{
    if (argc < 4)
        return std::cerr << "usage: " << argv[0] << " HOST PORT CA.pem\n", 2;
    asio::io_context loop;
    ssl::context context(ssl::context::tls_client);
    context.load_verify_file(argv[3]);
    context.set_verify_mode(ssl::verify_peer);
    asio::co_spawn(loop, application(context, argv[1], argv[2]), [](std::exception_ptr error) {
        if (error)
            std::rethrow_exception(error);
    });
    loop.run();
    return 0;
}
