// What a peer does when something changed, and by itself. See peers.hpp.
#include "sim/peers.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "sim/world.hpp"

namespace pelton::sim {

void Peer::start(std::shared_ptr<Connection> connection) {
  connection_ = std::move(connection);
  connection_->watch(Connection::peer, this);
  schedule();
}

void Peer::schedule() {
  if (done_ || std::exchange(scheduled_, true)) return;
  auto delay = std::chrono::microseconds(world_.random.between(1, 50));
  if (world_.strikes(Knob::peer_is_slow)) {
    delay = std::chrono::microseconds(world_.random.scaled(100, 20'000));
  }
  world_.after(delay, [this] { act(); });
}

void Peer::act() {
  scheduled_ = false;
  if (done_ || meets_fault()) return;
  read();
  if (!done_) write();
  if (!done_) end();
}

/// \return true if the connection is over by that.
bool Peer::meets_fault() {
  const bool has_unread = connection_->unread(Connection::peer) > 0;
  const bool is_full = !connection_->writable(Connection::program);
  if (world_.strikes(Knob::peer_resets) || (is_full && world_.strikes(Knob::peer_resets_full)) ||
      (has_unread && world_.strikes(Knob::peer_resets_unread))) {
    connection_->reset(Connection::peer);
    return done_ = true;
  }
  if (world_.strikes(Knob::peer_closes)) {
    connection_->killed_by_peer = true;
    connection_->close(Connection::peer);
    return done_ = true;
  }
  if (world_.strikes(Knob::peer_half_closes)) plan_.bytes = sent_;
  return false;
}

void Peer::read() {
  std::byte buffer[8192];
  for (;;) {
    const std::size_t most = std::min<std::size_t>(plan_.chunk_most, sizeof buffer);
    const ssize_t count =
        connection_->receive(Connection::peer, buffer, world_.random.between(1, most));
    if (count == -EAGAIN) return;
    if (count < 0) {
      done_ = true;
      connection_->close(Connection::peer);
      return;
    }
    if (count == 0) {
      if (connection_->was_reset(Connection::peer)) done_ = true;
      saw_end_ = true;
      return;
    }
    const auto data = std::span(buffer).first(static_cast<std::size_t>(count));
    if (!got_.take(data)) {
      world_.fail("connection %u: the peer received bytes, at %llu, that are not what was sent",
                  connection_->id(), static_cast<unsigned long long>(got_.bytes - data.size()));
    }
    world_.totals.bytes += data.size();
    if (world_.strikes(Knob::peer_is_slow)) return schedule();
  }
}

void Peer::write() {
  while (sent_ < plan_.bytes) {
    const auto most = std::min(plan_.bytes - sent_, world_.random.between(1, plan_.chunk_most));
    const auto piece = plan_.sends.piece(sent_, static_cast<std::size_t>(most));
    const ssize_t count = connection_->send(Connection::peer, piece);
    if (count < 0) {
      done_ = true;
      connection_->close(Connection::peer);
      return;
    }
    if (count == 0) return;
    sent_ += static_cast<std::uint64_t>(count);
    if (world_.random.chance(300)) return schedule();
  }
}

void Peer::end() {
  if (sent_ < plan_.bytes) return;
  const bool even = plan_.closes_when_even && got_.bytes == sent_;
  const bool waits = plan_.ends_last && !saw_end_;
  if (!half_closed_ && (!plan_.closes_when_even || saw_end_) && !waits) {
    half_closed_ = true;
    connection_->shut(Connection::peer, false, true);
  }
  if (!even && !(saw_end_ && half_closed_)) return;
  done_ = true;
  connection_->close(Connection::peer);
}

}  // namespace pelton::sim
