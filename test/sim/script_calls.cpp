// Direct calls that only the scripts of ring_conformance*_test.cpp make in a simulated world: those
// of the world's end of a connection, and of whoever looks at a descriptor.
//
// Neighbours: system_calls.cpp has pelton's own, and tells how the linker brings them here.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstring>

#include "sim/world.hpp"

using pelton::sim::Connection;
using pelton::sim::File;
using pelton::sim::World;

namespace {

constexpr rlim_t standard_descriptors = 3;  // below the simulated ones, as everywhere

int result_of(int result) {
  if (result >= 0) return result;
  errno = -result;
  return -1;
}

bool is_real(int fd) { return !World::current || !World::is_simulated(fd); }

}  // namespace

// The names are the linker's.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {

int __real_socketpair(int family, int type, int protocol, int* fds);
int __real_pipe2(int* fds, int flags);
int __real_fcntl(int fd, int command, ...);
int __real_accept4(int fd, sockaddr* address, socklen_t* size, int flags);
int __real_connect(int fd, const sockaddr* address, socklen_t size);
ssize_t __real_recv(int fd, void* data, size_t size, int flags);
int __real_poll(pollfd* polled, nfds_t count, int timeout_ms);
int __real_getrlimit(int resource, rlimit* limit);
int __real_setrlimit(int resource, const rlimit* limit);

int __wrap_socketpair(int family, int type, int protocol, int* fds) {
  World* const world = World::current;
  if (!world) return __real_socketpair(family, type, protocol, fds);
  const int flags = type & SOCK_NONBLOCK ? O_NONBLOCK : 0;
  return result_of(world->open_pair(File::Kind::socket, Connection::Kind::unix_pair, flags, fds));
}

int __wrap_pipe2(int* fds, int flags) {
  World* const world = World::current;
  if (!world) return __real_pipe2(fds, flags);
  return result_of(world->open_pair(File::Kind::pipe, Connection::Kind::unix_pair, flags, fds));
}

int __wrap_fcntl(int fd, int command, ...) {
  std::va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  if (is_real(fd)) return __real_fcntl(fd, command, argument);
  File& file = World::current->open_file(fd, "fcntl");
  if (command == F_GETFD) return FD_CLOEXEC;
  if (command == F_GETFL) return O_RDWR | file.flags;
  return result_of(-EINVAL);
}

int __wrap_accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  if (is_real(fd)) return __real_accept4(fd, address, size, flags);
  File& file = World::current->open_file(fd, "accept4");
  return result_of(World::current->accept_from(file, flags & SOCK_NONBLOCK ? O_NONBLOCK : 0));
}

int __wrap_connect(int fd, const sockaddr* address, socklen_t size) {
  if (is_real(fd)) return __real_connect(fd, address, size);
  sockaddr_in name{};
  std::memcpy(&name, address, std::min<std::size_t>(size, sizeof name));
  File& file = World::current->open_file(fd, "connect");
  return result_of(World::current->connect_here(file, name.sin_family, ntohs(name.sin_port)));
}

ssize_t __wrap_recv(int fd, void* data, size_t size, int flags) {
  if (is_real(fd)) return __real_recv(fd, data, size, flags);
  const File& file = World::current->open_file(fd, "recv");
  if (!file.connection) return result_of(-ENOTCONN);
  const ssize_t count = file.connection->receive(file.end, static_cast<std::byte*>(data), size);
  return count >= 0 ? count : result_of(static_cast<int>(count));
}

/// Lets time pass until one of them is ready, or the limit is over.
int __wrap_poll(pollfd* polled, nfds_t count, int timeout_ms) {
  World* const world = World::current;
  if (count == 0 || is_real(polled[0].fd)) return __real_poll(polled, count, timeout_ms);
  const auto deadline = world->time() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    int ready = 0;
    for (nfds_t index = 0; index < count; ++index) {
      const unsigned told = world->open_file(polled[index].fd, "poll").poll();
      const auto asked = static_cast<unsigned>(polled[index].events) | POLLERR | POLLHUP;
      polled[index].revents = static_cast<short>(told & asked);
      ready += polled[index].revents != 0;
    }
    if (ready > 0 || world->time() >= deadline) return ready;
    world->advance_to(std::min(world->next_event(), deadline));
  }
}

int __wrap_getrlimit(int resource, rlimit* limit) {
  World* const world = World::current;
  if (!world || resource != RLIMIT_NOFILE) return __real_getrlimit(resource, limit);
  limit->rlim_cur = limit->rlim_max = world->descriptors_most + standard_descriptors;
  return 0;
}

int __wrap_setrlimit(int resource, const rlimit* limit) {
  World* const world = World::current;
  if (!world || resource != RLIMIT_NOFILE) return __real_setrlimit(resource, limit);
  const rlim_t most = std::max(limit->rlim_cur, standard_descriptors) - standard_descriptors;
  world->descriptors_most = static_cast<unsigned>(most);
  return 0;
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier)
