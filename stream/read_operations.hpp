// The reads of a StreamReader as awaiters: state machines on its buffer, not coroutines.
//
// A read that the buffer can satisfy ends in await_ready, without a suspension or an allocation;
// one that its first piece can satisfy does not even make its state machine (Reading, below).
// One that cannot waits in the reader's single waiting place; when it is woken it tries again
// before its coroutine is resumed. Cancelling takes it off at once, and the bytes stay.
//
// Each attempt() follows the order of checks of CPython 3.13's Lib/asyncio/streams.py, which the
// oracle in test/oracle compares to the letter.
//
// Neighbours: reader_core.hpp, the buffer; reader.hpp, which makes these.
#pragma once

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include <pelton/stream/errors.hpp>
#include <pelton/stream/reader_core.hpp>

namespace pelton::detail {

/// Base of all reads: waiting, waking, the outcome.
class ReadOperation : public ReadWait {
 public:
  /// \param core  outlives the beginning of the await; from a wait on it is held.
  explicit ReadOperation(ReaderCore& core) noexcept : core_(&core) {}
  ~ReadOperation() override {
    if (holds_core_) let_go();
    if (end_ == End::failure) failure_.~Failure();
  }

  [[nodiscard]] bool await_ready() { return begin() || attempt(); }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept { park(coroutine); }
  void fail(const Failure& failure) noexcept override {
    end_with(failure);
    wake();
  }

 protected:
  enum class End : std::uint8_t {
    none,
    bytes,
    incomplete,
    overrun,
    value_error,
    concurrent,
    failure,
  };

  /// The name of the read, for the RuntimeError.
  [[nodiscard]] virtual const char* name() const noexcept = 0;
  /// Checks the arguments and the reader's exception, once. \return true if that ended the read.
  virtual bool begin() = 0;
  /// Tries to end the read. \return false if it waits now.
  virtual bool attempt() = 0;

  /// For attempt(): waits for data. \return what attempt() must return.
  [[nodiscard]] bool wait_for_data() noexcept;
  bool end_with(Bytes bytes) noexcept;
  bool end_with(const Failure& failure) noexcept;
  bool end_incomplete(Bytes partial, std::optional<std::size_t> expected) noexcept;
  bool end_overrun(const char* text, std::size_t consumed) noexcept;
  bool end_value_error(const char* text) noexcept;
  /// The outcome as a value or asyncio's exception. \throws also Cancelled.
  [[nodiscard]] Bytes take_or_throw() {
    if (end_ == End::bytes && !cancelled()) return std::move(bytes_);
    raise();
  }
  /// The outcome as a value or a code. \throws Cancelled
  [[nodiscard]] Result<Bytes> take_result() {
    if (end_ == End::bytes && !cancelled()) return std::move(bytes_);
    return std::unexpected(code());
  }

  [[nodiscard]] ReaderCore& core() const noexcept { return *core_; }
  [[nodiscard]] End end() const noexcept { return end_; }
  [[nodiscard]] std::size_t number() const noexcept { return number_; }
  [[nodiscard]] Bytes& bytes() noexcept { return bytes_; }
  [[nodiscard]] const char* text() const noexcept { return text_; }

 private:
  bool still_waiting() noexcept override;
  void cancel_wait() noexcept override;
  [[noreturn]] void raise();
  [[nodiscard]] std::error_code code();

  void let_go() noexcept;

