// The server programs' common part: addresses that cannot be served, and a life from start to
// signal, in a child that this process forks.
#include "apps/common.hpp"

#include <doctest/doctest.h>

#include <signal.h>
#include <unistd.h>

#include <cstdlib>

#include <pelton/engine/ring.hpp>
#include <support/child.hpp>
#include <support/message_of.hpp>
#include <support/sockets.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;
using pelton::apps::HandlerFactory;
using pelton::apps::ServerConfig;

Task<> hang_up(StreamReader, StreamWriter writer) {
  writer.close();
  co_return;
}

ServerConfig config_of(std::vector<std::string> listen, unsigned threads = 1) {
  ServerConfig config;
  config.listen = std::move(listen);
  config.threads = threads;
  config.buffers = 8;
  return config;
}

/// For servers that never get as far as to serve.
int serve_nobody(const ServerConfig& config) {
  return apps::serve("pelton-test", config, [] {
    FAIL("it serves");
    return detail::make_handler(hang_up);
  });
}

/// Handlers whose making, on the first thread, also sees to the end of the program: by SIGTERM.
HandlerFactory ends_soon() {
  return [] {
    if (gettid() == getpid()) {
      Loop::running().call_later(std::chrono::milliseconds(20), [] { ::kill(getpid(), SIGTERM); });
    }
    return detail::make_handler(hang_up);
  };
}

TEST_CASE("an address that is taken is refused before anything is served") {
  const OwnedFd taken = tcp_listener();
  const std::string address = must(local_address(taken.get())).to_string();
  const int descriptors = open_descriptors();
  for (const unsigned threads : {1U, 2U}) {
    const std::string message = message_of<OSError>([&] {
      static_cast<void>(serve_nobody(config_of({"127.0.0.1:0", address}, threads)));
    });
    CHECK(message.find("cannot listen on '" + address + "'") != std::string::npos);
    CHECK(message.find("Address already in use") != std::string::npos);
    CHECK(open_descriptors() == descriptors);
  }
}

TEST_CASE("an address that cannot be read is refused with its text") {
  for (const char* text : {"", "nowhere", "127.0.0.1:", "127.0.0.1:65536", "[::1:80", "unix:"}) {
    CAPTURE(text);
    const std::string message =
        message_of<ValueError>([&] { static_cast<void>(serve_nobody(config_of({text}))); });
    CHECK(message != "nothing thrown");
    CHECK(message.find(text) != std::string::npos);
  }
}

TEST_CASE("a unix path in no directory is refused with its text") {
  const std::string text = "unix:/nonexistent/pelton.socket";
  const std::string message =
      message_of<OSError>([&] { static_cast<void>(serve_nobody(config_of({text}))); });
  CHECK(message.find("cannot listen on '" + text + "'") != std::string::npos);
  CHECK(message.find("No such file or directory") != std::string::npos);
}

TEST_CASE("a busy poll that cannot be read is refused before an address is bound") {
  ServerConfig config = config_of({"nowhere"});
  config.busy_poll = "sometimes";
  const std::string message =
      message_of<ValueError>([&] { static_cast<void>(serve_nobody(config)); });
  CHECK(message.find("sometimes") != std::string::npos);
}

TEST_CASE("a server serves, prints one line per address and ends with zero on SIGTERM") {
  for (const unsigned threads : {1U, 3U}) {
    CAPTURE(threads);
    const ChildEnd end = run_in_child([&] {
      const std::string path = "unix:@pelton-common-test-" + std::to_string(getpid());
      return apps::serve("pelton-test", config_of({"127.0.0.1:0", path}, threads), ends_soon());
    });
    CAPTURE(end.output);
    CHECK(end.exit_status == 0);
    CHECK(end.output.find("pelton-test listening on 127.0.0.1:") != std::string::npos);
    CHECK(end.output.find("pelton-test listening on unix:@pelton-common-test-") !=
          std::string::npos);
    const std::string engine = Loop().engine_info().name;
    CHECK(end.output.find(" engine=" + engine + " threads=" + std::to_string(threads) + " ") !=
          std::string::npos);
    CHECK(end.output.find("pelton-test stopped: closed=0 connections=0 fds=0 buffers_lent=0 "
                          "ops_in_flight=0 ") != std::string::npos);
  }
}

TEST_CASE("a server runs on the engine that it was told, and names it") {
  const ChildEnd end = run_in_child([&] {
    ServerConfig config = config_of({"127.0.0.1:0"}, 2);
    config.engine = "epoll";
    return apps::serve("pelton-test", config, ends_soon());
  });
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
  CHECK(end.output.find(" engine=epoll threads=2 ") != std::string::npos);
  CHECK(end.output.find(" engine=epoll\n") != std::string::npos);  // beside the counters
}

/// A server whose threads begin but those that `fails` names, in a child. \return how it ended.
ChildEnd serve_with_failures(const std::function<bool(bool is_first)>& fails, unsigned threads) {
  return run_in_child([&] {
    const HandlerFactory factory = [&]() -> detail::ConnectionHandler {
      if (fails(gettid() == getpid())) throw RuntimeError("this thread will not");
      return detail::make_handler(hang_up);
    };
    const std::string message = message_of<RuntimeError>([&] {
      static_cast<void>(apps::serve("pelton-test", config_of({"127.0.0.1:0"}, threads), factory));
    });
    return message == "this thread will not" ? 0 : 1;
  });
}

TEST_CASE("a thread that cannot begin ends the program with its reason") {
  const ChildEnd end = serve_with_failures([](bool is_first) { return !is_first; }, 3);
  CAPTURE(end.output);
  CAPTURE(end.signal);
  CHECK(end.exit_status == 0);
  CHECK(end.output.find("listening") == std::string::npos);
}

TEST_CASE("a first thread that cannot begin ends those that are yet to begin") {
  const ChildEnd end = serve_with_failures([](bool is_first) { return is_first; }, 16);
  CAPTURE(end.output);
  CAPTURE(end.signal);
  CHECK(end.exit_status == 0);
  CHECK(end.output.find("listening") == std::string::npos);
}

}  // namespace
