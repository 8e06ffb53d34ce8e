// ReaderCore: the buffer and the state that a StreamReader handle refers to.
//
// It holds received bytes as a chain of shared pieces, wakes the one read that waits, and pauses
// its transport above 2 * limit buffered bytes. The reads themselves are in read_operations.hpp.
//
// Neighbours: reader.hpp, the handle; reader_protocol.hpp, which feeds it.
// Thread rule: the loop's thread only.
#pragma once

#include <memory>

#include <pelton/engine/chain.hpp>
#include <pelton/engine/frame_pool.hpp>
#include <pelton/engine/waiter.hpp>
#include <pelton/proto/transport.hpp>

namespace pelton {

inline constexpr std::size_t stream_limit_default = 64 * 1024;

namespace detail {

/// The wait for a reader's next bytes: woken by them, by the end and by a failure.
class ReadWait : public WaitCell {
 public:
  /// The reader failed while this was the one that waits for it: ends the wait with `failure`.
  virtual void fail(const Failure& failure) noexcept = 0;
};

class ReaderCore final : public RefCounted, public PooledMemory {
 public:
  /// \throws ValueError "Limit cannot be <= 0"
  explicit ReaderCore(std::size_t limit);

  void feed_data(Bytes data);
  void feed_eof() noexcept;
  void set_exception(Failure failure) noexcept;
  void set_transport(Ref<Transport> transport) noexcept;
  [[nodiscard]] const Failure& exception() const noexcept { return exception_; }
  [[nodiscard]] bool eof() const noexcept { return eof_; }
  [[nodiscard]] bool at_eof() const noexcept { return eof_ && buffer_.empty(); }
  [[nodiscard]] bool paused() const noexcept { return paused_; }
  [[nodiscard]] std::size_t limit() const noexcept { return limit_; }
  [[nodiscard]] Chain& buffer() noexcept { return buffer_; }
  /// True if there are bytes and no exception: what reads ask first, for it is the usual case.
  [[nodiscard]] bool has_bytes() const noexcept { return !buffer_.empty() && !exception_; }
  [[nodiscard]] const Ref<Transport>& transport() const noexcept { return transport_; }

  /// Makes `wait` the one that is woken by data. \return false if another one waits.
  [[nodiscard]] bool begin_wait(ReadWait& wait) noexcept;
  /// The same for one that only a failure wakes; the transport stays as it is.
  [[nodiscard]] bool begin_watch(ReadWait& wait) noexcept;
  /// Takes `wait` back, if it is the one.
  void end_wait(const ReadWait& wait) noexcept {
    if (waiter_ == &wait) waiter_ = nullptr;
  }
  [[nodiscard]] bool waited_for() const noexcept { return waiter_ != nullptr; }
  /// After a read took bytes: resumes the transport at or below the limit.
  void maybe_resume_transport() noexcept {
    if (paused_ && buffer_.size() <= limit_) resume_transport();
  }
  /// Takes `count` bytes off that lie in the first piece of the buffer. Precondition: they do.
  [[nodiscard]] Bytes take_front(std::size_t count) noexcept {
    Bytes front = buffer_.take_front(count);
    maybe_resume_transport();
    return front;
  }
  /// The connection is over: lets go of the transport.
  void drop_transport() noexcept { transport_.reset(); }

 private:
  void wake_waiter() noexcept;
  void resume_transport() noexcept;

  bool eof_ = false;  // these three fill up RefCounted's last word
  bool paused_ = false;
  bool watched_ = false;  ///< waiter_ waits for a failure only
  Chain buffer_;
  ReadWait* waiter_ = nullptr;
  Failure exception_;
  std::size_t limit_;
  Ref<Transport> transport_;
};
static_assert(sizeof(ReaderCore) == 56);

}  // namespace detail
}  // namespace pelton
