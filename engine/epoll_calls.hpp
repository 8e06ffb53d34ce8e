// The system calls of an EpollRing: none waits but wait(), and each returns a count or a negated
// errno.
//
// Receiving and sending go around the C library's wrappers: what is received into belongs to the
// ring, as the kernel's own buffers do, and is poisoned while it does where AddressSanitizer looks.
//
// Neighbours: epoll_ring.cpp is the only user. Stateless, but for what a kernel was found to lack.
#pragma once

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace pelton::epoll_calls {

[[nodiscard]] int receive(int fd, const iovec& memory, std::uint32_t flags) noexcept;
/// Into several pieces. \param hides_more  Set if a unix socket stopped short at the sender or the
///     descriptors of a message.
[[nodiscard]] int receive_pieces(int fd, std::span<iovec> memory, std::uint32_t flags,
                                 bool& hides_more) noexcept;
/// False if a receive would wait. Takes nothing off the socket, its error neither.
[[nodiscard]] bool has_more(int fd) noexcept;
[[nodiscard]] int send(int fd, std::uint64_t address, std::size_t size,
                       std::uint32_t flags) noexcept;
/// Sends `message` but for its first `done` bytes, a bounded number of its pieces at a time.
[[nodiscard]] int send_rest(int fd, const msghdr& message, std::uint64_t done,
                            std::uint32_t flags) noexcept;
[[nodiscard]] std::uint64_t size_of(const msghdr& message) noexcept;
/// \return the new connection.
[[nodiscard]] int accept(int fd, std::uint32_t flags) noexcept;
/// Begins to connect, or tells what became of it: -EINPROGRESS while that is open.
[[nodiscard]] int connect(int fd, std::uint64_t address, std::uint64_t size) noexcept;
/// -EAGAIN where it would wait, also on a descriptor that is blocking.
[[nodiscard]] int read(int fd, std::uint64_t address, std::size_t size,
                       std::uint64_t offset) noexcept;
/// \return those of `events` that are, and what is an end or an error; 0 for none.
[[nodiscard]] int poll(int fd, std::uint32_t events) noexcept;

/// epoll_wait(2) for at most `timeout`; negative: for ever. \return how many events there are.
[[nodiscard]] int wait(int epoll, std::span<epoll_event> events,
                       std::chrono::nanoseconds timeout) noexcept;

/// O_NONBLOCK. \return true if it was not set before.
[[nodiscard]] bool make_nonblocking(int fd) noexcept;
void make_blocking(int fd) noexcept;
/// AF_UNSPEC for what is no socket, and for internet sockets other than TCP's.
[[nodiscard]] int family(int fd) noexcept;

}  // namespace pelton::epoll_calls
