// The command line of pelton-bench: its defaults, and what it refuses with which words.
#include <doctest/doctest.h>

#include <iostream>
#include <sstream>
#include <vector>

#include "perf/bench/options.hpp"

namespace {

using pelton::bench::Mode;
using pelton::bench::Options;
using pelton::bench::Parsed;

struct Told {
  Parsed parsed;
  std::string out;
  std::string error;
};

Told parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "pelton-bench");
  std::ostringstream out;
  std::ostringstream error;
  std::streambuf* const cout_before = std::cout.rdbuf(out.rdbuf());
  std::streambuf* const cerr_before = std::cerr.rdbuf(error.rdbuf());
  Told told;
  told.parsed =
      pelton::bench::parse_command_line(static_cast<int>(arguments.size()), arguments.data());
  std::cout.rdbuf(cout_before);
  std::cerr.rdbuf(cerr_before);
  told.out = out.str();
  told.error = error.str();
  return told;
}

TEST_CASE("bench options: defaults of each mode") {
  const Options echo = parse({"echo", "--connect", "127.0.0.1:9"}).parsed.options;
  CHECK(echo.mode == Mode::echo);
  CHECK(echo.connections == 64);
  CHECK(echo.size == 64);
  CHECK(echo.pipeline == 1);
  CHECK(echo.threads == 1);
  CHECK(echo.rate == 0);
  CHECK(echo.busy_poll.mode == pelton::BusyPoll::Mode::off);
  CHECK_FALSE(echo.open_loop());
  CHECK(parse({"lines", "--connect", "h:9"}).parsed.options.size == 100);
  const Options stream = parse({"stream", "--connect", "h:9"}).parsed.options;
  CHECK(stream.size == 65536);
  CHECK(stream.connections == 1);
  CHECK(parse({"idle", "--connect", "h:9"}).parsed.options.warmup_s == 0);
}

TEST_CASE("bench options: every option is read") {
  const Told told = parse({"echo",
                           "--connect",
                           "unix:/tmp/x",
                           "--connections",
                           "10",
                           "--size",
                           "7",
                           "--pipeline",
                           "3",
                           "--rate",
                           "1000.5",
                           "--duration",
                           "1.5",
                           "--warmup",
                           "0.25",
                           "--threads",
                           "2",
                           "--json",
                           "-",
                           "--hdr",
                           "file",
                           "--busy-poll",
                           "auto",
                           "--timeout",
                           "3",
                           "--server-pid",
                           "1"});
  REQUIRE(told.parsed.run);
  const Options& options = told.parsed.options;
  CHECK(options.endpoint.kind == pelton::Endpoint::Kind::unix_socket);
  CHECK(options.endpoint.path == "/tmp/x");
  CHECK(options.connections == 10);
  CHECK(options.size == 7);
  CHECK(options.pipeline == 3);
  CHECK(options.rate == 1000.5);
  CHECK(options.open_loop());
  CHECK(options.duration_s == 1.5);
  CHECK(options.warmup_s == 0.25);
  CHECK(options.threads == 2);
  CHECK(options.json == "-");
  CHECK(options.hdr == "file");
  CHECK(options.busy_poll.mode == pelton::BusyPoll::Mode::automatic);
  CHECK(options.timeout_s == 3);
  CHECK(options.server_pid == 1);
}

TEST_CASE("bench options: help is a success that names every mode") {
  const Told told = parse({"--help"});
  CHECK_FALSE(told.parsed.run);
  CHECK(told.parsed.status == 0);
  for (const char* mode : {"echo", "lines", "stream", "connect", "idle"}) {
    CHECK(told.out.find(mode) != std::string::npos);
  }
  CHECK(told.out.find("--rate") != std::string::npos);
}

/// Refused with 2, and with a text that has the argument and the remedy.
void check_refused(std::vector<const char*> arguments, const char* argument, const char* remedy) {
  const Told told = parse(std::move(arguments));
  CAPTURE(told.error);
  CHECK_FALSE(told.parsed.run);
  CHECK(told.parsed.status == 2);
  CHECK(told.error.find(argument) != std::string::npos);
  CHECK(told.error.find(remedy) != std::string::npos);
}

TEST_CASE("bench options: bad arguments are named, with a remedy") {
  check_refused({}, "MODE", "required");
  check_refused({"echo"}, "--connect", "required");
  check_refused({"download", "--connect", "h:9"}, "MODE", "echo");
  check_refused({"echo", "--connect", "nowhere"}, "--connect", "nowhere");
  check_refused({"echo", "--connect", "h:0"}, "--connect", "give the port");
  check_refused({"echo", "--connect", "h:9", "--size", "0"}, "--size", "1");
  check_refused({"echo", "--connect", "h:9", "--connections", "0"}, "--connections", "1");
  check_refused({"echo", "--connect", "h:9", "--pipeline", "5000"}, "--pipeline", "4096");
  check_refused({"echo", "--connect", "h:9", "--rate", "-1"}, "--rate", "0.001");
  for (const char* option : {"--rate", "--duration", "--warmup", "--timeout"}) {
    check_refused({"echo", "--connect", "h:9", option, "nan"}, option, "not a number");
  }
  check_refused({"stream", "--connect", "h:9", "--rate", "10"}, "--rate", "leave --rate out");
  check_refused({"connect", "--connect", "h:9", "--pipeline", "2"}, "--pipeline", "leave");
  check_refused({"idle", "--connect", "h:9", "--warmup", "2"}, "--warmup", "leave");
  check_refused({"stream", "--connect", "h:9", "--hdr", "x"}, "--hdr", "leave");
  check_refused({"lines", "--connect", "h:9", "--message", "ping"}, "--message", "echo");
  check_refused({"echo", "--connect", "h:9", "--message", "ping", "--size", "3"}, "--size",
                "leave");
  check_refused({"echo", "--connect", "h:9", "-c", "2", "--threads", "3"}, "--threads", "2");
  check_refused({"echo", "--connect", "h:9", "--busy-poll", "soon"}, "--busy-poll", "auto");
  check_refused({"echo", "--connect", "h:9", "--server-pid", "1073741823"}, "--server-pid",
                "no process");
}

}  // namespace
