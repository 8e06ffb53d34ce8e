// Non-blocking receiving, sending, accepting, connecting, reading and polling. See epoll_calls.hpp.
#include <pelton/engine/epoll_calls.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <limits>

namespace pelton::epoll_calls {
namespace {

constexpr std::size_t pieces_max = 64;
constexpr std::uint64_t file_position = ~std::uint64_t{0};

int count_or_error(long returned) noexcept {
  return returned < 0 ? -errno : static_cast<int>(returned);
}

}  // namespace

int receive(int fd, const iovec& memory, std::uint32_t flags) noexcept {
  return count_or_error(::syscall(SYS_recvfrom, fd, memory.iov_base, memory.iov_len,
                                  flags | MSG_DONTWAIT, nullptr, nullptr));
}

int receive_pieces(int fd, std::span<iovec> memory, std::uint32_t flags,
                   bool& hides_more) noexcept {
  msghdr message{};
  message.msg_iov = memory.data();
  message.msg_iovlen = memory.size();
  const int count = count_or_error(::syscall(SYS_recvmsg, fd, &message, flags | MSG_DONTWAIT));
  // What was passed along was cut off, since nobody takes it.
  if (count > 0 && (message.msg_flags & MSG_CTRUNC)) hides_more = true;
  return count;
}

bool has_more(int fd) noexcept {
  return poll(fd, POLLIN | POLLRDHUP) != 0;  // a peek would take the socket's error
}

int send(int fd, std::uint64_t address, std::size_t size, std::uint32_t flags) noexcept {
  return count_or_error(
      ::syscall(SYS_sendto, fd, address, size, flags | MSG_DONTWAIT | MSG_NOSIGNAL, nullptr, 0));
}

int send_rest(int fd, const msghdr& message, std::uint64_t done, std::uint32_t flags) noexcept {
  flags |= MSG_DONTWAIT | MSG_NOSIGNAL;
  if (done == 0) return count_or_error(::syscall(SYS_sendmsg, fd, &message, flags));
  std::array<iovec, pieces_max> pieces;
  msghdr rest{};
  rest.msg_iov = pieces.data();
  for (std::size_t index = 0; index < message.msg_iovlen && rest.msg_iovlen < pieces_max; ++index) {
    const iovec& piece = message.msg_iov[index];
    if (done >= piece.iov_len) {
      done -= piece.iov_len;
      continue;
    }
    pieces[rest.msg_iovlen++] = {static_cast<std::byte*>(piece.iov_base) + done,
                                 piece.iov_len - static_cast<std::size_t>(done)};
    done = 0;
  }
  return count_or_error(::syscall(SYS_sendmsg, fd, &rest, flags));
}

std::uint64_t size_of(const msghdr& message) noexcept {
  std::uint64_t size = 0;
  for (std::size_t index = 0; index < message.msg_iovlen; ++index) {
    size += message.msg_iov[index].iov_len;
  }
  return size;
}

int accept(int fd, std::uint32_t flags) noexcept {
  return count_or_error(::accept4(fd, nullptr, nullptr, static_cast<int>(flags)));
}

int connect(int fd, std::uint64_t address, std::uint64_t size) noexcept {
  const int result = count_or_error(
      ::connect(fd, reinterpret_cast<const sockaddr*>(address), static_cast<socklen_t>(size)));
  // Interrupted, it goes on all the same; a second call finds it open still.
  return result == -EINTR || result == -EALREADY ? -EINPROGRESS : result;
}

int read(int fd, std::uint64_t address, std::size_t size, std::uint64_t offset) noexcept {
  if (const int ready = poll(fd, POLLIN); ready <= 0) return ready == 0 ? -EAGAIN : ready;
  auto* const data = reinterpret_cast<void*>(address);
  if (offset == file_position) return count_or_error(::read(fd, data, size));
  return count_or_error(::pread(fd, data, size, static_cast<off_t>(offset)));
}

int poll(int fd, std::uint32_t events) noexcept {
  pollfd asked{fd, static_cast<short>(events), 0};
  if (::poll(&asked, 1, 0) < 0) return -errno;
  return asked.revents & POLLNVAL ? -EBADF
                                  : static_cast<int>(static_cast<unsigned short>(asked.revents));
}

int wait(int epoll, std::span<epoll_event> events, std::chrono::nanoseconds timeout) noexcept {
  using std::chrono::milliseconds;
  static std::atomic<bool> has_pwait2 = true;  // Linux 5.11, and filters that know it
  const int most = static_cast<int>(events.size());
  if (timeout <= std::chrono::nanoseconds::zero()) {
    const int limit = timeout == std::chrono::nanoseconds::zero() ? 0 : -1;
    return count_or_error(::epoll_wait(epoll, events.data(), most, limit));
  }
  if (has_pwait2.load(std::memory_order_relaxed)) {
    const timespec limit{.tv_sec = timeout.count() / 1'000'000'000,
                         .tv_nsec = timeout.count() % 1'000'000'000};
    const int count = count_or_error(::epoll_pwait2(epoll, events.data(), most, &limit, nullptr));
    if (count != -ENOSYS && count != -EPERM) return count;
    has_pwait2 = false;
  }
  const auto limit = std::chrono::ceil<milliseconds>(timeout);  // sooner would be a busy loop
  const auto longest = milliseconds(std::numeric_limits<int>::max());
  return count_or_error(
      ::epoll_wait(epoll, events.data(), most, static_cast<int>(std::min(limit, longest).count())));
}

bool make_nonblocking(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && !(flags & O_NONBLOCK) && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

void make_blocking(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags >= 0) static_cast<void>(::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK));
}

int family(int fd) noexcept {
  int domain = AF_UNSPEC;
  socklen_t size = sizeof domain;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return AF_UNSPEC;
  if (domain != AF_INET && domain != AF_INET6) return domain;
  int protocol = 0;
  size = sizeof protocol;
  const int result = ::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size);
  return result == 0 && protocol == IPPROTO_TCP ? domain : AF_UNSPEC;
}

}  // namespace pelton::epoll_calls
