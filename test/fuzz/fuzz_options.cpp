// Fuzz target: whatever options are read from. Single texts, the environment variable that names an
// engine, and whole command lines of pelton-echo, pelton-proxy and pelton-bench.
//
// What is read prints to a text that reads as the same, and is within the bounds that the help
// states; all else is refused with a word.
//
// Neighbours: engine/loop_options.hpp, engine/ring_choice.hpp, apps/common_options.cpp and
// perf/bench/options.cpp, which are tested; target.hpp.
#include <iostream>
#include <optional>
#include <sstream>
#include <vector>

#include <CLI/CLI.hpp>

#include <fuzz/target.hpp>
#include <pelton/engine/error.hpp>
#include <pelton/engine/loop_options.hpp>
#include <pelton/engine/ring_choice.hpp>
#include "apps/common.hpp"
#ifdef PELTON_FUZZ_BENCH
#include "perf/bench/options.hpp"
#endif

namespace pelton::fuzz {
namespace {

// --- Single texts ---

/// What `parse` reads; nothing for a ValueError that begins with `refusal` and quotes the text.
template <class Parse>
auto parsed(std::string_view text, const std::string& refusal, Parse&& parse)
    -> std::optional<decltype(parse(text))> {
  try {
    return parse(text);
  } catch (const ValueError& error) {
    // what() ends at a NUL.
    const std::string quoted = refusal + " '" + std::string(text.substr(0, text.find('\0')));
    if (std::string_view(error.what()).find(quoted) == std::string_view::npos) {
      fail("a refusal that does not quote " + shown(text) + ": " + error.what());
    }
  }
  return {};
}

void check_busy_poll(std::string_view text) {
  const auto poll = parsed(text, "cannot read busy poll", BusyPoll::parse);
  if (!poll) return;
  if (poll->window.count() < 0 || poll->window.count() > 10'000) {
    fail("a busy poll out of bounds: " + shown(text));
  }
  const BusyPoll again = BusyPoll::parse(poll->to_string());
  require(again.mode == poll->mode && again.window == poll->window, "another busy poll");
}

void check_batch_wait(std::string_view text) {
  const auto wait = parsed(text, "cannot read batch wait", parse_batch_wait);
  require(!wait || to_string(*wait) == text, "another batch wait");
}

void check_engine(std::string_view text) {
  const auto engine = parsed(text, "cannot read engine", Engine::parse);
  require(!engine || engine->to_string() == text, "another engine");
}

/// The environment's engine decides where none was asked for by name.
void check_environment(std::string_view text) {
  const std::string value(text.substr(0, text.find('\0')));
  ::setenv("PELTON_ENGINE", value.c_str(), 1);
  const auto resolved = parsed(value, "environment variable PELTON_ENGINE: cannot read engine",
                               [](std::string_view) { return resolve_engine({}); });
  require(resolve_engine({Engine::Kind::epoll}).kind == Engine::Kind::epoll, "not what was asked");
  ::unsetenv("PELTON_ENGINE");
  require(!resolved || value.empty() || resolved->to_string() == value, "another engine");
}

// --- Command lines ---

/// Takes what command lines print while it lives.
class Silence {
 public:
  Silence() : out_(std::cout.rdbuf(text_.rdbuf())), error_(std::cerr.rdbuf(text_.rdbuf())) {}
  ~Silence() {
    std::cout.rdbuf(out_);
    std::cerr.rdbuf(error_);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;
  [[nodiscard]] bool said_something() const { return !text_.view().empty(); }

 private:
  std::ostringstream text_;
  std::streambuf* out_;
  std::streambuf* error_;
};

/// The words of an input, which are lines, as a main() gets them.
class Words {
 public:
  Words(const std::string& program, Input& input) : words_{program} {
    while (!input.empty() && words_.size() < words_max) {
      const std::string_view word = input.take_until('\n');
      words_.emplace_back(word.substr(0, word.find('\0')));
    }
    for (std::string& word : words_) pointers_.push_back(word.data());
    pointers_.push_back(nullptr);
  }
  [[nodiscard]] int count() const { return static_cast<int>(words_.size()); }
  [[nodiscard]] char** data() { return pointers_.data(); }

