// Which ring a loop gets: the one that was asked for, or the best that this host allows.
//
// `auto` is io_uring, and epoll where that is refused: the first refusal of the process is told
// with one warning, each ring tells it in RingInfo::turned_down. The environment variable
// PELTON_ENGINE says what `auto` means, so that a program or a test need not be changed to run on
// another ring; what was asked for by name is not changed by it.
//
// Neighbours: loop.hpp makes its ring here; uring_ring.hpp and epoll_ring.hpp are what there is.
#pragma once

#include <memory>

#include <pelton/engine/loop_options.hpp>
#include <pelton/engine/ring.hpp>

namespace pelton {

/// What `engine` means: itself, or for `automatic` what PELTON_ENGINE says, where it says
/// something. \throws ValueError  PELTON_ENGINE cannot be read.
[[nodiscard]] Engine resolve_engine(Engine engine);

/// \throws RingUnavailable  io_uring is refused and nothing else may be taken.
[[nodiscard]] std::unique_ptr<Ring> make_ring(Engine engine, const RingOptions& options);

/// The ring to take where io_uring cannot be used for this reason, which is told once.
/// \throws OSError  there is no other.
[[nodiscard]] std::unique_ptr<Ring> make_ring_instead(const RingOptions& options,
                                                      const std::string& reason);

}  // namespace pelton