  End end_ = End::none;  // these three fill up WaitCell's last word
  bool has_expected_ = false;
  bool holds_core_ = false;
  ReaderCore* core_;
  Bytes bytes_;
  union {
    struct {
      std::size_t number_;  ///< expected or consumed
      const char* text_;
    };
    Failure failure_;  ///< of End::failure
  };
};

/// read(n): n > 0 at most n bytes, 0 none, n < 0 all up to the end.
class Read : public ReadOperation {
 public:
  using Argument = std::ptrdiff_t;
  Read(ReaderCore& core, Argument count) noexcept : ReadOperation(core), count_(count) {}
  [[nodiscard]] static std::size_t front(ReaderCore& core, Argument count) noexcept {
    if (count <= 0) return 0;
    const Chain& buffer = core.buffer();
    const std::size_t taken = std::min(static_cast<std::size_t>(count), buffer.size());
    return taken <= buffer.front().size() ? taken : 0;
  }
  [[nodiscard]] Bytes await_resume() { return take_or_throw(); }

 private:
  [[nodiscard]] const char* name() const noexcept override { return "read"; }
  bool begin() override;
  bool attempt() override;
  bool attempt_all();

  std::ptrdiff_t count_;
  bool woken_ = false;                ///< by data: the block that comes is not checked anew
  std::unique_ptr<Chain> collected_;  ///< read(-1): what was taken already
};

/// One contiguous piece, 1..n bytes, never copied; empty at the end. pelton's own.
class ReadPiece : public ReadOperation {
 public:
  using Argument = std::size_t;
  ReadPiece(ReaderCore& core, Argument count_max) noexcept
      : ReadOperation(core), count_max_(count_max) {}
  [[nodiscard]] static std::size_t front(ReaderCore& core, Argument count_max) noexcept {
    return std::min(count_max, core.buffer().front().size());
  }
  [[nodiscard]] Bytes await_resume() { return take_or_throw(); }

 private:
  [[nodiscard]] const char* name() const noexcept override { return "read_piece"; }
  bool begin() override;
  bool attempt() override;
  std::size_t count_max_;
};

class ReadExactly : public ReadOperation {
 public:
  using Argument = std::ptrdiff_t;
  ReadExactly(ReaderCore& core, Argument count) noexcept : ReadOperation(core), count_(count) {}
  [[nodiscard]] static std::size_t front(ReaderCore& core, Argument count) noexcept {
    if (count <= 0) return 0;
    const auto taken = static_cast<std::size_t>(count);
    return taken <= core.buffer().front().size() ? taken : 0;
  }
  [[nodiscard]] Bytes await_resume() { return take_or_throw(); }

 private:
  [[nodiscard]] const char* name() const noexcept override { return "readexactly"; }
  bool begin() override;
  bool attempt() override;
  std::ptrdiff_t count_;
};

/// What readuntil of one separator and of several share: `offset_` and the order of checks.
class ReadUntilBase : public ReadOperation {
 public:
  using ReadOperation::ReadOperation;
  [[nodiscard]] Bytes await_resume() { return take_or_throw(); }

 protected:
  struct Match {
    std::size_t start = Chain::npos;
    std::size_t end = Chain::npos;
  };
  bool attempt() override;
  /// The separator that ends first, among those that begin at offset_ or later.
  [[nodiscard]] virtual Match search() const noexcept = 0;
  [[nodiscard]] virtual std::size_t shortest() const noexcept = 0;
  [[nodiscard]] virtual std::size_t longest() const noexcept = 0;
  [[nodiscard]] std::size_t offset() const noexcept { return offset_; }
  bool check_begin();

 private:
  [[nodiscard]] const char* name() const noexcept override { return "readuntil"; }
  [[nodiscard]] bool take_match(const Match& match);

  std::size_t offset_ = 0;  ///< no separator begins before it
};

/// readuntil one separator.
class ReadUntil : public ReadUntilBase {
 public:
  using Argument = std::string_view;
  ReadUntil(ReaderCore& core, Argument separator) noexcept
      : ReadUntilBase(core), separator_(separator) {}
  /// Separators of one byte are searched for here: most lines end with one.
  [[nodiscard]] static std::size_t front(ReaderCore& core, Argument separator) noexcept {
    if (separator.size() != 1) return 0;
    const std::size_t count = core.buffer().front_through(separator.front());
    return count <= core.limit() + 1 ? count : 0;
  }

