// Connection: a simulated connection, as its two ends see it.
//
// Each end has a window, a receive queue and bytes under way to it. Ends, half-closes and resets
// travel in the stream's order, but a reset may overtake. What an end may learn follows Linux:
// a reset is reported once, after the bytes that had arrived, and then reads find an end. On one
// machine (loopback, unix) what is sent has arrived, and a unix socket knows no reset.
//
// Neighbours: world.hpp owns connections; sim_ring.cpp works for the program's end, peers.cpp for
// the other.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>

namespace pelton::sim {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

class World;

/// Who is told when something changed at an end.
class Watcher {
 public:
  virtual void on_change() = 0;

 protected:
  ~Watcher() = default;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  enum End : std::uint8_t { program = 0, peer = 1 };
  enum class Kind : std::uint8_t { distant, loopback, unix_pair };

  Connection(World& world, unsigned id, std::size_t room_of_program, std::size_t room_of_peer,
             Kind kind = Kind::distant);

  /// Takes over as many bytes as there is room for. \return how many, or an errno, negated:
  /// 0 means that there is no room now.
  [[nodiscard]] ssize_t send(End from, std::span<const std::byte> data);
  /// \return bytes, 0 at the end, or an errno, negated; -EAGAIN if nothing is there yet.
  [[nodiscard]] ssize_t receive(End at, std::byte* data, std::size_t size);
  /// shutdown(2). \return 0 or an errno, negated.
  int shut(End from, bool reading, bool writing);
  /// The last descriptor is closed: an end, or a reset where data was unread.
  void close(End from);
  /// Ends both directions at once.
  void reset(End from);

  [[nodiscard]] bool readable(End at) const noexcept;
  [[nodiscard]] bool writable(End from) const noexcept;
  /// What poll(2) tells of an end. \param low_water  bytes that count as readable.
  [[nodiscard]] unsigned poll(End at, std::size_t low_water) const noexcept;
  [[nodiscard]] std::size_t unread(End at) const noexcept {
    return sides_[at].inbox.size() - sides_[at].read_to;
  }
  /// True if the other end's end of stream has arrived.
  [[nodiscard]] bool end_arrived(End at) const noexcept { return sides_[at].end_in; }
  [[nodiscard]] bool was_reset(End at) const noexcept { return sides_[at].reset_in; }
  [[nodiscard]] bool has_error(End at) const noexcept { return sides_[at].error != 0; }
  [[nodiscard]] bool closed(End at) const noexcept { return sides_[at].closed; }
  /// True if the other end's end of stream was sent to `at`.
  [[nodiscard]] bool end_sent_to(End at) const noexcept { return sides_[1 - at].write_shut; }
  /// True if a send would fail for good.
  [[nodiscard]] bool broken(End from) const noexcept;
  /// Fetches and clears the pending error, as a send that comes upon it does.
  [[nodiscard]] int take_error(End at) noexcept;
  void watch(End at, Watcher* watcher) noexcept { sides_[at].watcher = watcher; }

  [[nodiscard]] unsigned id() const noexcept { return id_; }
  /// Bytes that an end has sent and received so far.
  [[nodiscard]] std::uint64_t sent(End from) const noexcept { return sides_[from].sent; }

  bool killed_by_peer = false;     ///< something may be missing, for which pelton is not to blame
  bool killed_by_program = false;  ///< reset by the program's end
  bool may_be_killed = false;      ///< which the scenario has brought about

 private:
  struct Segment {
    enum class Kind : std::uint8_t { data, end, reset };
    TimePoint at;
    Kind kind;
    std::string data;
  };
  struct Side {
    std::deque<Segment> wire;  ///< under way to this end
    std::string inbox;         ///< arrived; read up to read_to
    std::size_t read_to = 0;
    std::size_t room = 0;  ///< the window
    std::size_t under_way = 0;
    std::uint64_t sent = 0;
    int error = 0;
    bool end_in = false;
    bool reset_in = false;
    bool read_shut = false;
    bool write_shut = false;
    bool closed = false;
    Watcher* watcher = nullptr;
  };

  void put_on_wire(End to, Segment::Kind kind, std::string data);
  void deliver(End to);
  void arrive(End at, Segment& segment);
  void reset_arrives(End at);
  void leave(End from, bool loses);
  void changed(End at);

  World& world_;
  unsigned id_;
  Kind kind_;
  Side sides_[2];
};

}  // namespace pelton::sim
