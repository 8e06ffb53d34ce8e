// Scenario mix: two streams of bytes on each connection, read and written in every way. Half of the
// connections are served, half are the program's own. See course.hpp.
#include <map>

#include <pelton/engine/timeout.hpp>

#include "sim/course.hpp"

namespace pelton::sim {
namespace {

using std::chrono::microseconds;

Task<Bytes> read_exactly(StreamReader reader, std::ptrdiff_t count) {
  co_return co_await reader.readexactly(count);
}
Task<Bytes> read_until(StreamReader reader) { co_return co_await reader.readuntil("\n"); }

class Mix final : public Course {
 public:
  using Course::Course;

  void check() override {
    for (const auto& connection : world_.connections()) {
      // A connect that was cancelled just when it succeeded: nobody came to talk.
      if (has_cancelled_ && !records_.contains(connection.get())) connection->may_be_killed = true;
    }
    Course::check();
  }

 private:
  /// What the program did on a connection.
  struct Record {
    Received got{.pattern = Pattern(1)};
    std::uint64_t written = 0;
  };
  struct Talk {
    Talk(StreamReader its_reader, StreamWriter its_writer)
        : reader(std::move(its_reader)), writer(std::move(its_writer)) {}
    StreamReader reader;
    StreamWriter writer;
    std::shared_ptr<Connection> connection;
    Record* record = nullptr;
    std::uint64_t to_write = 0;
  };
  using TalkPtr = std::shared_ptr<Talk>;

  void begin() override {
    read_most_ = 4096;
    const ServerOptions options{.limit = draw_limit()};
    server_.emplace(start_server(
        [this](StreamReader reader, StreamWriter writer) {
          return talk(std::move(reader), std::move(writer));
        },
        bound_socket(), options));
    world_.upstream = [this] { return accept_upstream(plan_client(0)); };
    const auto count = world_.random.below(4);
    for (std::uint64_t number = 0; number < count; ++number) {
      own_.push_back(loop_.create_task(connect_and_talk(std::make_unique<Active>(*this))));
    }
  }
  void finish() override { server_->close(); }
  void cancel_one() override {
    has_cancelled_ = true;
    if (!own_.empty()) own_[world_.random.below(own_.size())].cancel();
  }
  void end_clients() override {
    world_.random.chance(500) ? server_->close_clients() : server_->abort_clients();
  }
  [[nodiscard]] bool settled() const override { return server_->connection_count() == 0; }
  [[nodiscard]] PeerPlan plan_client(unsigned) override {
    return {.sends = Pattern(1),
            .expects = Pattern(2),
            .bytes = world_.random.below(8) == 0 ? 0 : world_.random.scaled(1, 16384),
            .ends_last = world_.random.chance(300),
            .chunk_most = world_.random.scaled(1, 8192)};
  }
  void check_undisturbed(const Peer& peer) override {
    const Connection& connection = *peer.connection();
    const Record& record = records_[&connection];
    if (peer.received() != record.written || !peer.saw_end()) {
      world_.fail("connection %u: %llu bytes were written, %llu arrived", connection.id(),
                  static_cast<unsigned long long>(record.written),
                  static_cast<unsigned long long>(peer.received()));
    }
    if (record.got.bytes != peer.sent()) {
      world_.fail("connection %u: %llu bytes were sent, %llu were read", connection.id(),
                  static_cast<unsigned long long>(peer.sent()),
                  static_cast<unsigned long long>(record.got.bytes));
    }
  }

