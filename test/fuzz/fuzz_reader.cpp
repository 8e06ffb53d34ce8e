// Fuzz target: a StreamReader under any sequence of feeds, reads, cancels, failures and turns of
// the loop does what asyncio's contract says, which is reader_model.hpp's.
//
// After each step the two must agree on the state, on what the transport was asked for, and on how
// each read ended. Bytes that a read returned never change. At the end nothing is left: no task,
// no receive buffer that is lent.
//
// Neighbours: stream/reader.hpp, which is tested; reader_model.hpp; quiet_ring.hpp, the loop.
#include <deque>
#include <exception>
#include <optional>

#include <fuzz/pieces.hpp>
#include <fuzz/quiet_ring.hpp>
#include <fuzz/reader_model.hpp>
#include <fuzz/target.hpp>
#include <pelton/stream.hpp>
#include <support/recording_transport.hpp>

namespace pelton::fuzz {
namespace {

constexpr std::size_t buffered_max = 16 * 1024;
constexpr std::size_t reads_max = 64;
constexpr int steps_max = 250;

/// An exception that pelton does not know.
struct Foreign : std::exception {
  [[nodiscard]] const char* what() const noexcept override { return "foreign"; }
};

/// One read of the reader under test.
struct RealRead {
  ReadRequest request;
  Outcome outcome;
  Bytes bytes;  ///< what it returned
  TaskHandle<> task;
};

void note(RealRead& read, Bytes bytes) {
  read.outcome.kind = Outcome::Kind::bytes;
  read.outcome.bytes = bytes.to_string();
  read.bytes = std::move(bytes);
}
void note(RealRead& read, Result<Bytes> result) {
  if (result) return note(read, std::move(*result));
  read.outcome.kind = Outcome::Kind::code;
  read.outcome.code = result.error();
}
void note(RealRead& read, Outcome::Kind kind, const char* what) {
  read.outcome.kind = kind;
  read.outcome.text = what;
}

/// The read as a user awaits it.
Task<> await_read(StreamReader reader, RealRead& read) {
  const ReadRequest& request = read.request;
  switch (request.kind) {
    case ReadRequest::Kind::read:
      note(read, co_await reader.read(request.count));
      break;
    case ReadRequest::Kind::readline:
      note(read, co_await reader.readline());
      break;
    case ReadRequest::Kind::readexactly:
      note(read, co_await reader.readexactly(request.count));
      break;
    case ReadRequest::Kind::readuntil:
      note(read, co_await reader.readuntil(request.separators.front()));
      break;
    default: {
      std::vector<std::string_view> views(request.separators.begin(), request.separators.end());
      note(read, co_await reader.readuntil(std::move(views)));
    }
  }
}

/// The same with its try_ twin.
Task<> await_code(StreamReader reader, RealRead& read) {
  const ReadRequest& request = read.request;
  switch (request.kind) {
    case ReadRequest::Kind::read:
      note(read, co_await reader.try_read(request.count));
      break;
    case ReadRequest::Kind::readline:
      note(read, co_await reader.try_readline());
      break;
    case ReadRequest::Kind::readexactly:
      note(read, co_await reader.try_readexactly(request.count));
      break;
    case ReadRequest::Kind::readuntil:
      note(read, co_await reader.try_readuntil(request.separators.front()));
      break;
    default:
      note(read, co_await reader.try_read_piece(static_cast<std::size_t>(request.count)));
  }
}

/// The read and how it ends. Only its cancel and its destruction end it otherwise.
Task<> perform(StreamReader reader, RealRead& read) {
  try {
    if (read.request.as_code) {
      co_await await_code(std::move(reader), read);
    } else {
      co_await await_read(std::move(reader), read);
    }
  } catch (const IncompleteReadError& error) {
    note(read, Outcome::Kind::incomplete, error.what());
    read.outcome.bytes = error.partial().to_string();
    read.outcome.number = error.expected();
  } catch (const LimitOverrunError& error) {
    note(read, Outcome::Kind::overrun, error.what());
    read.outcome.number = error.consumed();
  } catch (const ValueError& error) {
    note(read, Outcome::Kind::value_error, error.what());
  } catch (const RuntimeError& error) {
    note(read, Outcome::Kind::runtime_error, error.what());
  } catch (const ConnectionResetError& error) {
    note(read, Outcome::Kind::failure, error.what());
  } catch (const Foreign& error) {
    note(read, Outcome::Kind::failure, error.what());
  }
}

class ReaderRun {
 public:
  explicit ReaderRun(std::size_t limit)
      : reader_(limit, quiet_loop()),
        model_(limit, [this](std::size_t id) { return reads_[id].outcome.bytes.size(); }) {}
  ReaderRun(const ReaderRun&) = delete;
  ReaderRun& operator=(const ReaderRun&) = delete;
  ~ReaderRun() {
    for (RealRead& read : reads_) read.task.state()->destroy();
    run_turn();  // the tasks that were destroyed in the ready queue
  }

