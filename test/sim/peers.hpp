// Peer: who is at the other end of a connection, a script that sends, reads and ends by chance.
//
// It sends its pattern and checks what it receives against the one it expects. Undisturbed, it
// sends everything, ends its stream, reads to the other's end and closes; or, where the plan says
// so, it closes once it has received as much as it sent. The knobs disturb it.
//
// Neighbours: net.hpp below; course.hpp owns the peers of a run.
#pragma once

#include <memory>

#include "sim/net.hpp"
#include "sim/pattern.hpp"

namespace pelton::sim {

class World;

struct PeerPlan {
  Pattern sends;
  Pattern expects;
  std::uint64_t bytes = 0;        ///< to send
  bool closes_when_even = false;  ///< closes without a half-close: what echoes come back first
  bool ends_last = false;         ///< half-closes once it has read the program's end
  std::uint64_t chunk_most = 4096;
};

class Peer final : public Watcher {
 public:
  Peer(World& world, const PeerPlan& plan) : world_(world), plan_(plan), got_{plan.expects} {}
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// Begins to act on this connection.
  void start(std::shared_ptr<Connection> connection);
  /// There is no connection to act on.
  void give_up() noexcept { done_ = true; }

  [[nodiscard]] bool done() const noexcept { return done_; }
  /// Null if it never got one.
  [[nodiscard]] const std::shared_ptr<Connection>& connection() const noexcept {
    return connection_;
  }
  [[nodiscard]] std::uint64_t sent() const noexcept { return sent_; }
  [[nodiscard]] std::uint64_t received() const noexcept { return got_.bytes; }
  /// True if it has read the end of the program's stream.
  [[nodiscard]] bool saw_end() const noexcept { return saw_end_; }

 private:
  void on_change() override { schedule(); }
  void schedule();
  void act();
  bool meets_fault();
  void read();
  void write();
  void end();

  World& world_;
  PeerPlan plan_;
  std::shared_ptr<Connection> connection_;
  Received got_;
  std::uint64_t sent_ = 0;
  bool scheduled_ = false;
  bool half_closed_ = false;
  bool saw_end_ = false;
  bool done_ = false;
};

}  // namespace pelton::sim