 private:
  static constexpr std::size_t words_max = 24;
  std::vector<std::string> words_;
  std::vector<char*> pointers_;
};

template <class Number>
void require_within(Number value, Number least, Number most, const char* name) {
  const bool within = value >= least && value <= most;  // false for what is no number
  if (!within) fail(std::string(name) + " is out of its bounds: " + std::to_string(value));
}

/// What a server does with its options before it binds an address.
int check_server(const apps::ServerConfig& config) {
  require(!config.listen.empty(), "a server without an address");
  require_within(config.threads, 1U, 256U, "--threads");
  require_within(config.buffers, 1U, 32768U, "--buffers");
  require_within<std::size_t>(config.buffer_bytes, 64, 1U << 24, "--buffer-size");
  require_within<std::size_t>(config.limit, 1, 1U << 30, "--limit");
  require_within(config.backlog, 1U, 65535U, "--backlog");
  require_within(config.drain_timeout_s, 0.0, 86400.0, "--drain-timeout");
  const LoopOptions options = config.loop_options();
  require(options.buffer_count == config.buffers, "another number of buffers");
  for (const std::string& text : config.listen) static_cast<void>(Endpoint::parse(text));
  return 0;
}

void check_server_line(Input& input) {
  CLI::App app("Under test.", "pelton-app");
  apps::ServerConfig config;
  config.add_to(app);
  Words words("pelton-app", input);
  const Silence silence;
  bool served = false;
  const int status = apps::run_command_line(app, words.count(), words.data(), [&] {
    served = true;
    return check_server(config);
  });
  if (served && status == 0) return require(!silence.said_something(), "a complaint and no error");
  require(silence.said_something(), "an end without a word");
  const bool known = served ? status == apps::exit_cannot_serve : status == 0 || status == 2;
  if (!known) fail("ends with " + std::to_string(status));
}

void check_bench_line([[maybe_unused]] Input& input) {
#ifdef PELTON_FUZZ_BENCH
  Words words("pelton-bench", input);
  const Silence silence;
  const bench::Parsed parsed = bench::parse_command_line(words.count(), words.data());
  if (!parsed.run) {
    require(silence.said_something(), "an end without a word");
    return require(parsed.status == 0 || parsed.status == 2, "an unknown exit status");
  }
  const bench::Options& options = parsed.options;
  require_within(options.connections, 1U, 1'000'000U, "--connections");
  require_within<std::size_t>(options.size, 1, 16U << 20, "--size");
  require_within(options.pipeline, 1U, 4096U, "--pipeline");
  require_within(options.rate, 0.0, 1e8, "--rate");
  require_within(options.duration_s, 0.01, 86400.0, "--duration");
  require_within(options.warmup_s, 0.0, 86400.0, "--warmup");
  require_within(options.timeout_s, 0.1, 3600.0, "--timeout");
  require_within(options.threads, 1U, std::min(256U, options.connections), "--threads");
  if (options.endpoint.kind == Endpoint::Kind::tcp) {
    require(options.endpoint.port != 0, "a load for port 0");
    require(Endpoint::parse(options.endpoint.to_string()) == options.endpoint, "another endpoint");
  }
  require(options.mode == bench::Mode::echo || !options.ping, "a PING of another mode");
#endif
}

}  // namespace
}  // namespace pelton::fuzz

PELTON_FUZZ_TARGET(options) {
  using namespace pelton::fuzz;
  switch (input.byte() % 6) {
    case 0:
      return check_busy_poll(input.rest());
    case 1:
      return check_batch_wait(input.rest());
    case 2:
      return check_engine(input.rest());
    case 3:
      return check_environment(input.rest());
    case 4:
      return check_server_line(input);
    default:
      return check_bench_line(input);
  }
}