  void step(Input& input) {
    switch (input.byte() % 16) {
      case 0:
      case 1:
      case 2:
        return feed(input);
      case 3:
      case 4:
        return turn();
      case 5:
      case 6:
      case 7:
      case 8:
        return start(input);
      case 9:
        return cancel(input);
      case 10:
        return destroy(input);
      case 11:
        reader_.feed_eof();
        return model_.feed_eof();
      case 12:
        return set_exception(input);
      case 13:
        return change_transport(input);
      case 14:
        static_cast<void>(reader_.core()->buffer().copy_out(input.byte() % 4));
        return;
      default:
        return forget();
    }
  }

  void check() const {
    const std::string state = reader_.to_string();
    if (state != model_.to_string()) fail("it is " + state + " and not " + model_.to_string());
    require(reader_.at_eof() == (model_.eof() && model_.buffer().empty()), "at_eof()");
    if (content() != model_.buffer()) fail("another content: " + shown(content()));
    require(pauses() == model_.pauses(), "paused another number of times");
    require(resumes() == model_.resumes(), "resumed another number of times");
    for (std::size_t id = 0; id < reads_.size(); ++id) check_read(id);
  }

  void check_bytes() const {
    for (const RealRead& read : reads_) {
      require(read.bytes.empty() || read.bytes == read.outcome.bytes,
              "bytes that a read returned have changed");
    }
  }

 private:
  void feed(Input& input) {
    const Bytes bytes = source_.next(input);
    if (model_.eof() || model_.buffer().size() + bytes.size() > buffered_max) return;
    model_.feed_data(bytes);
    reader_.feed_data(bytes);
  }

  void turn() {
    run_turn();
    for (RealRead& read : reads_) {
      if (read.task.cancelled()) read.outcome.kind = Outcome::Kind::cancelled;
    }
    model_.turn();
  }

  void start(Input& input) {
    if (reads_.size() == reads_max) return;
    RealRead& read = reads_.emplace_back();
    read.request = request_of(input);
    model_.start(read.request);
    read.task = quiet_loop().create_task(perform(reader_, read));
  }

  static ReadRequest request_of(Input& input) {
    ReadRequest request;
    const unsigned kind = input.byte();
    request.kind = static_cast<ReadRequest::Kind>(kind % 6);
    request.as_code = kind >= 128;
    // Counts around what is buffered, and now and then one far from it.
    request.count = static_cast<std::int8_t>(input.byte());
    if (request.count == 127) request.count = static_cast<std::ptrdiff_t>(input.word());
    switch (request.kind) {
      case ReadRequest::Kind::readline:
        request.separators = {"\n"};
        break;
      case ReadRequest::Kind::readuntil:
        request.separators = {std::string(input.take(input.byte() % 8))};
        break;
      case ReadRequest::Kind::readuntil_any:
        request.as_code = false;  // it has no twin
        for (unsigned left = input.byte() % 5; left > 0; --left) {
          request.separators.emplace_back(input.take(input.byte() % 6));
        }
        break;
      case ReadRequest::Kind::read_piece:
        request.as_code = true;  // it is one
        request.count = std::max<std::ptrdiff_t>(request.count, 0);
        break;
      default:
        break;
    }
    return request;
  }

