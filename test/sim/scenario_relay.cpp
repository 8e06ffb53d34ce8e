// Scenario relay: a proxy as pelton-proxy is one, between clients and an upstream. See course.hpp.
#include <pelton/engine/timeout.hpp>

#include "sim/course.hpp"

namespace pelton::sim {
namespace {

class Relay final : public Course {
 public:
  using Course::Course;

  void check() override {
    for (const Pair& pair : pairs_) {  // what breaks one breaks the other
      if (is_broken(*pair.client)) pair.upstream->may_be_killed = true;
      if (is_broken(*pair.upstream)) pair.client->may_be_killed = true;
    }
    for (const auto& connection : world_.connections()) {
      if (!is_paired(*connection)) connection->may_be_killed = true;
    }
    Course::check();
  }

 private:
  struct Pair {
    std::shared_ptr<Connection> client;
    std::shared_ptr<Connection> upstream;
  };

  void begin() override {
    limit_ = draw_limit();
    write_most_ = 1;
    const ServerOptions options{.limit = limit_};
    server_.emplace(start_server(
        [this](StreamReader reader, StreamWriter writer) {
          return serve(std::move(reader), std::move(writer));
        },
        bound_socket(), options));
    world_.upstream = [this] { return accept_upstream(plan(upstreams_++, true)); };
  }
  void finish() override { server_->close(); }
  void end_clients() override {
    world_.random.chance(500) ? server_->close_clients() : server_->abort_clients();
  }
  [[nodiscard]] bool settled() const override { return server_->connection_count() == 0; }
  [[nodiscard]] PeerPlan plan_client(unsigned number) override { return plan(number, false); }

  [[nodiscard]] PeerPlan plan(unsigned, bool is_upstream) {
    // Which client comes to which upstream is not known before: one pattern for each direction.
    const Pattern there(1);
    const Pattern back(2);
    return {.sends = is_upstream ? back : there,
            .expects = is_upstream ? there : back,
            .bytes = world_.random.below(8) == 0 ? 0 : world_.random.scaled(1, 32768),
            .ends_last = !is_upstream && world_.random.chance(300),
            .chunk_most = world_.random.scaled(1, 8192)};
  }

  [[nodiscard]] static bool is_broken(const Connection& connection) noexcept {
    return connection.killed_by_peer || connection.may_be_killed;
  }
  [[nodiscard]] const Pair* pair_of(const Connection& connection) const {
    for (const Pair& pair : pairs_) {
      if (pair.client.get() == &connection || pair.upstream.get() == &connection) return &pair;
    }
    return nullptr;
  }
  [[nodiscard]] bool is_paired(const Connection& connection) const {
    return pair_of(connection) != nullptr;
  }

  void check_undisturbed(const Peer& peer) override {
    const Pair& pair = *pair_of(*peer.connection());
    const bool is_client = pair.client == peer.connection();
    const Connection& other = is_client ? *pair.upstream : *pair.client;
    const std::uint64_t sent = other.sent(Connection::peer);
    if (peer.received() == sent && peer.saw_end()) return;
    world_.fail("connection %u: %llu bytes were sent from behind, %llu arrived",
                peer.connection()->id(), static_cast<unsigned long long>(sent),
                static_cast<unsigned long long>(peer.received()));
  }

  Task<> serve(StreamReader reader, StreamWriter writer) {
    const Active active(*this);
    StreamPair first(std::move(reader), std::move(writer));
    const auto client = connection_of(first.writer);
    std::optional<StreamPair> second;
    bool limited = false;
    try {
      const ConnectOptions options{.limit = limit_};
      Task<StreamPair> connecting = connect_upstream(options);
      limited = !world_.is_calm() && world_.random.chance(200);
      if (limited) {
        const Duration patience = std::chrono::microseconds(world_.random.scaled(10, 1000));
        second.emplace(co_await wait_for(std::move(connecting), patience));
      } else {
        second.emplace(co_await std::move(connecting));
      }
    } catch (const TimeoutError& error) {
      if (!limited) world_.expect_connect_error(error.code());
    } catch (const OSError& error) {
      world_.expect_connect_error(error.code());
    }
    if (!second) {
      first.writer.transport().abort();
      co_return;
    }
    const auto upstream = connection_of(second->writer);
    if (client && upstream) pairs_.push_back({client, upstream});
    const Watched watched_first(*this, first.reader, first.writer);
    const Watched watched_second(*this, second->reader, second->writer);
    if (world_.random.chance(500)) {
      co_await relay_unobserved(std::move(first), std::move(*second));
      co_return;
    }
    const TaskHandle<RelayResult> carrying =
        loop_.create_task(relay(std::move(first), std::move(*second)));
    carryings_.push_back(carrying);
    try {
      const RelayResult result = co_await carrying;
      const bool disturbed = !client || !upstream || is_broken(*client) || is_broken(*upstream);
      if (!disturbed && (result.error_first || result.error_second)) {
        world_.fail("an undisturbed relay ended with an error");
      }
    } catch (const Cancelled&) {
      if (client) client->may_be_killed = true;
      if (upstream) upstream->may_be_killed = true;
    }
  }

  void cancel_one() override {
    if (!carryings_.empty()) carryings_[world_.random.below(carryings_.size())].cancel();
  }

  std::size_t limit_ = 0;
  unsigned upstreams_ = 0;
  std::optional<Server> server_;
  std::vector<Pair> pairs_;
  std::vector<TaskHandle<RelayResult>> carryings_;
};

}  // namespace

std::unique_ptr<Course> make_relay(World& world, Loop& loop) {
  return std::make_unique<Relay>(world, loop);
}

}  // namespace pelton::sim