 protected:
  bool begin() override { return check_begin(); }

 private:
  [[nodiscard]] Match search() const noexcept override;
  [[nodiscard]] std::size_t shortest() const noexcept override { return separator_.size(); }
  [[nodiscard]] std::size_t longest() const noexcept override { return separator_.size(); }

  std::string_view separator_;
};

/// readuntil the earliest end of several separators; of equal ones the shortest.
class ReadUntilAny : public ReadUntilBase {
 public:
  ReadUntilAny(ReaderCore& core, std::vector<std::string_view> separators);

 private:
  bool begin() override;
  [[nodiscard]] Match search() const noexcept override;
  [[nodiscard]] std::size_t shortest() const noexcept override {
    return separators_.front().size();
  }
  [[nodiscard]] std::size_t longest() const noexcept override { return separators_.back().size(); }

  std::vector<std::string_view> separators_;  ///< by length, shortest first
};

/// readline: readuntil "\n" whose failures become a partial line or a ValueError.
class ReadLine : public ReadUntil {
 public:
  struct Argument {};
  ReadLine(ReaderCore& core, Argument) noexcept : ReadUntil(core, "\n") {}
  [[nodiscard]] static std::size_t front(ReaderCore& core, Argument) noexcept {
    return ReadUntil::front(core, "\n");
  }

 private:
  bool begin() override { return finish(ReadUntil::begin()); }
  bool attempt() override { return finish(ReadUntil::attempt()); }
  bool finish(bool ended);
};

/// A read whose errors are codes: the try_ twin of `Operation`.
template <class Operation>
class Try final : public Operation {
 public:
  using Operation::Operation;
  /// \throws Cancelled only
  [[nodiscard]] Result<Bytes> await_resume() { return this->take_result(); }
};

/// asyncio's answer to who awaits a coroutine twice.
[[noreturn]] void raise_reused();

/// A read as it is awaited. Where the first piece of the buffer has the answer nothing else is
/// made: that is the usual case, and what it costs every line costs. Else the operation is made in
/// the place of its argument.
///
/// Operation::front(core, argument) tells how many bytes of the first piece are the answer, 0 if
/// it is not there. It is asked only where there are bytes and the reader has not failed.
///
/// The bytes are taken off in await_resume, straight into what the await yields: a stop-over in
/// this object takes longer. Both halves are inlined by force, for GCC 12 would call the second.
template <class Operation>
class Reading {
 public:
  using Argument = typename Operation::Argument;
  using Outcome = decltype(std::declval<Operation&>().await_resume());

  Reading(ReaderCore& core, Argument argument = {}) noexcept : asked_{&core, argument} {}
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;
  ~Reading() {
    if (front_ == made) operation_.~Operation();
  }

  /// \throws RuntimeError  it was awaited before.
  [[nodiscard, gnu::always_inline]] bool await_ready() {
    if (front_ != 0) [[unlikely]]
      raise_reused();
    if (asked_.core->has_bytes()) front_ = Operation::front(*asked_.core, asked_.argument);
    return front_ != 0 || make();
  }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept {
    operation_.await_suspend(coroutine);
  }
  [[nodiscard, gnu::always_inline]] Outcome await_resume() {
    if (front_ != made) return asked_.core->take_front(front_);
    return operation_.await_resume();
  }

 private:
  static constexpr std::size_t made = Chain::npos;  // more than any piece has

  [[gnu::noinline]] bool make() {
    const Asked asked = asked_;
    new (&operation_) Operation(*asked.core, asked.argument);
    front_ = made;
    return operation_.await_ready();
  }

  struct Asked {
    ReaderCore* core;
    Argument argument;
  };
  std::size_t front_ = 0;  ///< bytes that are the answer; or `made`
  union {
    Asked asked_;
    Operation operation_;  ///< once `made`
  };
};

}  // namespace pelton::detail
