// The kernel's io_uring interface, completed: <linux/io_uring.h> plus the constants that the
// headers of the oldest supported distribution lack.
//
// Included by .cpp files only; public headers forward-declare io_uring_sqe and io_uring_cqe.
// Whether the running kernel has a feature is found by probe, never from this file.
#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>

namespace pelton::uapi {

// Linux 6.17: a multishot receive may be bounded, by sqe->len per pass (after which other requests
// have their turn) and by sqe->optlen in all (after which it ends with F_MORE clear and is armed
// anew). There is no flag: an older kernel answers -EINVAL to a value in either.
inline constexpr std::uint32_t recv_pass_bytes = 64 * 1024;
// A shot ends with the buffer that reaches its cap: with 16 KiB buffers, 128 KiB at the most.
inline constexpr std::uint32_t recv_total_bytes = 112 * 1024;

/// IORING_FEAT_MIN_TIMEOUT: io_uring_getevents_arg::pad is min_wait_usec.
inline constexpr std::uint32_t feature_min_timeout = 1U << 15;

/// sqe->optlen, which shares its place with splice_fd_in.
inline void set_optlen(io_uring_sqe& sqe, std::uint32_t bytes) noexcept {
  sqe.splice_fd_in = static_cast<std::int32_t>(bytes);
}

// The entries of a buffer ring lie at its beginning, and its tail in a spare field of the first.
// io_uring_buf_ring::bufs must not be used: an empty member before it, which takes no room in C,
// moves it by 8 bytes in C++.
static_assert(offsetof(io_uring_buf_ring, tail) == offsetof(io_uring_buf, resv));
[[nodiscard]] inline io_uring_buf* buffer_entries(io_uring_buf_ring* table) noexcept {
  return reinterpret_cast<io_uring_buf*>(table);
}

}  // namespace pelton::uapi
