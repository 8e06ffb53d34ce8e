// Moving bytes between sockets by reference: a pipe, and splice(2) into and out of it.
//
// The kernel hands over pages instead of copying bytes. No call here waits if the socket is
// non-blocking, which splice(2) goes by: what is not possible at once is EAGAIN, and waiting for it
// is the ring's (sqe::poll). Functions that take a socket borrow it. Callers ignore SIGPIPE:
// splice(2) knows no MSG_NOSIGNAL.
//
// Neighbours: socket.hpp, whose OwnedFd a pipe is made of; proto/socket_splice.hpp uses it.
// Stateless but for the pipe's owner.
#pragma once

#include <cstddef>

#include <pelton/engine/socket.hpp>

namespace pelton {

/// A pipe, both ends non-blocking and close-on-exec.
struct SplicePipe {
  OwnedFd out;  ///< what was moved in comes out here
  OwnedFd in;

  /// \param bytes  How much it holds, a power of two.
  /// \return EMFILE or ENFILE without a free descriptor, EPERM where the pipes of an unprivileged
  ///     user hold as much as fs.pipe-user-pages-soft allows, or `bytes` is beyond
  ///     fs.pipe-max-size.
  [[nodiscard]] static Result<SplicePipe> open(std::size_t bytes) noexcept;
};

/// Moves at most `bytes` from a socket into the pipe. \return how many; 0 at the end of the stream.
[[nodiscard]] Result<std::size_t> splice_from(int socket, const SplicePipe& pipe,
                                              std::size_t bytes) noexcept;
/// Moves at most `bytes` from the pipe into a socket.
[[nodiscard]] Result<std::size_t> splice_to(int socket, const SplicePipe& pipe,
                                            std::size_t bytes) noexcept;

/// Takes `bytes` out of the pipe into memory. Precondition: it holds as many.
[[nodiscard]] Result<void> read_from(const SplicePipe& pipe, std::byte* memory,
                                     std::size_t bytes) noexcept;

/// SO_RCVLOWAT: the socket is reported readable when it holds `bytes`, at its end, or on an error.
/// Cut to a quarter of its receive buffer, so that it never makes the buffer grow.
/// \return what was set.
[[nodiscard]] Result<std::size_t> set_receive_low_water(int socket, std::size_t bytes) noexcept;

/// False where writing to a broken connection would end the process.
[[nodiscard]] bool broken_pipe_ignored() noexcept;

}  // namespace pelton
