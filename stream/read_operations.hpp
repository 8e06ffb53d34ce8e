// The reads of a StreamReader as awaiters: state machines on its buffer, not coroutines.
//
// A read that the buffer can satisfy ends in await_ready, without a suspension or an allocation.
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
class ReadOperation : public Waiter {
 public:
  /// \param core  outlives the beginning of the await; from a wait on it is held.
  explicit ReadOperation(ReaderCore& core) noexcept : core_(&core) {}
  ~ReadOperation() override {
    if (holds_core_) let_go();
    if (end_ == End::failure) failure_.~Failure();
  }

  void await_suspend(std::coroutine_handle<> coroutine) noexcept { park(coroutine); }
  /// The reader failed while this waited.
  void fail(const Failure& failure) noexcept {
    end_with(failure);
    wake();
  }

 protected:
  enum class End : std::uint8_t {
    none,
    front,  ///< the first bytes of the buffer, not taken off yet
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

  /// True if the reader has bytes and no exception: what reads ask first, for it is the usual case.
  [[nodiscard]] bool has_bytes() const noexcept {
    return !core_->buffer().empty() && !core_->exception();
  }
  /// Ends the read with `count` bytes if they lie in the first piece; the outcome takes them off.
  /// Precondition: has_bytes().
  [[nodiscard]] bool end_with_front(std::size_t count) noexcept {
    if (count == 0 || count > core_->buffer().piece(0).size()) return false;
    end_ = End::front;
    number_ = count;
    return true;
  }
  /// For attempt(): waits for data. \return what attempt() must return.
  [[nodiscard]] bool wait_for_data() noexcept;
  bool end_with(Bytes bytes) noexcept;
  bool end_with(const Failure& failure) noexcept;
  bool end_incomplete(Bytes partial, std::optional<std::size_t> expected) noexcept;
  bool end_overrun(const char* text, std::size_t consumed) noexcept;
  bool end_value_error(const char* text) noexcept;
  /// The outcome as a value or asyncio's exception. \throws also Cancelled.
  [[nodiscard]] Bytes take_or_throw() {
    if (end_ == End::front) return take_front();
    if (end_ == End::bytes && !cancelled()) return std::move(bytes_);
    raise();
  }
  /// The outcome as a value or a code. \throws Cancelled
  [[nodiscard]] Result<Bytes> take_result() {
    if (end_ == End::front) return take_front();
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
  /// Straight into what the await yields: a stop-over in bytes_ costs as much as the rest.
  [[nodiscard]] Bytes take_front() noexcept {
    Bytes front = core_->buffer().take_front(number_);
    core_->maybe_resume_transport();
    return front;
  }

  ReaderCore* core_;
  End end_ = End::none;
  bool has_expected_ = false;
  bool holds_core_ = false;
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
  Read(ReaderCore& core, std::ptrdiff_t count) noexcept : ReadOperation(core), count_(count) {}
  [[nodiscard]] bool await_ready() {
    return (count_ > 0 && has_bytes() && end_with_front(buffered())) || begin() || attempt();
  }
  [[nodiscard]] Bytes await_resume() { return take_or_throw(); }

 private:
  [[nodiscard]] const char* name() const noexcept override { return "read"; }
  bool begin() override;
  bool attempt() override;
  bool attempt_all();
  /// As many as may be read of what is buffered.
  [[nodiscard]] std::size_t buffered() const noexcept {
    return std::min(static_cast<std::size_t>(count_), core().buffer().size());
  }

  std::ptrdiff_t count_;
  bool woken_ = false;                ///< by data: the block that comes is not checked anew
  std::unique_ptr<Chain> collected_;  ///< read(-1): what was taken already
};

/// One contiguous piece, 1..n bytes, never copied; empty at the end. pelton's own.
class ReadPiece : public ReadOperation {
 public:
  ReadPiece(ReaderCore& core, std::size_t count_max) noexcept
      : ReadOperation(core), count_max_(count_max) {}
  [[nodiscard]] bool await_ready() { return begin() || attempt(); }
  [[nodiscard]] Bytes await_resume() { return take_or_throw(); }

 private:
  [[nodiscard]] const char* name() const noexcept override { return "read_piece"; }
  bool begin() override;
  bool attempt() override;
  std::size_t count_max_;
};

class ReadExactly : public ReadOperation {
 public:
  ReadExactly(ReaderCore& core, std::ptrdiff_t count) noexcept
      : ReadOperation(core), count_(count) {}
  [[nodiscard]] bool await_ready() {
    return (count_ > 0 && has_bytes() && end_with_front(static_cast<std::size_t>(count_))) ||
           begin() || attempt();
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
  ReadUntil(ReaderCore& core, std::string_view separator) noexcept
      : ReadUntilBase(core), separator_(separator) {}
  [[nodiscard]] bool await_ready() { return take_buffered() || begin() || attempt(); }

 protected:
  /// Takes what ends with a separator of one byte in the first piece of the buffer: most lines.
  [[nodiscard]] bool take_buffered() noexcept {
    if (separator_.size() != 1 || !has_bytes()) return false;
    const std::size_t count = core().buffer().front_through(separator_.front());
    return count <= core().limit() + 1 && end_with_front(count);
  }
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
  [[nodiscard]] bool await_ready() { return begin() || attempt(); }

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
  explicit ReadLine(ReaderCore& core) noexcept : ReadUntil(core, "\n") {}
  [[nodiscard]] bool await_ready() { return take_buffered() || begin() || attempt(); }

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

}  // namespace pelton::detail
