// Clock, events, descriptors and failing. See world.hpp.
#include "sim/world.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace pelton::sim {
namespace {

// A program that looks at the clock so often while no time passes spins for ever.
constexpr std::uint64_t looks_at_clock_most = 200'000;
constexpr std::size_t room_of_local_socket = 200'000;

}  // namespace

unsigned File::poll() const noexcept {
  if (kind == Kind::event) return POLLOUT | (events > 0 ? POLLIN : 0);
  if (listening) return shut || !backlog.empty() ? POLLIN : 0;
  return connection ? connection->poll(end, low_water) : POLLOUT | POLLHUP;
}

World::World(std::uint64_t seed, bool trace) : random(seed), seed_(seed), trace_(trace) {
  current = this;
}

World::~World() { current = nullptr; }

TimePoint World::now() noexcept {
  if (++looks_at_clock_ > looks_at_clock_most) fail("the program spins: no time passes");
  return now_;
}

void World::after(Duration delay, std::function<void()> event) {
  events_.push({now_ + delay, next_order_++, std::move(event)});
}

void World::advance_to(TimePoint when) {
  looks_at_clock_ = 0;
  while (!events_.empty() && events_.top().at <= when) {
    now_ = std::max(now_, events_.top().at);
    const std::function<void()> run = std::move(const_cast<Event&>(events_.top()).run);
    events_.pop();
    run();
  }
  now_ = std::max(now_, when);
}

void World::work_until(TimePoint when) {
  cpu_time_ += std::max(when - now_, Duration::zero());
  advance_to(when);
}

int World::fail_connect(int error) {
  connect_errors_.push_back(error);
  return -error;
}

void World::expect_connect_error(const std::error_code& error) {
  const auto found = std::ranges::find(connect_errors_, error.value());
  if (found == connect_errors_.end()) {
    fail("a connect failed with error %d, which nothing brought about", error.value());
  }
  connect_errors_.erase(found);
}

int World::add_file(std::shared_ptr<File> file) {
  if (open_ >= descriptors_most) return -EMFILE;
  std::size_t index = files_.size();
  if (!free_.empty()) {
    const auto place = lowest_first ? std::ranges::min_element(free_) : free_.end() - 1;
    index = *place;
    free_.erase(place);
  } else {
    files_.emplace_back();
  }
  ++open_;
  note_progress();
  file->fd = fd_base + static_cast<int>(index);
  files_[index] = std::move(file);
  trace("descriptor %d opened", files_[index]->fd);
  return files_[index]->fd;
}

std::shared_ptr<File> World::file(int fd) const noexcept {
  const auto index = static_cast<std::size_t>(fd - fd_base);
  return fd >= fd_base && index < files_.size() ? files_[index] : nullptr;
}

File& World::open_file(int fd, const char* call) {
  const std::shared_ptr<File> found = file(fd);
  if (!found) fail("%s on descriptor %d, which is not open", call, fd);
  return *found;
}

void World::close(int fd) {
  const std::shared_ptr<File> closing = file(fd);
  if (!closing) fail("close of descriptor %d, which is not open", fd);
  if (checks_program && closing->in_flight() > 0) {
    fail("descriptor %d closed with operations in flight: %u receives, %u sends, %u others", fd,
         closing->receives, closing->sends, closing->others);
  }
  trace("descriptor %d closed", fd);
  const auto index = static_cast<std::size_t>(fd - fd_base);
  files_[index].reset();
  free_.push_back(index);
  --open_;
  note_progress();
  closing->closed = true;
  if (closing->in_flight() == 0) release(*closing);
}

void World::release(File& file) {
  if (Connection* const connection = file.connection.get()) {
    // Accepted while its listener was being closed: nobody will serve it.
    if (!file.used && !listens()) connection->may_be_killed = true;
    file.resets_at_close ? connection->reset(file.end) : connection->close(file.end);
  }
  for (const auto& waiting : file.backlog) {
    waiting->may_be_killed = true;
    waiting->reset(Connection::program);
  }
  file.backlog.clear();
}

int World::open_pair(File::Kind kind, Connection::Kind how, int flags, int* fds) {
  const auto connection = connect_pair(room_of_local_socket, room_of_local_socket, how);
  for (const auto end : {Connection::program, Connection::peer}) {
    auto file = std::make_shared<File>();
    file->kind = kind;
    file->end = end;
    file->family = AF_UNIX;
    file->flags = flags & O_NONBLOCK;
    file->connection = connection;
    fds[end] = add_file(std::move(file));
    if (fds[end] >= 0) continue;
    if (end == Connection::peer) close(fds[Connection::program]);
    return fds[end];
  }
  return 0;
}

int World::connect_here(File& socket, int family, std::uint16_t at_port) {
  if (socket.connection) return -EISCONN;
  if (family == AF_UNIX) return -ENOENT;  // no path has a listener
  const std::shared_ptr<File> listening = listener(at_port);
  if (!listening) return -ECONNREFUSED;
  socket.connection =
      connect_pair(room_of_local_socket, room_of_local_socket, Connection::Kind::loopback);
  socket.end = Connection::peer;  // the end of who accepts is the other one
  listening->backlog.push_back(socket.connection);
  return 0;
}

int World::accept_from(File& listener, int flags) {
  if (!listener.listening || listener.shut) return -EINVAL;
  if (listener.backlog.empty()) return -EAGAIN;
  auto file = std::make_shared<File>();
  file->family = listener.family;
  file->flags = flags & O_NONBLOCK;
  file->connection = listener.backlog.front();
  const int fd = add_file(std::move(file));
  if (fd >= 0) listener.backlog.pop_front();
  return fd;
}

std::shared_ptr<Connection> World::connect_pair(std::size_t room_of_program,
                                                std::size_t room_of_peer, Connection::Kind kind) {
  const auto id = static_cast<unsigned>(connections_.size());
  connections_.push_back(
      std::make_shared<Connection>(*this, id, room_of_program, room_of_peer, kind));
  ++totals.connections;
  return connections_.back();
}

bool World::listens() const noexcept {
  return std::ranges::any_of(
      files_, [](const auto& file) { return file && file->listening && !file->shut; });
}

std::shared_ptr<File> World::listener(std::uint16_t port) const noexcept {
  for (const auto& file : files_) {
    if (file && file->listening && !file->shut && file->port == port) return file;
  }
  return nullptr;
}

void World::fail(const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::fprintf(stderr, "seed %llu, after %.6f s: ", static_cast<unsigned long long>(seed_),
               std::chrono::duration<double>(now_.time_since_epoch()).count() - 1000);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
  std::fflush(stderr);
  va_end(arguments);
  _exit(failed_exit_code);
}

void World::trace(const char* format, ...) {
  if (!trace_) return;
  std::va_list arguments;
  va_start(arguments, format);
  std::fprintf(stderr, "%12.6f  ",
               std::chrono::duration<double>(now_.time_since_epoch()).count() - 1000);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
  va_end(arguments);
}

void World::check_end() {
  if (open_ > 0) fail("%zu descriptors were never closed", open_);
  if (ends_abruptly) return;
  for (const auto& each : connections_) {
    if (each->killed_by_program && !each->killed_by_peer && !each->may_be_killed) {
      fail("connection %u was reset by the program, and nobody asked for it", each->id());
    }
  }
}

}  // namespace pelton::sim
