// splice(2), pipes and the low-water mark. See splice.hpp.
#include <pelton/engine/splice.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace pelton {
namespace {

Result<std::size_t> move_pages(int from, int to, std::size_t bytes) noexcept {
  // No SPLICE_F_MORE: a small last piece would wait for more that may never come.
  const ssize_t moved =
      ::splice(from, nullptr, to, nullptr, bytes, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
  if (moved < 0) return errno_result(errno);
  return static_cast<std::size_t>(moved);
}

}  // namespace

Result<SplicePipe> SplicePipe::open(std::size_t bytes) noexcept {
  std::array<int, 2> fds{-1, -1};
  if (::pipe2(fds.data(), O_CLOEXEC | O_NONBLOCK) < 0) return errno_result(errno);
  SplicePipe pipe{OwnedFd(fds[0]), OwnedFd(fds[1])};
  if (::fcntl(fds[1], F_SETPIPE_SZ, static_cast<int>(bytes)) < 0) return errno_result(errno);
  return pipe;
}

Result<std::size_t> splice_from(int socket, const SplicePipe& pipe, std::size_t bytes) noexcept {
  return move_pages(socket, pipe.in.get(), bytes);
}

Result<std::size_t> splice_to(int socket, const SplicePipe& pipe, std::size_t bytes) noexcept {
  return move_pages(pipe.out.get(), socket, bytes);
}

Result<void> read_from(const SplicePipe& pipe, std::byte* memory, std::size_t bytes) noexcept {
  while (bytes > 0) {
    const ssize_t count = ::read(pipe.out.get(), memory, bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return errno_result(count < 0 ? errno : EIO);
    memory += count;
    bytes -= static_cast<std::size_t>(count);
  }
  return {};
}

Result<std::size_t> set_receive_low_water(int socket, std::size_t bytes) noexcept {
  if (bytes > 1) {
    int room = 0;
    socklen_t size = sizeof room;
    if (::getsockopt(socket, SOL_SOCKET, SO_RCVBUF, &room, &size) < 0) return errno_result(errno);
    bytes = std::clamp<std::size_t>(static_cast<std::size_t>(room) / 4, 1, bytes);
  }
  const int value = static_cast<int>(bytes);
  if (::setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value) < 0) {
    return errno_result(errno);
  }
  return bytes;
}

bool broken_pipe_ignored() noexcept {
  struct sigaction action {};
  return ::sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler != SIG_DFL;
}

}  // namespace pelton
