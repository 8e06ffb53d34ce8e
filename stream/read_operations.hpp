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

#include <optional>
#include <string_view>
#include <vector>

#include <pelton/stream/errors.hpp>
#include <pelton/stream/reader_core.hpp>

namespace pelton::detail {

/// Base of all reads: waiting, waking, the outcome.
class ReadOperation : public Waiter {
 public:
  ReadOperation(Ref<ReaderCore> core, const char* name) noexcept
      : core_(std::move(core)), name_(name) {}
  ~ReadOperation() override { core_->end_wait(*this); }

  [[nodiscard]] bool await_ready() { return begin() || attempt(); }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept { park(coroutine); }
  /// The reader failed while this waited.
  void fail(const Failure& failure) noexcept {
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
  [[nodiscard]] Bytes take_or_throw();
  /// The outcome as a value or a code. \throws Cancelled
  [[nodiscard]] Result<Bytes> take_result();

  [[nodiscard]] ReaderCore& core() const noexcept { return *core_; }
  [[nodiscard]] End end() const noexcept { return end_; }
  [[nodiscard]] std::size_t number() const noexcept { return number_; }
  [[nodiscard]] Bytes& bytes() noexcept { return bytes_; }
  [[nodiscard]] const char* text() const noexcept { return text_; }

 private:
  bool still_waiting() noexcept override;
  void cancel_wait() noexcept override;

  Ref<ReaderCore> core_;
  const char* name_;  ///< "read", "readuntil", "readexactly": for the RuntimeError
  End end_ = End::none;
  bool has_expected_ = false;
  std::size_t number_ = 0;  ///< expected or consumed
  const char* text_ = nullptr;
  Bytes bytes_;
  Failure failure_;
};

/// read(n): n > 0 at most n bytes, 0 none, n < 0 all up to the end.
class Read : public ReadOperation {
 public:
  Read(Ref<ReaderCore> core, std::ptrdiff_t count) noexcept
      : ReadOperation(std::move(core), "read"), count_(count) {}
  [[nodiscard]] Bytes await_resume() { return take_or_throw(); }

 private:
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
  ReadPiece(Ref<ReaderCore> core, std::size_t count_max) noexcept
      : ReadOperation(std::move(core), "read_piece"), count_max_(count_max) {}
  [[nodiscard]] Bytes await_resume() { return take_or_throw(); }

 private:
  bool begin() override;
  bool attempt() override;
  std::size_t count_max_;
};

class ReadExactly : public ReadOperation {
 public:
  ReadExactly(Ref<ReaderCore> core, std::ptrdiff_t count) noexcept
      : ReadOperation(std::move(core), "readexactly"), count_(count) {}
  [[nodiscard]] Bytes await_resume() { return take_or_throw(); }

 private:
  bool begin() override;
  bool attempt() override;
  std::ptrdiff_t count_;
};

/// readuntil one separator, or the earliest end of several.
class ReadUntil : public ReadOperation {
 public:
  ReadUntil(Ref<ReaderCore> core, std::string_view separator) noexcept
      : ReadOperation(std::move(core), "readuntil"), one_(separator), one_only_(true) {}
  ReadUntil(Ref<ReaderCore> core, std::vector<std::string_view> separators);
  [[nodiscard]] Bytes await_resume() { return take_or_throw(); }

 protected:
  bool begin() override;
  bool attempt() override;

 private:
  struct Match {
    std::size_t start = Chain::npos;
    std::size_t end = Chain::npos;
  };
  [[nodiscard]] Match search() const noexcept;
  [[nodiscard]] std::size_t shortest() const noexcept;
  [[nodiscard]] std::size_t longest() const noexcept;
  [[nodiscard]] bool take_match(const Match& match);

  std::string_view one_;
  std::vector<std::string_view> several_;  ///< by length, shortest first
  bool one_only_ = false;
  std::size_t offset_ = 0;  ///< no separator begins before it
};

/// readline: readuntil "\n" whose failures become a partial line or a ValueError.
class ReadLine : public ReadUntil {
 public:
  explicit ReadLine(Ref<ReaderCore> core) noexcept : ReadUntil(std::move(core), "\n") {}

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
