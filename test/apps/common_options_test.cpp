// The command line of the server programs: what it accepts, what it refuses, and with which exit
// status.
#include <doctest/doctest.h>
#include <CLI/CLI.hpp>

#include <iostream>
#include <sstream>

#include <support/message_of.hpp>
#include "apps/common.hpp"

namespace {

using namespace pelton;
using pelton::apps::ServerConfig;
using pelton::test::message_of;

/// What a program of this command line ends with, and what it printed.
struct Outcome {
  int status = -1;
  bool served = false;
  ServerConfig config;
  std::string out;
  std::string error;
};

/// Diverts a stream while it lives.
class Divert {
 public:
  explicit Divert(std::ostream& stream) : stream_(stream), before_(stream.rdbuf(text_.rdbuf())) {}
  ~Divert() { stream_.rdbuf(before_); }
  Divert(const Divert&) = delete;
  Divert& operator=(const Divert&) = delete;
  [[nodiscard]] std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::ostream& stream_;
  std::streambuf* before_;
};

Outcome run(std::vector<std::string> arguments, const std::function<int()>& serve = {}) {
  Outcome outcome;
  CLI::App app("A test.", "pelton-test");
  outcome.config.add_to(app);
  arguments.insert(arguments.begin(), "pelton-test");
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  const Divert out(std::cout);
  const Divert error(std::cerr);
  outcome.status =
      apps::run_command_line(app, static_cast<int>(pointers.size()), pointers.data(), [&] {
        outcome.served = true;
        return serve ? serve() : 0;
      });
  outcome.out = out.text();
  outcome.error = error.text();
  return outcome;
}

TEST_CASE("an address alone is a command line, with the documented defaults") {
  const Outcome outcome = run({"--listen", "127.0.0.1:0"});
  CHECK(outcome.status == 0);
  CHECK(outcome.served);
  const ServerConfig& config = outcome.config;
  CHECK(config.listen == std::vector<std::string>{"127.0.0.1:0"});
  CHECK(config.threads == 1);
  CHECK(config.engine == "auto");
  CHECK(config.busy_poll == "auto");
  CHECK(config.batch_wait == "auto");
  CHECK_FALSE(config.restrict_ring);
  CHECK(config.buffers == 512);
  CHECK(config.buffer_bytes == 16384);
  CHECK(config.limit == stream_limit_default);
  CHECK(config.backlog == 4096);
  CHECK(config.drain_timeout_s == 10);
}

TEST_CASE("a time limit that is no number is refused") {
  for (const char* text : {"nan", "-nan", "NAN", "inf", "-1", "soon"}) {
    const Outcome outcome = run({"-l", ":1", "--drain-timeout", text});
    CAPTURE(text);
    CHECK(outcome.status == 2);
    CHECK_FALSE(outcome.served);
    CHECK(outcome.error.find("--drain-timeout") != std::string::npos);
  }
}

TEST_CASE("every option is read") {
  const Outcome outcome = run({"-l",
                               ":1",
                               "--listen",
                               "unix:/x",
                               "-t",
                               "3",
                               "--engine",
                               "uring",
                               "--busy-poll",
                               "off",
                               "--batch-wait",
                               "off",
                               "--buffers",
                               "64",
                               "--buffer-size",
                               "4096",
                               "--limit",
                               "1000",
                               "--backlog",
                               "7",
                               "--drain-timeout",
                               "0.5",
                               "--restrict-ring"});
  CHECK(outcome.status == 0);
  const ServerConfig& config = outcome.config;
  CHECK(config.listen == std::vector<std::string>{":1", "unix:/x"});
  CHECK(config.threads == 3);
  CHECK(config.engine == "uring");
  CHECK(config.buffers == 64);
  CHECK(config.buffer_bytes == 4096);
  CHECK(config.limit == 1000);
  CHECK(config.backlog == 7);
  CHECK(config.drain_timeout_s == 0.5);
  const LoopOptions options = config.loop_options();
  CHECK(options.busy_poll.mode == BusyPoll::Mode::off);
  CHECK(options.batch_wait == BatchWait::off);
  CHECK(options.restrict_ring);
  CHECK(options.engine.kind == Engine::Kind::uring);
  CHECK(options.buffer_count == 64);
  CHECK(options.buffer_bytes == 4096);
}

TEST_CASE("help is printed on the standard output and is a success") {
  for (const char* option : {"--help", "-h"}) {
    const Outcome outcome = run({option});
    CHECK(outcome.status == 0);
    CHECK_FALSE(outcome.served);
    CHECK(outcome.out.find("--drain-timeout") != std::string::npos);
    CHECK(outcome.error.empty());
  }
}

TEST_CASE("bad usage is told on the standard error and ends with 2") {
  const std::vector<std::vector<std::string>> all{
      {},
      {"--listen"},
      {"--listen", ":1", "--no-such-option"},
      {"--listen", ":1", "--threads", "0"},
      {"--listen", ":1", "--threads", "257"},
      {"--listen", ":1", "--threads", "two"},
      {"--listen", ":1", "--engine", "kqueue"},
      {"--listen", ":1", "--buffers", "0"},
      {"--listen", ":1", "--buffers", "32769"},
      {"--listen", ":1", "--buffer-size", "63"},
      {"--listen", ":1", "--limit", "0"},
      {"--listen", ":1", "--limit", "-1"},
      {"--listen", ":1", "--backlog", "65536"},
      {"--listen", ":1", "--drain-timeout", "-1"},
  };
  for (const auto& arguments : all) {
    CAPTURE(arguments.size());
    const Outcome outcome = run(arguments);
    CHECK(outcome.status == 2);
    CHECK_FALSE(outcome.served);
    CHECK_FALSE(outcome.error.empty());
    CHECK(outcome.out.empty());
  }
}

TEST_CASE("the exit status is what serving returns, and 78 with the reason where it cannot") {
  CHECK(run({"-l", ":1"}, [] { return 5; }).status == 5);
  const Outcome outcome =
      run({"-l", ":1"}, []() -> int { throw OSError(errno_code(EADDRINUSE), "cannot listen"); });
  CHECK(outcome.status == apps::exit_cannot_serve);
  CHECK(outcome.error == "pelton-test: cannot listen: Address already in use\n");
}

TEST_CASE("a busy poll that cannot be read is named") {
  ServerConfig config;
  for (const char* text : {"", "soon", "-1", "0", "10001", "20us"}) {
    config.busy_poll = text;
    const std::string message =
        message_of<ValueError>([&] { static_cast<void>(config.loop_options()); });
    CHECK(message != "nothing thrown");
    CHECK(message.find(text) != std::string::npos);
  }
  config.busy_poll = "150";
  CHECK(config.loop_options().busy_poll.mode == BusyPoll::Mode::always);
  CHECK(config.loop_options().busy_poll.window == std::chrono::microseconds(150));
}

}  // namespace
