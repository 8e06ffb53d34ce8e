// The exceptions that carry data, and the codes that the try_ functions return in their place.
//
// Texts and attributes are asyncio's (Lib/asyncio/exceptions.py, streams.py). All are copyable.
//
// Neighbours: engine/error.hpp has the others: Cancelled, OSError and its kin, ValueError.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>

#include <pelton/engine/bytes.hpp>
#include <pelton/engine/error.hpp>

namespace pelton {

/// Why a try_ function gave no bytes, where it was not an errno: that of the connection's failure,
/// or EIO for an exception that was set and carries none.
enum class StreamErrc {
  incomplete_read = 1,  ///< the stream ended first: IncompleteReadError
  limit_overrun,        ///< no separator within the limit: LimitOverrunError
  concurrent_read,      ///< another read waits already: RuntimeError
  invalid_argument,     ///< ValueError
};
/// Category "pelton.stream".
[[nodiscard]] const std::error_category& stream_category() noexcept;
[[nodiscard]] inline std::error_code make_error_code(StreamErrc code) noexcept {
  return {static_cast<int>(code), stream_category()};
}

/// Python's EOFError.
class EOFError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The stream ended before a read was satisfied.
/// what(): "N bytes read on a total of M expected bytes", M "undefined" if there was no number.
class IncompleteReadError : public EOFError {
 public:
  IncompleteReadError(Bytes partial, std::optional<std::size_t> expected);
  /// What was read before the end; it is taken off the reader.
  [[nodiscard]] const Bytes& partial() const noexcept { return partial_; }
  /// The bytes asked for; nothing for readuntil.
  [[nodiscard]] std::optional<std::size_t> expected() const noexcept { return expected_; }

 private:
  Bytes partial_;
  std::optional<std::size_t> expected_;
};

/// readuntil ran over the reader's limit. The data stays in the reader.
class LimitOverrunError : public std::runtime_error {
 public:
  LimitOverrunError(const std::string& message, std::size_t consumed)
      : std::runtime_error(message), consumed_(consumed) {}
  /// Bytes that can be read without meeting the separator.
  [[nodiscard]] std::size_t consumed() const noexcept { return consumed_; }

 private:
  std::size_t consumed_;
};

}  // namespace pelton

template <>
struct std::is_error_code_enum<pelton::StreamErrc> : std::true_type {};
