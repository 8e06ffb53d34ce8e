// The direct calls of pelton's sources, sent to the World where one is in progress.
//
// The linker's --wrap makes each reference to NAME one to __wrap_NAME, so that engine/socket.cpp
// itself is part of what is simulated, and the product has no seam for it. Descriptors below
// World::fd_base are the process's own.
//
// Neighbours: CMakeLists.txt lists the names; world.hpp keeps the descriptors and the clock.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include "sim/world.hpp"

using pelton::sim::Connection;
using pelton::sim::File;
using pelton::sim::TimePoint;
using pelton::sim::World;

namespace {

int result_of(int result) {
  if (result >= 0) return result;
  errno = -result;
  return -1;
}

/// Of a send, where no room is EAGAIN.
ssize_t count_of(ssize_t count) {
  if (count > 0) return count;
  return result_of(count == 0 ? -EAGAIN : static_cast<int>(count));
}

std::span<const std::byte> bytes_at(const void* data, std::size_t size) {
  return {static_cast<const std::byte*>(data), size};
}

int fill_name(const File& file, sockaddr* address, socklen_t* size, std::uint16_t port) {
  if (file.family == AF_UNIX) {  // without a name
    const sa_family_t family = AF_UNIX;
    std::memcpy(address, &family, std::min<std::size_t>(*size, sizeof family));
    *size = sizeof family;
    return 0;
  }
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(port);
  std::memcpy(address, &name, std::min<std::size_t>(*size, sizeof name));
  *size = sizeof name;
  return 0;
}

}  // namespace

// The names are the linker's.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {

int __real_socket(int family, int type, int protocol);
int __real_close(int fd);
int __real_shutdown(int fd, int how);
int __real_getsockname(int fd, sockaddr* address, socklen_t* size);
int __real_getpeername(int fd, sockaddr* address, socklen_t* size);
int __real_setsockopt(int fd, int level, int option, const void* value, socklen_t size);
int __real_getsockopt(int fd, int level, int option, void* value, socklen_t* size);
int __real_bind(int fd, const sockaddr* address, socklen_t size);
int __real_listen(int fd, int backlog);
ssize_t __real_send(int fd, const void* data, size_t size, int flags);
int __real_eventfd(unsigned count, int flags);
ssize_t __real_write(int fd, const void* data, size_t size);
int __real_clock_gettime(clockid_t clock, timespec* time);
int __real_nanosleep(const timespec* time, timespec* left);

int __wrap_socket(int family, int type, int protocol) {
  World* const world = World::current;
  if (!world) return __real_socket(family, type, protocol);
  if (world->strikes(pelton::sim::Knob::socket_emfile)) {
    return result_of(world->fail_connect(EMFILE));
  }
  auto file = std::make_shared<File>();
  file->family = family;
  file->flags = type & SOCK_NONBLOCK ? O_NONBLOCK : 0;
  const int fd = world->add_file(std::move(file));
  return result_of(fd < 0 ? world->fail_connect(-fd) : fd);
}

int __wrap_close(int fd) {
  if (!World::current || !World::is_simulated(fd)) return __real_close(fd);
  World::current->close(fd);
  return 0;
}

int __wrap_shutdown(int fd, int how) {
  if (!World::current || !World::is_simulated(fd)) return __real_shutdown(fd, how);
  File& file = World::current->open_file(fd, "shutdown");
  if (file.listening) {
    file.shut = true;
    return 0;
  }
  if (!file.connection) return result_of(-ENOTCONN);
  return result_of(file.connection->shut(file.end, how != SHUT_WR, how != SHUT_RD));
}

int __wrap_getsockname(int fd, sockaddr* address, socklen_t* size) {
  if (!World::current || !World::is_simulated(fd)) return __real_getsockname(fd, address, size);
  const File& file = World::current->open_file(fd, "getsockname");
  return fill_name(file, address, size, file.port);
}

int __wrap_getpeername(int fd, sockaddr* address, socklen_t* size) {
  if (!World::current || !World::is_simulated(fd)) return __real_getpeername(fd, address, size);
  const File& file = World::current->open_file(fd, "getpeername");
  const bool connected = file.connection && !file.connection->was_reset(file.end);
  return connected ? fill_name(file, address, size, 1) : result_of(-ENOTCONN);
}