  RealRead* read_of(Input& input, std::size_t& id) {
    if (reads_.empty()) return nullptr;
    id = reads_.size() - 1 - input.byte() % reads_.size();  // 0 is the youngest
    return &reads_[id];
  }
  void cancel(Input& input) {
    std::size_t id = 0;
    RealRead* const read = read_of(input, id);
    if (read) require(read->task.cancel() == model_.cancel(id), "cancel() of a read");
  }
  void destroy(Input& input) {
    std::size_t id = 0;
    RealRead* const read = read_of(input, id);
    if (!read) return;
    read->task.state()->destroy();
    if (read->task.cancelled()) read->outcome.kind = Outcome::Kind::cancelled;
    model_.destroy(id);
  }

  void set_exception(Input& input) {
    if (input.byte() % 2 == 0) {
      const std::error_code reset = errno_code(ECONNRESET);
      reader_.set_exception(Failure(reset));
      return model_.set_exception({ConnectionResetError(reset).what(), reset});
    }
    reader_.set_exception(Failure(std::make_exception_ptr(Foreign())));
    model_.set_exception({Foreign().what(), errno_code(EIO)});
  }

  void change_transport(Input& input) {
    const unsigned kind = input.byte();
    if (model_.has_transport()) {
      reader_.core()->drop_transport();
      return model_.drop_transport();
    }
    auto transport = make_ref<test::RecordingTransport>();
    transport->pausable = kind % 4 != 0;
    transports_.push_back(transport);
    reader_.set_transport(transport);
    model_.set_transport(transport->pausable);
  }

  /// Drops what the reads returned, so that its memory may be used anew.
  void forget() {
    check_bytes();
    for (RealRead& read : reads_) read.bytes = {};
  }

  [[nodiscard]] std::string content() const {
    const Chain& buffer = reader_.core()->buffer();
    std::string text;
    for (std::size_t index = 0; index < buffer.piece_count(); ++index) {
      text += buffer.piece(index).view();
    }
    return text;
  }
  [[nodiscard]] int pauses() const {
    int count = 0;
    for (const auto& transport : transports_) count += transport->pauses;
    return count;
  }
  [[nodiscard]] int resumes() const {
    int count = 0;
    for (const auto& transport : transports_) count += transport->resumes;
    return count;
  }

  void check_read(std::size_t id) const {
    const RealRead& read = reads_[id];
    const bool done = read.task.done();
    if (done != model_.done(id)) fail(done ? "a read ended too early" : "a read waits on");
    const Outcome& expected = model_.outcome(id);
    if (read.outcome == expected) return;
    fail("a read ended with " + read.outcome.to_string() + " and not with " + expected.to_string());
  }

  PieceSource source_;
  std::deque<RealRead> reads_;
  std::vector<Ref<test::RecordingTransport>> transports_;
  StreamReader reader_;
  ReaderModel model_;
};

}  // namespace
}  // namespace pelton::fuzz

PELTON_FUZZ_TARGET(reader) {
  using namespace pelton::fuzz;
  const std::size_t kind = input.byte();
  const std::size_t limit = kind == 255 ? pelton::stream_limit_default : 1 + kind % 128;
  {
    ReaderRun run(limit);
    for (int step = 0; step < steps_max && !input.empty(); ++step) {
      run.step(input);
      run.check();
    }
    run.check_bytes();
  }
  require(quiet_loop().task_count() == 0, "a task is left");
  require(quiet_loop().buffers().lent() == 0, "a receive buffer is left");
}
