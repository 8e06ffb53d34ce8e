// The logging door: thresholds, sinks, standard error and resource warnings.
//
// The log is process-wide, so every test puts the threshold and the sink back (LogGuard). What
// goes to standard error is read from descriptor 2 itself, past spdlog.
#include <pelton/engine/log.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace std::string_view_literals;
using pelton::log;
using pelton::LogLevel;

namespace {

/// Puts the threshold and the sink back when a test ends.
class LogGuard {
 public:
  LogGuard() = default;
  LogGuard(const LogGuard&) = delete;
  LogGuard& operator=(const LogGuard&) = delete;
  ~LogGuard() {
    pelton::set_log_sink({});
    pelton::set_log_level(level_);
  }

 private:
  LogLevel level_ = pelton::log_level();
};

/// What `action` writes to file descriptor 2.
template <class Action>
std::string standard_error_of(Action action) {
  std::FILE* const file = std::tmpfile();
  REQUIRE(file != nullptr);
  std::fflush(stderr);
  const int saved = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  REQUIRE(saved >= 0);
  REQUIRE(::dup2(::fileno(file), STDERR_FILENO) == STDERR_FILENO);
  action();
  std::fflush(stderr);
  REQUIRE(::dup2(saved, STDERR_FILENO) == STDERR_FILENO);
  ::close(saved);
  std::rewind(file);
  std::string text;
  for (int byte = std::fgetc(file); byte != EOF; byte = std::fgetc(file)) {
    text.push_back(static_cast<char>(byte));
  }
  std::fclose(file);
  return text;
}

using Line = std::pair<LogLevel, std::string>;

}  // namespace

TEST_CASE("lines go to standard error with pelton's name and the level") {
  const LogGuard guard;
  pelton::set_log_level(LogLevel::debug);
  CHECK(standard_error_of([] {
          log(LogLevel::debug, "one");
          log(LogLevel::info, "two");
          log(LogLevel::warn, "three");
          log(LogLevel::error, "four");
        }) == "pelton [debug] one\npelton [info] two\npelton [warn] three\npelton [error] four\n");
}

TEST_CASE("a line's text is verbatim: neither a format nor a C string") {
  const LogGuard guard;
  CHECK(standard_error_of([] { log(LogLevel::warn, "{} %s %v {0"sv); }) ==
        "pelton [warn] {} %s %v {0\n");
  CHECK(standard_error_of([] { log(LogLevel::warn, "a\0b"sv); }) == "pelton [warn] a\0b\n"sv);
  CHECK(standard_error_of([] { log(LogLevel::warn, ""); }) == "pelton [warn] \n");
  CHECK(standard_error_of([] { log(LogLevel::warn, std::string_view("abcdef", 3)); }) ==
        "pelton [warn] abc\n");
}

TEST_CASE("the threshold is info at first and drops what is below") {
  const LogGuard guard;
  CHECK(pelton::log_level() == LogLevel::info);
  std::vector<LogLevel> seen;
  pelton::set_log_sink([&seen](LogLevel level, std::string_view) { seen.push_back(level); });
  for (const auto threshold :
       {LogLevel::debug, LogLevel::info, LogLevel::warn, LogLevel::error, LogLevel::off}) {
    CAPTURE(pelton::to_string(threshold));
    pelton::set_log_level(threshold);
    CHECK(pelton::log_level() == threshold);
    seen.clear();
    std::vector<LogLevel> expected;
    for (const auto level : {LogLevel::debug, LogLevel::info, LogLevel::warn, LogLevel::error}) {
      log(level, "text");
      CHECK(pelton::log_enabled(level) == (level >= threshold));
      if (level >= threshold) expected.push_back(level);
    }
    CHECK(seen == expected);
  }
}

TEST_CASE("off is no level to log at") {
  const LogGuard guard;
  int calls = 0;
  pelton::set_log_sink([&calls](LogLevel, std::string_view) { ++calls; });
  for (const auto threshold : {LogLevel::debug, LogLevel::off}) {
    pelton::set_log_level(threshold);
    log(LogLevel::off, "text");
    CHECK_FALSE(pelton::log_enabled(LogLevel::off));
  }
  CHECK(calls == 0);
}