  /// \param active  From before it begins.
  Task<> connect_and_talk([[maybe_unused]] std::unique_ptr<Active> active) {
    std::optional<StreamPair> streams;
    co_await sleep(microseconds(world_.random.scaled(1, 20'000)));
    try {
      const ConnectOptions options{.limit = draw_limit()};
      streams.emplace(co_await connect_upstream(options));
    } catch (const OSError& error) {
      world_.expect_connect_error(error.code());
    }
    if (streams) co_await talk(std::move(streams->reader), std::move(streams->writer));
  }

  Task<> talk(StreamReader reader, StreamWriter writer) {
    const Active active(*this);
    const auto talk = std::make_shared<Talk>(std::move(reader), std::move(writer));
    talk->connection = connection_of(talk->writer);
    if (!talk->connection) co_return;
    talk->record = &records_[talk->connection.get()];
    talk->to_write = world_.random.below(8) == 0 ? 0 : world_.random.scaled(1, 16384);
    talk->writer.transport().set_write_buffer_limits(draw_high_water(), {});
    const Watched watched(*this, talk->reader, talk->writer);
    const TaskHandle<> writing = loop_.create_task(write_all(talk));
    try {
      co_await read_all(talk);
      co_await writing;
      talk->writer.close();
      co_await talk->writer.wait_closed();
    } catch (const OSError&) {
      expect_killed(*talk, "wait_closed() raised");
    } catch (const Cancelled&) {
      talk->connection->may_be_killed = true;
      writing.cancel();
      talk->writer.close();
      throw;
    }
  }

  void expect_killed(const Talk& talk, const char* what) {
    if (talk.connection->killed_by_peer || talk.connection->may_be_killed) return;
    world_.fail("connection %u: %s, and nothing had disturbed it", talk.connection->id(), what);
  }

  // --- Reading ---

  void take(Talk& talk, const Bytes& data) {
    if (talk.record->got.take(data.span())) return;
    world_.fail("connection %u: what was read before byte %llu is not what was sent",
                talk.connection->id(), static_cast<unsigned long long>(talk.record->got.bytes));
  }

  Task<> read_all(TalkPtr talk) {
    bool ended = false;
    while (!ended) {
      if (world_.random.chance(100)) {
        co_await sleep(microseconds(world_.random.scaled(1, world_.is_calm() ? 100 : 20'000)));
      }
      try {
        ended = co_await read_some(talk);
      } catch (const IncompleteReadError& error) {
        take(*talk, error.partial());
        ended = true;
      } catch (const TimeoutError&) {  // no byte is lost by that
      } catch (const OSError&) {
        expect_killed(*talk, "a read raised");
        ended = true;
      }
    }
  }

  /// \return true at the end.
  Task<bool> read_some(TalkPtr talk) {
    const StreamReader& reader = talk->reader;
    const auto count = static_cast<std::ptrdiff_t>(world_.random.scaled(1, 4096));
    const Duration patience = microseconds(world_.random.scaled(1, 2000));
    Bytes data;
    // A limited wait sets a timer, which wakes the loop.
    switch (nobody_looks() ? 0 : world_.random.below(6)) {
      case 0:
        data = co_await reader.read(count);
        break;
      case 1:
        data = co_await reader.readexactly(count);
        break;
      case 2:
        data = co_await wait_for(read_exactly(reader, count), patience);
        break;
      case 3:
        co_return co_await read_line(talk, patience);
      default: {
        Result<Bytes> piece = co_await reader.try_read_piece(static_cast<std::size_t>(count));
        if (!piece) expect_killed(*talk, "a read failed");
        if (!piece) co_return true;
        data = std::move(*piece);
      }
    }
    take(*talk, data);
    const bool may_end =
        talk->connection->end_sent_to(Connection::program) || talk->connection->may_be_killed;
    if (data.empty() && !may_end) {
      world_.fail("connection %u: a read found an end that the peer never sent",
                  talk->connection->id());
    }
    co_return data.empty();
  }

  Task<bool> read_line(TalkPtr talk, Duration patience) {
    Bytes data;
    std::size_t overrun = 0;
    try {
      data = co_await wait_for(read_until(talk->reader), patience);
    } catch (const LimitOverrunError& error) {
      overrun = std::max<std::size_t>(error.consumed(), 1);
    }
    if (overrun > 0) {
      data = co_await talk->reader.readexactly(static_cast<std::ptrdiff_t>(overrun));
    } else if (data.view().find('\n') != data.size() - 1) {
      world_.fail("readuntil returned what is not one line");
    }
    take(*talk, data);
    co_return false;
  }

  // --- Writing ---

  Task<> write_all(TalkPtr talk) {
    StreamWriter& writer = talk->writer;
    bool broken = false;
    while (!broken && talk->record->written < talk->to_write) {
      write_some(*talk);
      if (world_.random.chance(700)) {
        try {
          co_await drain(talk);
        } catch (const OSError&) {
          expect_killed(*talk, "a drain raised");
          broken = true;
        }
      }
      if (world_.random.chance(200)) co_await sleep(microseconds(world_.random.scaled(1, 1000)));
    }
    writer.write_eof();
  }

  void write_some(Talk& talk) {
    StreamWriter& writer = talk.writer;
    const std::uint64_t left = talk.to_write - talk.record->written;
    const auto pieces = world_.random.between(1, 4);
    for (std::uint64_t piece = 0; piece < pieces; ++piece) {
      const std::uint64_t done = talk.record->written;
      const auto most = std::min(left, world_.random.scaled(1, 4096));
      const auto data =
          Pattern(2).piece(done, static_cast<std::size_t>(std::min(most, talk.to_write - done)));
      if (data.empty() || writer.is_closing()) return;
      const std::string_view text(reinterpret_cast<const char*>(data.data()), data.size());
      if (world_.random.chance(500)) {
        writer.write(std::string(text));
      } else {
        writer.write(text);
      }
      talk.record->written += data.size();
    }
  }

  Task<> drain(TalkPtr talk) {
    StreamWriter& writer = talk->writer;
    const auto* const protocol =
        static_cast<const StreamReaderProtocol*>(writer.transport().get_protocol());
    const bool waits = protocol && protocol->writing_paused() && !writer.is_closing();
    co_await writer.drain();
    if (!waits || writer.is_closing()) co_return;
    const auto limits = writer.transport().get_write_buffer_limits();
    if (writer.transport().get_write_buffer_size() > limits.low) {
      world_.fail("a drain was woken at %zu bytes, low water is %zu",
                  writer.transport().get_write_buffer_size(), limits.low);
    }
  }

  std::optional<Server> server_;
  std::map<const Connection*, Record> records_;
  std::vector<TaskHandle<>> own_;  ///< that connect
  bool has_cancelled_ = false;
};

}  // namespace

std::unique_ptr<Course> make_mix(World& world, Loop& loop) {
  return std::make_unique<Mix>(world, loop);
}

}  // namespace pelton::sim
