// The one door through which pelton logs.
//
// Lines go to standard error as `pelton [warn] text`, unless an application installs a sink of
// its own. What writes them (spdlog) is known to log.cpp alone. pelton logs what an operator must
// act on and nothing per connection.
//
// Process-wide and thread-safe: call from any thread. A sink is called on the thread that logs,
// by several at once, and is destroyed when it has been replaced and its last call has returned.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace pelton {

/// How much a line matters. As a threshold, `off` silences all.
enum class LogLevel { debug, info, warn, error, off };

/// Gets every line that passes the threshold. `text` is borrowed for the call and has neither a
/// prefix nor a newline. May log itself, and may replace the sink. Exceptions are swallowed.
using LogSink = std::function<void(LogLevel level, std::string_view text)>;

/// Logs `text`, verbatim, if `level` passes the threshold. `off` is no level to log at: ignored.
/// Never throws: a line that cannot be written is lost.
void log(LogLevel level, std::string_view text) noexcept;

/// True if a line of `level` would be written: ask before composing a costly one.
[[nodiscard]] bool log_enabled(LogLevel level) noexcept;

/// Sets the threshold: lines below `level` are dropped. At first it is `info`.
void set_log_level(LogLevel level) noexcept;

/// The threshold.
[[nodiscard]] LogLevel log_level() noexcept;

/// Sends all lines to `sink`; an empty one brings standard error back. A call to the old sink that
/// has already begun on another thread may still be running when this returns.
void set_log_sink(LogSink sink);

/// Python's ResourceWarning: something was left open and had to be closed by a destructor. Counted
/// always, and logged as a warning, `ResourceWarning: text`.
void warn_resource(std::string_view text) noexcept;

/// How often warn_resource() was called in this process.
[[nodiscard]] std::uint64_t resource_warning_count() noexcept;

/// "debug", "info", "warn", "error", "off".
[[nodiscard]] std::string_view to_string(LogLevel level) noexcept;

}  // namespace pelton