TEST_CASE("a sink gets the lines instead of standard error, until an empty one is set") {
  const LogGuard guard;
  std::vector<Line> lines;
  pelton::set_log_sink(
      [&lines](LogLevel level, std::string_view text) { lines.emplace_back(level, text); });
  CHECK(standard_error_of([] { log(LogLevel::error, "mine"); }).empty());
  CHECK(lines == std::vector<Line>{{LogLevel::error, "mine"}});
  pelton::set_log_sink({});
  CHECK(standard_error_of([] { log(LogLevel::error, "back"); }) == "pelton [error] back\n");
  CHECK(lines.size() == 1);
}

TEST_CASE("what a sink throws stays inside the log") {
  const LogGuard guard;
  int calls = 0;
  pelton::set_log_sink([&calls](LogLevel, std::string_view) {
    ++calls;
    throw std::runtime_error("the disk is full");
  });
  log(LogLevel::warn, "text");
  log(LogLevel::warn, "text");
  CHECK(calls == 2);
}

TEST_CASE("a sink may log and may replace itself") {
  const LogGuard guard;
  std::vector<std::string> lines;
  pelton::set_log_sink([&lines](LogLevel, std::string_view text) {
    lines.emplace_back(text);
    if (text == "outer") log(LogLevel::warn, "inner");
    if (text == "replace") pelton::set_log_sink([](LogLevel, std::string_view) {});
    lines.emplace_back("after");  // the running sink is alive to its end
  });
  log(LogLevel::warn, "outer");
  log(LogLevel::warn, "replace");
  log(LogLevel::warn, "unseen");
  CHECK(lines == std::vector<std::string>{"outer", "inner", "after", "after", "replace", "after"});
}

TEST_CASE("the destructor of a replaced sink may log") {
  const LogGuard guard;
  struct Farewell {
    ~Farewell() { log(LogLevel::warn, "farewell"); }
  };
  std::vector<std::string> lines;
  pelton::set_log_sink([farewell = std::make_shared<Farewell>()](LogLevel, std::string_view) {});
  pelton::set_log_sink([&lines](LogLevel, std::string_view text) { lines.emplace_back(text); });
  CHECK(lines == std::vector<std::string>{"farewell"});
}

TEST_CASE("many threads may log while the sink and the threshold change") {
  const LogGuard guard;
  constexpr int per_thread = 2000;
  std::atomic<int> received{0};
  const auto count = [&received](LogLevel, std::string_view text) {
    if (text == "line") received.fetch_add(1);
  };
  pelton::set_log_sink(count);
  std::vector<std::thread> threads;
  for (int index = 0; index < 4; ++index) {
    threads.emplace_back([] {
      for (int line = 0; line < per_thread; ++line) log(LogLevel::error, "line");
    });
  }
  for (int round = 0; round < 200; ++round) {
    pelton::set_log_sink(count);
    pelton::set_log_level(round % 2 == 0 ? LogLevel::debug : LogLevel::error);
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(received.load() == 4 * per_thread);
}

TEST_CASE("a resource warning is counted and logged as a warning") {
  const LogGuard guard;
  std::vector<Line> lines;
  pelton::set_log_sink(
      [&lines](LogLevel level, std::string_view text) { lines.emplace_back(level, text); });
  const std::uint64_t before = pelton::resource_warning_count();
  pelton::warn_resource("unclosed transport");
  CHECK(pelton::resource_warning_count() == before + 1);
  CHECK(lines == std::vector<Line>{{LogLevel::warn, "ResourceWarning: unclosed transport"}});
}

TEST_CASE("a resource warning is counted also where it is not logged") {
  const LogGuard guard;
  int calls = 0;
  pelton::set_log_sink([&calls](LogLevel, std::string_view) { ++calls; });
  pelton::set_log_level(LogLevel::error);
  const std::uint64_t before = pelton::resource_warning_count();
  pelton::warn_resource("unclosed transport");
  CHECK(pelton::resource_warning_count() == before + 1);
  CHECK(calls == 0);
}

TEST_CASE("levels have names") {
  CHECK(pelton::to_string(LogLevel::debug) == "debug");
  CHECK(pelton::to_string(LogLevel::info) == "info");
  CHECK(pelton::to_string(LogLevel::warn) == "warn");
  CHECK(pelton::to_string(LogLevel::error) == "error");
  CHECK(pelton::to_string(LogLevel::off) == "off");
}
