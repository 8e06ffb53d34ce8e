// relay: both directions of a proxied connection.
//
// What one side received is written to the other by reference: a lease of the receive buffer goes
// straight into the send queue, no byte is copied in user space. On request, a direction that is
// bulk is moved by splice(2) and not copied in the kernel either, for as long as it is bulk. Each
// direction is bounded by its reader's limit and its writer's high-water mark; the end of one
// side's stream is carried to the other as a half-close, while the opposite direction goes on.
//
// Neighbours: reader.hpp, writer.hpp. Used by pelton-proxy.
#pragma once

#include <pelton/stream/reader.hpp>
#include <pelton/stream/writer.hpp>

namespace pelton {

/// What a relay carried, and what ended it.
struct RelayResult {
  std::uint64_t bytes_from_first = 0;
  std::uint64_t bytes_from_second = 0;
  std::error_code error_first;  ///< why the direction from the first ended early, if it did
  std::error_code error_second;
};

struct RelayOptions {
  /// Moves a bulk direction between two sockets by splice(2): less CPU per byte, two descriptors
  /// and up to half a megabyte of the kernel's memory meanwhile. Only where SIGPIPE is ignored.
  bool splice = false;
};

/// Carries bytes both ways until both directions have ended, then closes both connections.
/// An error of either side aborts the other, so that its peer sees a reset or an end, not silence.
/// It is noticed also while a direction waits for room, unless reading its side is paused or a
/// splice has taken it over, which notices when it next moves.
/// \throws what a write threw, which aborts both; Cancelled; both connections are closing by then,
///     and end once what was written, or is in the pipe of a splice, is sent.
[[nodiscard]] Task<RelayResult> relay(StreamPair first, StreamPair second,
                                      RelayOptions options = {});
/// The same for who does not ask what it came to: its task takes half the memory.
[[nodiscard]] Task<> relay_unobserved(StreamPair first, StreamPair second,
                                      RelayOptions options = {});

}  // namespace pelton
