// EpollRing: the Ring that carries SQEs out itself, over epoll and calls that do not wait.
//
// For hosts that refuse io_uring. It answers each operation of sqe.hpp as the kernel's ring does:
// what can be done at once is done at submission, the rest when epoll reports its descriptor;
// nothing completes but in enter() and submit().
//
// What is told differently:
//   - it holds no reference to a file. A descriptor is closed only after each of its operations has
//     ended, or was asked to end by a cancel that was queued before: submissions are taken in
//     order, so that the number is free when its next owner submits. pelton closes in that order:
//     transports, listeners and connects after the final completion, a splice's poll after its
//     cancel;
//   - a cancel answers 0 or -ENOENT, never -EALREADY: nothing is ever half done;
//   - has_work() says that there may be some: nobody but enter() looks.
//
// Neighbours: ring.hpp is what the engine sees; epoll_ops.hpp keeps what waits, epoll_calls.hpp has
// the system calls. Thread rule: one thread.
#pragma once

#include <memory>

#include <pelton/engine/ring.hpp>

namespace pelton {

/// Makes a ring over epoll. `options.memory_patience` is not needed.
/// \throws OSError  there is no descriptor or no memory for it.
[[nodiscard]] std::unique_ptr<Ring> make_epoll_ring(const RingOptions& options);

}  // namespace pelton
