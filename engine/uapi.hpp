// The kernel's io_uring interface, completed: <linux/io_uring.h> plus the constants that the
// headers of the oldest supported distribution lack.
//
// Included by .cpp files only; public headers forward-declare io_uring_sqe and io_uring_cqe.
// Whether the running kernel has a feature is found by probe, never from this file.
#pragma once

#include <linux/io_uring.h>

#include <cstdint>

namespace pelton::uapi {

// Kernel 6.17: sqe->len caps the bytes of one pass of a multishot receive.
// There is no flag: an older kernel answers -EINVAL to a non-zero len.
inline constexpr std::uint32_t recv_pass_bytes = 64 * 1024;

}  // namespace pelton::uapi
