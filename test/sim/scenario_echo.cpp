// Scenario echo: the loop of pelton-echo, and clients that check what comes back. See course.hpp.
#include "sim/course.hpp"

namespace pelton::sim {
namespace {

class Echo final : public Course {
 public:
  using Course::Course;

 private:
  void begin() override {
    const ServerOptions options{.limit = draw_limit()};
    high_water_ = world_.random.chance(500) ? draw_high_water() : 64 * 1024;
    write_most_ = 1;
    server_.emplace(start_server(
        [this](StreamReader reader, StreamWriter writer) {
          return serve(std::move(reader), std::move(writer));
        },
        bound_socket(), options));
  }
  void finish() override { server_->close(); }
  void end_clients() override {
    world_.random.chance(500) ? server_->close_clients() : server_->abort_clients();
  }
  [[nodiscard]] bool settled() const override { return server_->connection_count() == 0; }
  [[nodiscard]] PeerPlan plan_client(unsigned number) override {
    const Pattern pattern(number);
    if (world_.crowded) {
      return {.sends = pattern, .expects = pattern, .bytes = 16384, .chunk_most = 128};
    }
    return {.sends = pattern,
            .expects = pattern,
            .bytes = world_.random.below(8) == 0 ? 0 : world_.random.scaled(1, 32768),
            .closes_when_even = world_.random.chance(300),
            .chunk_most = world_.random.scaled(1, 8192)};
  }
  /// Now and then a crowd, for which a loop waits in batches.
  [[nodiscard]] unsigned draw_clients() override {
    if (!world_.crowded) return Course::draw_clients();
    return static_cast<unsigned>(world_.random.between(70, 100));
  }
  void check_undisturbed(const Peer& peer) override {
    if (peer.received() == peer.sent()) return;
    world_.fail("connection %u: %llu bytes were sent, %llu came back", peer.connection()->id(),
                static_cast<unsigned long long>(peer.sent()),
                static_cast<unsigned long long>(peer.received()));
  }

  Task<> serve(StreamReader reader, StreamWriter writer) {
    const Active active(*this);
    writer.transport().set_write_buffer_limits(high_water_, {});
    const Watched watched(*this, reader, writer);
    for (;;) {
      Result<Bytes> data = co_await reader.try_read_piece(64 * 1024);
      if (!data || data->empty()) break;
      writer.write(std::move(*data));
      if (!co_await writer.try_drain()) break;
    }
    writer.close();
  }

  std::size_t high_water_ = 0;
  std::optional<Server> server_;
};

}  // namespace

std::unique_ptr<Course> make_echo(World& world, Loop& loop) {
  return std::make_unique<Echo>(world, loop);
}

}  // namespace pelton::sim
