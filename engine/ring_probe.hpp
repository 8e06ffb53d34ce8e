// What a ring's optional features really do, found out before the first connection.
//
// A flag or a version says that a kernel has a feature; some kernels have it with a fault: a
// multishot receive on a unix socket that never tells the end, a multishot accept that loses a
// connection where the completion queue is full, a bounded wait that is not. So each feature is
// tried once, on a socket pair, to the byte and to the last completion, and what fails is not used.
// Everything is asked through Ring, as the engine asks it: any implementation can be tried.
//
// Neighbours: uring_ring.cpp tries a small ring of its own once per process; sqe.hpp has the
// operations. Where each fault was seen: the table of traps in ARCHITECTURE.md.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <pelton/engine/ring.hpp>

namespace pelton {

/// What a probe found.
struct ProbeVerdict {
  struct Refusal {
    bool RingInfo::*feature;
    std::string text;  ///< "feature: reason"
  };
  std::vector<Refusal> refusals;  ///< what is not to be used
  /// Why the ring must not be used at all: it received what had not been sent, without any of its
  /// features. Empty where it may be used.
  std::string unusable;
};

/// The sizes of a ring to try: its completion queue is soon full.
inline constexpr RingOptions probe_ring_options{
    .sq_entries = 8, .cq_entries = 16, .memory_patience = std::chrono::milliseconds(50)};

/// Tries each feature that the ring's info() claims. Takes less than a millisecond where all is
/// well, and 20 ms for each completion that does not come.
/// \param ring  fresh, of probe_ring_options; worn afterwards, it should be let go.
/// What cannot be tried, for want of descriptors or by a policy, is refused and told as such.
/// \throws OSError  not even receives can be tried.
[[nodiscard]] ProbeVerdict probe_features(Ring& ring);

/// The verdict where there is no ring to try: what can be tried is not used. \param reason  why.
[[nodiscard]] ProbeVerdict not_probed(const std::string& reason);

}  // namespace pelton
