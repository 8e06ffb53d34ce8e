// How pelton fills SQEs: one function per operation that it submits, and no other.
//
// Pure functions on a zeroed io_uring_sqe; the loop sets user_data. Included by .cpp files only.
// Any Ring must understand what is written here: this file is the list of what pelton asks of one.
#pragma once

#include <sys/socket.h>

#include <bit>
#include <cstdint>

#include <pelton/engine/uapi.hpp>

namespace pelton::sqe {

/// The operations below, which a restricted ring takes.
inline constexpr std::uint8_t operations[] = {
    IORING_OP_RECV, IORING_OP_SEND,     IORING_OP_SENDMSG, IORING_OP_ACCEPT,
    IORING_OP_READ, IORING_OP_POLL_ADD, IORING_OP_CONNECT, IORING_OP_ASYNC_CANCEL,
};
/// And the flags of an SQE.
inline constexpr std::uint8_t sqe_flags = IOSQE_BUFFER_SELECT;

inline void set_address(io_uring_sqe& sqe, const void* pointer) noexcept {
  sqe.addr = reinterpret_cast<std::uintptr_t>(pointer);
}

/// Multishot receive into buffers of `group`. \param pass_bytes, total_bytes  caps of one pass and
/// of the whole shot; 0 for none, and on kernels that know none (RingInfo::recv_caps).
inline void recv_multishot(io_uring_sqe& sqe, int fd, std::uint16_t group, std::uint32_t pass_bytes,
                           std::uint32_t total_bytes) noexcept {
  sqe.opcode = IORING_OP_RECV;
  sqe.fd = fd;
  sqe.ioprio = IORING_RECV_MULTISHOT;
  sqe.flags = IOSQE_BUFFER_SELECT;
  sqe.buf_group = group;
  sqe.len = pass_bytes;
  uapi::set_optlen(sqe, total_bytes);
}

/// Receive into one buffer of `group`, once: where multishot is not to be trusted.
inline void recv_once(io_uring_sqe& sqe, int fd, std::uint16_t group) noexcept {
  sqe.opcode = IORING_OP_RECV;
  sqe.fd = fd;
  sqe.flags = IOSQE_BUFFER_SELECT;
  sqe.buf_group = group;
}

/// Send of one piece. MSG_WAITALL: the kernel goes on after a short send by itself.
inline void send(io_uring_sqe& sqe, int fd, const void* data, std::uint32_t size) noexcept {
  sqe.opcode = IORING_OP_SEND;
  sqe.fd = fd;
  set_address(sqe, data);
  sqe.len = size;
  sqe.msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
}

/// Send of several pieces; `message` and its iovecs stay until the final CQE.
inline void sendmsg(io_uring_sqe& sqe, int fd, const msghdr* message) noexcept {
  sqe.opcode = IORING_OP_SENDMSG;
  sqe.fd = fd;
  set_address(sqe, message);
  sqe.len = 1;
  sqe.msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
}

/// Multishot accept. No address: one buffer would serve every connection of the shot.
inline void accept_multishot(io_uring_sqe& sqe, int fd) noexcept {
  sqe.opcode = IORING_OP_ACCEPT;
  sqe.fd = fd;
  sqe.ioprio = IORING_ACCEPT_MULTISHOT;
  sqe.accept_flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
}

/// Accept of one connection: where multishot is not to be trusted.
inline void accept_once(io_uring_sqe& sqe, int fd) noexcept {
  sqe.opcode = IORING_OP_ACCEPT;
  sqe.fd = fd;
  sqe.accept_flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
}

inline void connect(io_uring_sqe& sqe, int fd, const sockaddr* address, socklen_t size) noexcept {
  sqe.opcode = IORING_OP_CONNECT;
  sqe.fd = fd;
  set_address(sqe, address);
  sqe.off = size;
}

inline void read(io_uring_sqe& sqe, int fd, void* data, std::uint32_t size) noexcept {
  sqe.opcode = IORING_OP_READ;
  sqe.fd = fd;
  set_address(sqe, data);
  sqe.len = size;
  sqe.off = ~std::uint64_t{0};  // the file position: eventfds and pipes have none
}

/// Waits, once, until `fd` is ready for one of `events` (POLLIN...), at its end or broken.
inline void poll(io_uring_sqe& sqe, int fd, unsigned events) noexcept {
  sqe.opcode = IORING_OP_POLL_ADD;
  sqe.fd = fd;
  sqe.poll32_events =
      std::endian::native == std::endian::big ? events << 16 | events >> 16 : events;
}

/// Cancels the operation with this user_data.
inline void cancel(io_uring_sqe& sqe, std::uint64_t target) noexcept {
  sqe.opcode = IORING_OP_ASYNC_CANCEL;
  sqe.fd = -1;
  sqe.addr = target;
}

}  // namespace pelton::sqe
