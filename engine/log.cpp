// The only file that knows spdlog.
//
// The state is made at the first use and never destroyed, so that destructors of static objects
// may still log. The logger is not put into spdlog's registry: the application's is its own.
#include <pelton/engine/log.hpp>

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace pelton {

namespace {

std::atomic<LogLevel> threshold{LogLevel::info};
std::atomic<std::uint64_t> resource_warnings{0};

/// Guards the installed sink. Lines are written outside of the lock, so that a sink may log.
struct SinkSlot {
  std::mutex mutex;
  std::shared_ptr<const LogSink> sink;
};

SinkSlot& sink_slot() {
  static auto* const slot = new SinkSlot;
  return *slot;
}

spdlog::level::level_enum spdlog_level(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warn:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::off:
      break;
  }
  return spdlog::level::off;
}

/// The `%*` of our pattern: the level under our name for it (spdlog's %l says "warning").
class LevelFlag final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    const std::string_view name = name_of(message.level);
    out.append(name.data(), name.data() + name.size());
  }

  [[nodiscard]] std::unique_ptr<spdlog::custom_flag_formatter> clone() const override {
    return std::make_unique<LevelFlag>();
  }

 private:
  static std::string_view name_of(spdlog::level::level_enum level) noexcept {
    for (const auto ours : {LogLevel::debug, LogLevel::info, LogLevel::warn, LogLevel::error}) {
      if (spdlog_level(ours) == level) return to_string(ours);
    }
    return to_string(LogLevel::off);
  }
};

spdlog::logger& stderr_logger() {
  static spdlog::logger* const logger = [] {
    auto made = std::make_unique<spdlog::logger>("pelton",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<LevelFlag>('*').set_pattern("pelton [%*] %v");
    made->set_formatter(std::move(formatter));
    made->set_level(spdlog::level::trace);  // the threshold is ours
    made->flush_on(spdlog::level::trace);
    made->set_error_handler([](const std::string&) {});  // standard error is gone: nobody to tell
    return made.release();
  }();
  return *logger;
}

std::shared_ptr<const LogSink> current_sink() {
  SinkSlot& slot = sink_slot();
  const std::lock_guard lock(slot.mutex);
  return slot.sink;
}

}  // namespace

void log(LogLevel level, std::string_view text) noexcept {
  if (!log_enabled(level)) return;
  try {
    if (const auto sink = current_sink()) {
      (*sink)(level, text);
    } else {
      stderr_logger().log(spdlog_level(level), spdlog::string_view_t(text.data(), text.size()));
    }
  } catch (...) {
    // A line is not worth a server: neither the sink's failure nor a lack of memory ends it.
  }
}

bool log_enabled(LogLevel level) noexcept { return level != LogLevel::off && level >= log_level(); }

void set_log_level(LogLevel level) noexcept { threshold.store(level, std::memory_order_relaxed); }

LogLevel log_level() noexcept { return threshold.load(std::memory_order_relaxed); }

void set_log_sink(LogSink sink) {
  std::shared_ptr<const LogSink> next;
  if (sink) next = std::make_shared<const LogSink>(std::move(sink));
  SinkSlot& slot = sink_slot();
  {
    const std::lock_guard lock(slot.mutex);
    slot.sink.swap(next);
  }
  // `next` is now the old sink and dies here, outside of the lock: its destructor may log.
}

void warn_resource(std::string_view text) noexcept {
  resource_warnings.fetch_add(1, std::memory_order_relaxed);
  if (!log_enabled(LogLevel::warn)) return;
  try {
    log(LogLevel::warn, "ResourceWarning: " + std::string(text));
  } catch (...) {
    log(LogLevel::warn, "ResourceWarning");  // no memory to compose the text
  }
}

std::uint64_t resource_warning_count() noexcept {
  return resource_warnings.load(std::memory_order_relaxed);
}

std::string_view to_string(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warn:
      return "warn";
    case LogLevel::error:
      return "error";
    case LogLevel::off:
      break;
  }
  return "off";
}

}  // namespace pelton
