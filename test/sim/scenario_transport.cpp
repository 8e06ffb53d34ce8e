// Scenario transport: transports and a protocol that checks each call it gets. See course.hpp.
//
// Where nobody looks in, the program acts on the protocol's calls alone.
#include <map>

#include <pelton/engine/listener.hpp>
#include <pelton/engine/sync.hpp>
#include <pelton/proto/socket_transport.hpp>

#include "sim/course.hpp"

namespace pelton::sim {
namespace {

using std::chrono::microseconds;

/// made, then data and at most one end, then lost; pauses and resumes in pairs. After close() come
/// at most resume_writing and then lost, after abort() lost alone, and after that nothing.
class CheckedProtocol final : public Protocol {
 public:
  CheckedProtocol(World& world, std::shared_ptr<Connection> connection, bool keeps_open)
      : world_(world), connection_(std::move(connection)), keeps_open_(keeps_open) {}

  void connection_made(Transport& transport) override {
    if (transport_ || lost_) fail("connection_made was called twice");
    transport_ = Ref<Transport>(&transport);
  }
  void data_received(Bytes data) override {
    if (!transport_ || lost_ || ended_) fail("data_received came at the wrong time");
    if (transport_->is_closing()) fail("data_received came after close()");
    if (data.empty()) fail("data_received brought nothing");
    if (!transport_->is_reading()) fail("data_received came while reading is paused");
    if (!got_.take(data.span())) fail("what was received is not what was sent");
    changed_.set();
  }
  bool eof_received() override {
    if (!transport_ || lost_ || ended_) fail("eof_received came at the wrong time");
    if (transport_->is_closing()) fail("eof_received came after close()");
    if (!transport_->is_reading()) fail("eof_received came while reading is paused");
    if (!connection_->end_sent_to(Connection::program) ||
        !connection_->end_arrived(Connection::program)) {
      fail("the end of a stream was told that the peer did not end");
    }
    ended_ = true;
    changed_.set();
    return keeps_open_;
  }
  void connection_lost(const Failure& failure) override {
    if (!transport_ || lost_) fail("connection_lost came at the wrong time");
    if (failure && !connection_->killed_by_peer) fail("a connection was lost without a cause");
    lost_ = true;
    transport_.reset();
    changed_.set();
  }
  void pause_writing() override {
    if (!transport_ || lost_) fail("pause_writing came at the wrong time");
    if (closed_) fail("pause_writing came after close()");
    if (std::exchange(writing_paused_, true)) fail("pause_writing was called twice");
    const auto high = transport_->get_write_buffer_limits().high;
    if (transport_->get_write_buffer_size() <= high) fail("pause_writing came too early");
  }
  void resume_writing() override {
    if (!transport_ || lost_) fail("resume_writing came at the wrong time");
    if (aborted_) fail("resume_writing came after abort()");
    if (!std::exchange(writing_paused_, false)) fail("resume_writing was called twice");
    const auto low = transport_->get_write_buffer_limits().low;
    if (transport_->get_write_buffer_size() > low) fail("resume_writing came too early");
    changed_.set();
  }

  /// At each enter.
  void check() {
    if (!transport_ || lost_ || transport_->is_closing()) return;
    const auto limits = transport_->get_write_buffer_limits();
    const std::size_t unsent = transport_->get_write_buffer_size();
    if (writing_paused_ && unsent <= limits.low) {
      fail("resume_writing did not come");
    }
    if (!writing_paused_ && unsent > limits.high) fail("pause_writing did not come");
  }
  /// Some of the program's stream is written.
  void write(std::size_t size) {
    if (transport_->is_closing() || transport_->eof_written()) return;
    const auto data = Pattern(2).piece(written_, size);
    written_ += data.size();
    if (world_.random.chance(500)) {
      transport_->write_copy(data);
    } else {
      transport_->write(Bytes::copy(data));
    }
  }

  void close() {
    closed_ = true;
    transport_->close();
  }
  void abort() {
    closed_ = aborted_ = true;
    transport_->abort();
  }
  /// Until the next call comes.
  Task<> wait_for_call() {
    co_await changed_.wait();
    changed_.clear();
  }

  [[nodiscard]] bool lost() const noexcept { return lost_; }
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  [[nodiscard]] bool writing_paused() const noexcept { return writing_paused_; }
  [[nodiscard]] const Ref<Transport>& transport() const noexcept { return transport_; }
  [[nodiscard]] Connection& connection() const noexcept { return *connection_; }
  [[nodiscard]] std::uint64_t written() const noexcept { return written_; }
  [[nodiscard]] std::uint64_t received() const noexcept { return got_.bytes; }

 private:
  [[noreturn]] void fail(const char* text) {
    world_.fail("connection %u: %s", connection_->id(), text);
  }

