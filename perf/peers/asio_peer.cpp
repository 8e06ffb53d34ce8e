// asio_peer.cpp: echo and lines on Asio's C++20 coroutines, as Asio's own examples write them.
//
// One io_context on one thread. echo is Asio's coroutine echo server: async_read_some into an
// array of the coroutine, async_write. lines is how its examples read lines: async_read_until into
// a string, async_write of the line, erase it from the string's front; so each line costs a send.
// CMakeLists.txt builds it twice, as asio_epoll (Asio's default reactor) and as asio_uring (its
// io_uring service), which PEER_NAME tells apart.
//
// Neighbours: peer_common.c (command line, announcement).
// Ownership: a connection's socket and buffer live in its coroutine, and end with it.
#include <array>
#include <asio.hpp>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>

#include "peer_common.h"

namespace {

using asio::awaitable;
using asio::use_awaitable;

constexpr std::size_t buffer_bytes = 4096;
constexpr std::size_t line_bytes_max = 64 * 1024;
constexpr auto accept_retry = std::chrono::milliseconds(50);

template <class Socket>
awaitable<void> echo(Socket& socket) {
  std::array<char, buffer_bytes> data;
  for (;;) {
    const std::size_t count = co_await socket.async_read_some(asio::buffer(data), use_awaitable);
    co_await asio::async_write(socket, asio::buffer(data.data(), count), use_awaitable);
  }
}

template <class Socket>
awaitable<void> answer_lines(Socket& socket) {
  std::string received;
  asio::error_code error;
  for (;;) {
    const std::size_t count =
        co_await asio::async_read_until(socket, asio::dynamic_buffer(received, line_bytes_max),
                                        '\n', asio::redirect_error(use_awaitable, error));
    if (error) break;
    co_await asio::async_write(socket, asio::buffer(received.data(), count), use_awaitable);
    received.erase(0, count);
  }
  // At the end of the stream a last line without an end goes back as it came.
  if (error == asio::error::eof && !received.empty()) {
    co_await asio::async_write(socket, asio::buffer(received), use_awaitable);
  }
}

template <class Socket>
awaitable<void> serve(Socket socket, peer_mode mode) {
  try {
    if (mode == PEER_LINES) {
      co_await answer_lines(socket);
    } else {
      co_await echo(socket);
    }
  } catch (const asio::system_error&) {
    // The end of the stream, or of the connection.
  }
}

template <class Acceptor>
awaitable<void> listen(Acceptor acceptor, peer_mode mode) {
  const auto executor = co_await asio::this_coro::executor;
  for (;;) {
    asio::error_code error;
    auto socket = co_await acceptor.async_accept(asio::redirect_error(use_awaitable, error));
    if (error) {  // no descriptor or memory left: a little later there may be
      asio::steady_timer timer(executor, accept_retry);
      co_await timer.async_wait(use_awaitable);
      continue;
    }
    asio::co_spawn(executor, serve(std::move(socket), mode), asio::detached);
  }
}

template <class Acceptor>
void announce_and_listen(asio::io_context& context, Acceptor acceptor, peer_mode mode) {
  peer_announce(acceptor.native_handle());
  asio::co_spawn(context, listen(std::move(acceptor), mode), asio::detached);
}

void run(const peer_options& options) {
  asio::io_context context(1);
  asio::signal_set signals(context, SIGINT, SIGTERM);
  signals.async_wait([&](asio::error_code, int) { context.stop(); });
  if (options.unix_path != nullptr) {
    using asio::local::stream_protocol;
    peer_remove_stale(options.unix_path);
    stream_protocol::acceptor acceptor(context, stream_protocol::endpoint(options.unix_path));
    announce_and_listen(context, std::move(acceptor), options.mode);
  } else {
    using asio::ip::tcp;
    tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), options.port});
    acceptor.set_option(tcp::no_delay(true));  // accepted sockets inherit it
    announce_and_listen(context, std::move(acceptor), options.mode);
  }
  context.run();
}

}  // namespace

int main(int count, char** arguments) {
  peer_options options{};
  options.modes = PEER_ECHO | PEER_LINES;
  peer_parse(count, arguments, PEER_NAME, "Echo and lines on Asio's coroutines.", &options);
  try {
    run(options);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", PEER_NAME, error.what());
    return 1;
  }
}
