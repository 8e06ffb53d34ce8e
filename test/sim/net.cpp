// Bytes, ends and resets between two ends. See net.hpp.
#include "sim/net.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "sim/world.hpp"

namespace pelton::sim {

Connection::Connection(World& world, unsigned id, std::size_t room_of_program,
                       std::size_t room_of_peer, Kind kind)
    : world_(world), id_(id), kind_(kind) {
  sides_[program].room = room_of_program;
  sides_[peer].room = room_of_peer;
}

bool Connection::readable(End at) const noexcept {
  const Side& side = sides_[at];
  return unread(at) > 0 || side.error != 0 || side.end_in || side.reset_in || side.read_shut;
}

bool Connection::broken(End from) const noexcept {
  const Side& side = sides_[from];
  return side.error != 0 || side.reset_in || side.write_shut;
}

bool Connection::writable(End from) const noexcept {
  const Side& to = sides_[1 - from];
  return broken(from) || unread(End(1 - from)) + to.under_way < to.room;
}

unsigned Connection::poll(End at, std::size_t low_water) const noexcept {
  const Side& side = sides_[at];
  const bool no_more = side.end_in || side.reset_in || side.read_shut;
  unsigned events = 0;
  if (unread(at) >= low_water || no_more || side.error != 0) events |= POLLIN;
  if (writable(at)) events |= POLLOUT;
  if (no_more) events |= POLLRDHUP;
  if (no_more && (side.write_shut || side.reset_in)) events |= POLLHUP;
  if (side.error != 0) events |= POLLERR;
  return events;
}

int Connection::take_error(End at) noexcept { return std::exchange(sides_[at].error, 0); }

ssize_t Connection::send(End from, std::span<const std::byte> data) {
  Side& side = sides_[from];
  if (kind_ == Kind::unix_pair && side.write_shut) return -EPIPE;  // its error is for reads
  if (const int error = take_error(from)) return -error;
  if (side.reset_in || side.write_shut) return -EPIPE;
  Side& to = sides_[1 - from];
  const std::size_t used = unread(End(1 - from)) + to.under_way;
  const std::size_t count = std::min(data.size(), to.room > used ? to.room - used : 0);
  if (count == 0) return 0;
  side.sent += count;
  world_.note_progress();
  to.under_way += count;
  std::size_t at = 0;
  while (at < count) {
    const std::size_t size =
        world_.strikes(Knob::fragments) ? world_.random.between(1, count - at) : count - at;
    put_on_wire(End(1 - from), Segment::Kind::data,
                std::string(reinterpret_cast<const char*>(data.data()) + at, size));
    at += size;
  }
  return static_cast<ssize_t>(count);
}

ssize_t Connection::receive(End at, std::byte* data, std::size_t size) {
  Side& side = sides_[at];
  if (const std::size_t there = unread(at)) {
    const std::size_t count = std::min(size, there);
    const char* from = side.inbox.data() + side.read_to;
    // Byte by byte, unseen by AddressSanitizer: a kernel writes where pelton must not look yet.
    [&]() __attribute__((no_sanitize("address"))) {
      for (std::size_t index = 0; index < count; ++index) {
        data[index] = static_cast<std::byte>(from[index]);
      }
    }
    ();
    side.read_to += count;
    if (side.read_to == side.inbox.size()) {
      side.inbox.clear();
      side.read_to = 0;
    }
    world_.note_progress();
    changed(End(1 - at));
    return static_cast<ssize_t>(count);
  }
  if (const int error = take_error(at)) return -error;
  if (side.end_in || side.reset_in || side.read_shut) return 0;
  return -EAGAIN;
}

int Connection::shut(End from, bool reading, bool writing) {
  Side& side = sides_[from];
  if (side.reset_in) return -ENOTCONN;
  if (reading) side.read_shut = true;
  if (reading && kind_ == Kind::unix_pair) sides_[1 - from].write_shut = true;
  if (writing && !side.write_shut) {
    side.write_shut = true;
    put_on_wire(End(1 - from), Segment::Kind::end, {});
  }
  changed(from);
  return 0;
}

void Connection::close(End from) {
  Side& side = sides_[from];
  if (side.closed) return;
  side.closed = true;
  if (kind_ == Kind::unix_pair) return leave(from, unread(from) > 0);
  if (side.reset_in) return;
  if (unread(from) > 0) return reset(from);
  if (!side.write_shut) shut(from, false, true);
}

/// The end of a unix socket: the other one learns of it at once. \param loses  What was unread.
void Connection::leave(End from, bool loses) {
  Side& other = sides_[1 - from];
  if (loses) other.error = ECONNRESET;
  if (loses && from == program) killed_by_program = true;
  sides_[from].write_shut = other.end_in = other.write_shut = true;
  changed(End(1 - from));
}

void Connection::reset(End from) {
  Side& side = sides_[from];
  (from == peer ? killed_by_peer : killed_by_program) = true;
  side.closed = side.write_shut = side.reset_in = true;
  if (kind_ == Kind::unix_pair) {
    leave(from, true);
    return changed(from);
  }
  world_.trace("connection %u: reset by the %s", id_, from == peer ? "peer" : "program");
  Side& to = sides_[1 - from];
  if (world_.strikes(Knob::reset_overtakes)) {
    to.wire.clear();
    to.under_way = 0;
  }
  put_on_wire(End(1 - from), Segment::Kind::reset, {});
  changed(from);
}

void Connection::put_on_wire(End to, Segment::Kind kind, std::string data) {
  Side& side = sides_[to];
  if (kind_ != Kind::distant) {
    Segment segment{world_.time(), kind, std::move(data)};
    arrive(to, segment);
    return changed(to);
  }
  Duration delay = std::chrono::microseconds(world_.random.between(1, 20));
  if (world_.strikes(Knob::delays)) {
    delay = std::chrono::microseconds(world_.random.scaled(20, 5000));
  }
  TimePoint at = world_.time() + delay;
  if (!side.wire.empty()) at = std::max(at, side.wire.back().at);
  side.wire.push_back({at, kind, std::move(data)});
  world_.after(at - world_.time(), [self = shared_from_this(), to] { self->deliver(to); });
}

void Connection::deliver(End to) {
  Side& side = sides_[to];
  bool arrived = false;
  while (!side.wire.empty() && side.wire.front().at <= world_.time()) {
    Segment segment = std::move(side.wire.front());
    side.wire.pop_front();
    arrive(to, segment);
    arrived = true;
  }
  if (arrived) changed(to);
}

void Connection::arrive(End at, Segment& segment) {
  world_.note_progress();
  Side& side = sides_[at];
  if (segment.kind == Segment::Kind::reset) return reset_arrives(at);
  if (side.reset_in) return;
  if (segment.kind == Segment::Kind::end) {
    side.end_in = true;
    return;
  }
  side.under_way -= segment.data.size();
  if (side.closed) return reset(at);  // nobody is there to read it
  side.inbox += segment.data;
}

void Connection::reset_arrives(End at) {
  Side& side = sides_[at];
  if (side.reset_in) return;
  side.reset_in = true;
  side.error = side.end_in ? EPIPE : ECONNRESET;
  // What this end had sent and the other had not got is gone.
  sides_[1 - at].wire.clear();
  sides_[1 - at].under_way = 0;
}

void Connection::changed(End at) {
  if (Watcher* const watcher = sides_[at].watcher) watcher->on_change();
}

}  // namespace pelton::sim