int __wrap_setsockopt(int fd, int level, int option, const void* value, socklen_t size) {
  if (!World::current || !World::is_simulated(fd)) {
    return __real_setsockopt(fd, level, option, value, size);
  }
  File& file = World::current->open_file(fd, "setsockopt");
  if (level == SOL_SOCKET && option == SO_LINGER) {
    linger asked{};
    std::memcpy(&asked, value, std::min<std::size_t>(size, sizeof asked));
    file.resets_at_close = asked.l_onoff != 0 && asked.l_linger == 0;
  } else if (level == SOL_SOCKET && option == SO_RCVLOWAT) {
    int bytes = 0;
    std::memcpy(&bytes, value, std::min<std::size_t>(size, sizeof bytes));
    file.low_water = static_cast<std::size_t>(std::max(bytes, 1));
  }
  return 0;
}

int __wrap_getsockopt(int fd, int level, int option, void* value, socklen_t* size) {
  if (!World::current || !World::is_simulated(fd)) {
    return __real_getsockopt(fd, level, option, value, size);
  }
  const File& file = World::current->open_file(fd, "getsockopt");
  const int number = option == SO_TYPE ? int{SOCK_STREAM} : option == SO_DOMAIN ? file.family : 0;
  std::memcpy(value, &number, sizeof number);
  *size = sizeof number;
  return 0;
}

int __wrap_bind(int fd, const sockaddr* address, socklen_t size) {
  if (!World::current || !World::is_simulated(fd)) return __real_bind(fd, address, size);
  sockaddr_in name{};
  std::memcpy(&name, address, std::min<std::size_t>(size, sizeof name));
  File& file = World::current->open_file(fd, "bind");
  if (file.family == AF_UNIX) {
    file.port = World::unix_port;
    return 0;
  }
  file.port = name.sin_port != 0 ? ntohs(name.sin_port) : World::current->next_port++;
  return 0;
}

int __wrap_listen(int fd, int backlog) {
  if (!World::current || !World::is_simulated(fd)) return __real_listen(fd, backlog);
  World::current->open_file(fd, "listen").listening = true;
  return 0;
}

/// Of no bytes: what pelton asks to learn of an error. Scripts send from the other end.
ssize_t __wrap_send(int fd, const void* data, size_t size, int flags) {
  if (!World::current || !World::is_simulated(fd)) return __real_send(fd, data, size, flags);
  File& file = World::current->open_file(fd, "send");
  if (!file.connection) return result_of(-ENOTCONN);
  const ssize_t count = file.connection->send(file.end, bytes_at(data, size));
  if (size == 0) return result_of(static_cast<int>(count));
  if (World::current->checks_program) World::current->fail("a send of bytes past the ring");
  return count_of(count);
}

int __wrap_eventfd(unsigned count, int flags) {
  World* const world = World::current;
  if (!world) return __real_eventfd(count, flags);
  auto file = std::make_shared<File>();
  file->kind = File::Kind::event;
  file->flags = flags & EFD_NONBLOCK ? O_NONBLOCK : 0;
  file->events = count;
  return result_of(world->add_file(std::move(file)));
}

ssize_t __wrap_write(int fd, const void* data, size_t size) {
  if (!World::current || !World::is_simulated(fd)) return __real_write(fd, data, size);
  File& file = World::current->open_file(fd, "write");
  if (file.kind == File::Kind::pipe) {
    return count_of(file.connection->send(file.end, bytes_at(data, size)));
  }
  std::uint64_t count = 0;
  if (file.kind != File::Kind::event || size != sizeof count) return result_of(-EINVAL);
  std::memcpy(&count, data, sizeof count);
  file.events += count;
  return static_cast<ssize_t>(size);
}

int __wrap_clock_gettime(clockid_t clock, timespec* time) {
  World* const world = World::current;
  if (!world || clock != CLOCK_THREAD_CPUTIME_ID) return __real_clock_gettime(clock, time);
  const auto spent = std::chrono::nanoseconds(world->cpu_time());
  const auto seconds = std::chrono::floor<std::chrono::seconds>(spent);
  time->tv_sec = seconds.count();
  time->tv_nsec = (spent - seconds).count();
  return 0;
}

int __wrap_nanosleep(const timespec* time, timespec* left) {
  World* const world = World::current;
  if (!world) return __real_nanosleep(time, left);
  world->advance_to(world->time() + std::chrono::seconds(time->tv_sec) +
                    std::chrono::nanoseconds(time->tv_nsec));
  return 0;
}

}  // extern "C"

// std::chrono::steady_clock::now()
TimePoint real_now() __asm__("__real__ZNSt6chrono3_V212steady_clock3nowEv");
TimePoint wrapped_now() __asm__("__wrap__ZNSt6chrono3_V212steady_clock3nowEv");

TimePoint wrapped_now() {
  World* const world = World::current;
  return world ? world->now() : real_now();
}
// NOLINTEND(bugprone-reserved-identifier)
