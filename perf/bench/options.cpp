// The command line of pelton-bench: what it accepts, and what it says about the rest. See
// options.hpp.
#include "perf/bench/options.hpp"

#include <signal.h>

#include <CLI/CLI.hpp>

#include <array>
#include <cerrno>
#include <iostream>

#include "apps/number_range.hpp"

namespace pelton::bench {
namespace {

constexpr int exit_bad_usage = 2;
constexpr std::size_t size_max = 16 * 1024 * 1024;
constexpr std::size_t line_size_max = 1024 * 1024;
constexpr unsigned connections_max = 1'000'000;
constexpr unsigned pipeline_max = 4096;
constexpr std::uint64_t in_flight_max = 16'000'000;
constexpr std::size_t ping_bytes = 14;

constexpr std::string_view description =
    "Loads a server and measures it: pelton-bench MODE --connect ADDR [options]\n"
    "\n"
    "  echo     messages that the server sends back; every byte is verified\n"
    "  lines    lines, each answered by a line of the same bytes\n"
    "  stream   bulk data out and back, as fast as the windows let\n"
    "  connect  connect, one echo, close, over and over\n"
    "  idle     connections that say nothing: the server's memory for each\n";

constexpr std::string_view footer =
    "With --rate the load is an open loop: requests are due at fixed times, and latency counts\n"
    "from then on, so that a server that stalls is seen to. A request that finds --pipeline of\n"
    "them in flight on its connection waits for its turn; its latency runs.\n"
    "\n"
    "Ends 0 when every byte was right, 1 on an error or a wrong byte, 2 on a bad argument.";

constexpr std::array<std::string_view, 5> mode_names{"echo", "lines", "stream", "connect", "idle"};

/// An option whose value the other ones forbid.
void forbid(const CLI::App& app, const std::string& option, const std::string& why) {
  if (app.count(option) > 0) throw CLI::ValidationError(option, why);
}

void set_defaults(const CLI::App& app, Options& options) {
  const bool stream = options.mode == Mode::stream;
  if (app.count("--size") == 0 && stream) options.size = 64 * 1024;
  if (app.count("--size") == 0 && options.mode == Mode::lines) options.size = 100;
  if (app.count("--connections") == 0 && stream) options.connections = 1;
  if (options.mode == Mode::idle) options.warmup_s = 0;
  if (options.ping) options.size = ping_bytes;
}

void check_mode(const CLI::App& app, const Options& options) {
  const std::string mode(to_string(options.mode));
  const bool exchange = options.mode == Mode::echo || options.mode == Mode::lines;
  if (!exchange) {
    forbid(app, "--rate", mode + " has no rate: leave --rate out, or use echo or lines");
    if (options.pipeline != 1) {
      throw CLI::ValidationError(
          "--pipeline", mode + " has no pipeline: leave --pipeline out, or use echo or lines");
    }
  }
  if (options.mode == Mode::idle) {
    forbid(app, "--warmup", "idle has no warm-up: leave --warmup out");
  }
  if (options.mode == Mode::stream) {
    forbid(app, "--hdr", "stream measures no latency: leave --hdr out");
  }
  if (options.ping) {
    if (options.mode != Mode::echo) {
      throw CLI::ValidationError("--message", "ping is a message of echo, not of " + mode);
    }
    forbid(app, "--size", "a PING has 14 bytes: leave --size out");
  }
  if (options.mode == Mode::lines && options.size > line_size_max) {
    throw CLI::ValidationError("--size", "a line has at most 1048576 bytes, its end included");
  }
}

void check_numbers(const Options& options) {
  if (options.threads > options.connections) {
    throw CLI::ValidationError("--threads",
                               "more threads than connections: give at most --threads " +
                                   std::to_string(options.connections));
  }
  if (std::uint64_t{options.connections} * options.pipeline > in_flight_max) {
    throw CLI::ValidationError("--pipeline",
                               "more than 16000000 messages in flight: lower it, or --connections");
  }
  if (options.server_pid != 0 && ::kill(options.server_pid, 0) != 0 && errno == ESRCH) {
    throw CLI::ValidationError("--server-pid", "there is no process " +
                                                   std::to_string(options.server_pid) +
                                                   ": give the server's, as `pgrep -n` tells it");
  }
}

void check_texts(Options& options, const std::string& busy_poll) {
  try {
    options.endpoint = Endpoint::parse(options.connect);
  } catch (const ValueError& error) {
    throw CLI::ValidationError("--connect", error.what());
  }
  const bool tcp = options.endpoint.kind == Endpoint::Kind::tcp;
  if (tcp && options.endpoint.port == 0) {
    throw CLI::ValidationError("--connect", "'" + options.connect +
                                                "' has port 0: give the port that the server "
                                                "printed when it began to serve");
  }
  if (tcp && options.endpoint.host.empty()) options.endpoint.host = "localhost";
  try {
    options.busy_poll = BusyPoll::parse(busy_poll);
  } catch (const ValueError& error) {
    throw CLI::ValidationError("--busy-poll", error.what());
  }
}

struct Texts {
  std::string mode;
  std::string message = "pattern";
  std::string busy_poll = "off";
};

void declare_load(CLI::App& app, Options& options, Texts& texts) {
  app.add_option("MODE", texts.mode, "What to do: echo, lines, stream, connect or idle")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"echo", "lines", "stream", "connect", "idle"}));
  app.add_option("--connect", options.connect, "The server: HOST:PORT, [V6]:PORT or unix:PATH")
      ->required()
      ->type_name("ADDR");
  app.add_option("-c,--connections", options.connections, "Default 64, stream: 1")
      ->check(CLI::Range(1U, connections_max))
      ->type_name("N");
  app.add_option("-s,--size", options.size,
                 "Bytes of a message (default 64), of a line with its end (100), of a write of "
                 "stream (65536)")
      ->check(CLI::Range(std::size_t{1}, size_max))
      ->type_name("BYTES");
  app.add_option("--message", texts.message,
                 "What echo sends: pattern, or ping: Redis's PING, answered by +PONG")
      ->capture_default_str()
      ->type_name("KIND")
      ->check(CLI::IsMember({"pattern", "ping"}));
  app.add_option("-p,--pipeline", options.pipeline, "Messages in flight on each connection")
      ->capture_default_str()
      ->check(CLI::Range(1U, pipeline_max))
      ->type_name("D");
  app.add_option("-r,--rate", options.rate, "Requests per second, over all connections")
      ->check(apps::NumberRange(0.001, 1e8))
      ->type_name("R");
  app.add_option("-d,--duration", options.duration_s, "Seconds that are measured")
      ->capture_default_str()
      ->check(apps::NumberRange(0.01, 86400.0))
      ->type_name("S");
  app.add_option("-w,--warmup", options.warmup_s, "Seconds before that (idle: none)")
      ->capture_default_str()
      ->check(apps::NumberRange(0.0, 86400.0))
      ->type_name("S");
}