  World& world_;
  std::shared_ptr<Connection> connection_;
  bool keeps_open_;
  Ref<Transport> transport_;
  Received got_{.pattern = Pattern(1)};
  std::uint64_t written_ = 0;
  bool writing_paused_ = false;
  bool ended_ = false;
  bool lost_ = false;
  bool closed_ = false;
  bool aborted_ = false;
  Event changed_;
};

class Transports final : public Course {
 public:
  using Course::Course;

 private:
  void begin() override {
    listener_ = make_ref<Listener>(
        loop_, bound_socket(), [this](OwnedFd socket) { open(std::move(socket)); },
        [](std::error_code) {});
    if (!listener_->start(16)) world_.fail("the listener does not start");
  }
  void finish() override { listener_->close(); }
  [[nodiscard]] bool settled() const override {
    return std::ranges::all_of(protocols_, [](const auto& each) { return each->lost(); });
  }
  [[nodiscard]] PeerPlan plan_client(unsigned) override {
    return {.sends = Pattern(1),
            .expects = Pattern(2),
            .bytes = world_.random.below(8) == 0 ? 0 : world_.random.scaled(1, 16384),
            .ends_last = world_.random.chance(300),
            .chunk_most = world_.random.scaled(1, 8192)};
  }

  void check_undisturbed(const Peer& peer) override {
    for (const auto& protocol : protocols_) {
      if (&protocol->connection() != peer.connection().get()) continue;
      if (peer.received() == protocol->written() && peer.saw_end() &&
          protocol->received() == peer.sent()) {
        return;
      }
      world_.fail("connection %u: written %llu, arrived %llu; sent %llu, received %llu",
                  protocol->connection().id(), static_cast<unsigned long long>(protocol->written()),
                  static_cast<unsigned long long>(peer.received()),
                  static_cast<unsigned long long>(peer.sent()),
                  static_cast<unsigned long long>(protocol->received()));
    }
    world_.fail("connection %u was never accepted", peer.connection()->id());
  }
  void check_more() override {
    for (const auto& protocol : protocols_) protocol->check();
  }

  void open(OwnedFd socket) {
    const auto connection = world_.file(socket.get())->connection;
    auto protocol = make_ref<CheckedProtocol>(world_, connection, world_.random.chance(700));
    protocols_.push_back(protocol);
    if (world_.random.chance(500)) {
      SocketTransport::open(loop_, std::move(socket), protocol);
    } else {
      SocketTransport::open_now(loop_, std::move(socket), protocol);
    }
    loop_.create_task(drive(protocol, world_.random.scaled(1, 16384)));
  }

  /// Does this and that until the connection is over.
  Task<> drive(Ref<CheckedProtocol> protocol, std::uint64_t to_write) {
    const Active active(*this);
    co_await sleep(Duration::zero());
    if (protocol->transport() && world_.random.chance(700)) {
      protocol->transport()->set_write_buffer_limits(draw_high_water(), {});
    }
    while (!protocol->lost()) {
      if (protocol->transport()) {
        nobody_looks() ? act_fully(*protocol, to_write) : act(*protocol, to_write);
      }
      if (nobody_looks()) {
        co_await protocol->wait_for_call();
        continue;
      }
      co_await sleep(microseconds(world_.random.scaled(1, 2000)));
    }
  }

  void act(CheckedProtocol& protocol, std::uint64_t to_write) {
    const Ref<Transport> transport = protocol.transport();
    if (world_.is_calm() && !transport->is_reading()) transport->resume_reading();
    const std::uint64_t left = to_write - std::min(protocol.written(), to_write);
    switch (world_.random.below(8)) {
      case 0:
        if (!world_.is_calm()) transport->pause_reading();
        break;
      case 1:
        transport->resume_reading();
        break;
      case 2:
        if (!world_.is_calm() && world_.random.chance(60)) {
          protocol.connection().may_be_killed = true;
          world_.random.chance(500) ? protocol.abort() : protocol.close();
        }
        break;
      case 3:
      case 4:
        if (left == 0) end(protocol);
        break;
      default:
        if (left > 0 && !protocol.writing_paused()) {
          protocol.write(static_cast<std::size_t>(world_.random.between(1, left)));
        }
    }
  }

  /// All that can be done now.
  void act_fully(CheckedProtocol& protocol, std::uint64_t to_write) {
    protocol.transport()->resume_reading();
    while (protocol.written() < to_write && !protocol.writing_paused() &&
           !protocol.transport()->is_closing()) {
      protocol.write(static_cast<std::size_t>(to_write - protocol.written()));
    }
    if (protocol.written() >= to_write) end(protocol);
  }

  void end(CheckedProtocol& protocol) {
    protocol.transport()->write_eof();
    if (protocol.ended()) protocol.close();
  }

  Ref<Listener> listener_;
  std::vector<Ref<CheckedProtocol>> protocols_;
};

}  // namespace

std::unique_ptr<Course> make_transport(World& world, Loop& loop) {
  return std::make_unique<Transports>(world, loop);
}

}  // namespace pelton::sim
