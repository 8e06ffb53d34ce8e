// A StreamReader as asyncio documents it, on a std::string: what fuzz_reader holds the real one to.
//
// It knows reads, the one place where a read waits, the order in which woken reads run, the
// exception that sticks, and when the transport is paused and resumed. It knows nothing of pieces:
// how much a read_piece takes it is told, and it judges that.
//
// Neighbours: fuzz_reader.cpp drives both in step and compares. A plain value.
#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

namespace pelton::fuzz {

/// One read and its arguments.
struct ReadRequest {
  enum class Kind { read, readline, readexactly, readuntil, readuntil_any, read_piece };
  Kind kind = Kind::read;
  bool as_code = false;  ///< the try_ twin
  std::ptrdiff_t count = 0;
  std::vector<std::string> separators;
};

/// How a read ended.
struct Outcome {
  enum class Kind {
    none,
    bytes,
    incomplete,
    overrun,
    value_error,
    runtime_error,
    failure,
    cancelled,
    code,
  };
  friend bool operator==(const Outcome&, const Outcome&) = default;
  [[nodiscard]] std::string to_string() const;

  Kind kind = Kind::none;
  std::string bytes;                  ///< the result, or the partial one
  std::optional<std::size_t> number;  ///< expected, or consumed
  std::string text;                   ///< what() of the exception
  std::error_code code{};
};

/// What set_exception() sets: its text, and the code that a try_ read gives for it.
struct ModelFailure {
  std::string text;
  std::error_code code;
};

class ReaderModel {
 public:
  static constexpr std::size_t nobody = std::numeric_limits<std::size_t>::max();
  /// How many bytes read number `id` took off as one piece.
  using PieceSize = std::function<std::size_t(std::size_t id)>;

  ReaderModel(std::size_t limit, PieceSize piece_size)
      : limit_(limit), piece_size_(std::move(piece_size)) {}

  void feed_data(std::string_view data);
  void feed_eof();
  void set_exception(ModelFailure failure);
  /// Precondition: there is none.
  void set_transport(bool pausable);
  void drop_transport() { has_transport_ = false; }

  /// Begins a read in the next turn; reads are numbered from 0.
  void start(ReadRequest request);
  /// Cancels the task of a read. \return false if it has ended.
  bool cancel(std::size_t id);
  /// Destroys the task of a read, wherever it is.
  void destroy(std::size_t id);
  /// Runs what is ready, as one turn of a loop does.
  void turn();

  [[nodiscard]] const std::string& buffer() const { return buffer_; }
  [[nodiscard]] bool eof() const { return eof_; }
  [[nodiscard]] bool paused() const { return paused_; }
  [[nodiscard]] bool has_transport() const { return has_transport_; }
  [[nodiscard]] int pauses() const { return pauses_; }
  [[nodiscard]] int resumes() const { return resumes_; }
  [[nodiscard]] bool done(std::size_t id) const { return reads_[id].state == Read::State::done; }
  [[nodiscard]] const Outcome& outcome(std::size_t id) const { return reads_[id].outcome; }
  /// asyncio's repr.
  [[nodiscard]] std::string to_string() const;

 private:
  struct Read {
    enum class State { fresh, waiting, woken, done };
    ReadRequest request;
    State state = State::fresh;
    bool scheduled = true;
    bool cancelled = false;
    bool woken_once = false;  ///< read(-1): the next block is taken without a look at the exception
    std::size_t offset = 0;   ///< readuntil: no separator begins before it
    std::string collected;    ///< read(-1): what was taken already
    std::optional<ModelFailure> failure;  ///< of the set_exception() that ended its wait
    Outcome outcome;
  };
  struct Match {
    std::size_t start = std::string::npos;
    std::size_t end = std::string::npos;
  };

  void wake_waiter();
  void schedule(std::size_t id);
  void step(std::size_t id);
  [[nodiscard]] bool begin(std::size_t id);
  void attempt(std::size_t id);
  void attempt_all(std::size_t id);
  void attempt_piece(std::size_t id);
  void attempt_until(std::size_t id);
  [[nodiscard]] Match search(const Read& read) const;
  void overrun(std::size_t id, const char* text, std::size_t consumed);
  void wait(std::size_t id);
  [[nodiscard]] std::string take(std::size_t count);
  void maybe_resume();
  void resume();
  void finish(std::size_t id, Outcome outcome);
  void finish_bytes(std::size_t id, std::string bytes);
  void finish_error(std::size_t id, Outcome::Kind kind, std::string text);
  void finish_incomplete(std::size_t id, std::optional<std::size_t> expected);
  void finish_failed(std::size_t id, const ModelFailure& failure);

  std::size_t limit_;
  PieceSize piece_size_;
  std::string buffer_;
  bool eof_ = false;
  bool paused_ = false;
  bool has_transport_ = false;
  bool pausable_ = true;
  int pauses_ = 0;
  int resumes_ = 0;
  std::optional<ModelFailure> exception_;
  std::vector<Read> reads_;
  std::vector<std::size_t> queue_;  ///< scheduled reads, in order
  std::size_t waiter_ = nobody;
};

}  // namespace pelton::fuzz