void declare_rest(CLI::App& app, Options& options, Texts& texts) {
  app.add_option("-t,--threads", options.threads, "Threads, which share the connections")
      ->capture_default_str()
      ->check(CLI::Range(1U, 256U))
      ->type_name("T");
  app.add_option("--timeout", options.timeout_s,
                 "Seconds of silence of the server that are too much")
      ->capture_default_str()
      ->check(apps::NumberRange(0.1, 3600.0))
      ->type_name("S");
  app.add_option("--busy-poll", texts.busy_poll, "Spin before sleeping: auto, off or microseconds")
      ->capture_default_str()
      ->type_name("MODE");
  app.add_option("--server-pid", options.server_pid,
                 "Report CPU and memory of this process, its threads and its children")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("PID");
  app.add_option("--json", options.json, "Write the figures as JSON; - for standard output")
      ->type_name("FILE");
  app.add_option("--hdr", options.hdr, "Write the latencies as HdrHistogram percentiles, in us")
      ->type_name("FILE");
}

}  // namespace

std::string_view to_string(Mode mode) noexcept {
  return mode_names[static_cast<std::size_t>(mode)];
}

Parsed parse_command_line(int count, const char* const* arguments) {
  Parsed parsed;
  Options& options = parsed.options;
  Texts texts;
  CLI::App app(std::string(description), "pelton-bench");
  app.footer(std::string(footer));
  declare_load(app, options, texts);
  declare_rest(app, options, texts);
  try {
    app.parse(count, arguments);
    const auto mode = std::ranges::find(mode_names, texts.mode);
    options.mode = static_cast<Mode>(mode - mode_names.begin());
    options.ping = texts.message == "ping";
    set_defaults(app, options);
    check_mode(app, options);
    check_numbers(options);
    check_texts(options, texts.busy_poll);
    parsed.run = true;
  } catch (const CLI::ParseError& error) {
    parsed.status = app.exit(error) == 0 ? 0 : exit_bad_usage;
  }
  return parsed;
}

}  // namespace pelton::bench
