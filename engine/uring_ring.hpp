// UringRing: the Ring that is a Linux io_uring, made through liburing.
//
// The only source that enters the kernel for I/O and the only one that includes <liburing.h>.
// Set-up asks for SINGLE_ISSUER | DEFER_TASKRUN | SUBMIT_ALL | CQSIZE | TASKRUN_FLAG, retries
// ENOMEM while a previous process's locked-memory charge drains, shrinks after that, and probes
// each optional feature on a socket pair instead of comparing versions.
//
// Neighbours: ring.hpp is what the engine sees. Thread rule: one thread, after any fork.
#pragma once

#include <memory>
#include <string_view>

#include <pelton/engine/ring.hpp>

namespace pelton {

/// A ring that cannot be made. what() names the errno, kernel.io_uring_disabled, the seccomp
/// mode, the locked-memory limit, and the remedy for each cause that fits.
class RingUnavailable : public OSError {
 public:
  RingUnavailable(std::error_code code, std::string text) : OSError(code), text_(std::move(text)) {}
  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

/// Makes an io_uring.
/// \throws RingUnavailable  the kernel or a policy refuses it.
[[nodiscard]] std::unique_ptr<Ring> make_uring_ring(const RingOptions& options);

/// The text of RingUnavailable for `what`, a call that failed with this errno, from the facts of
/// this host.
[[nodiscard]] std::string explain_ring_refusal(
    int errno_value, std::string_view what = "io_uring is refused on this host: io_uring_setup");

}  // namespace pelton
