// Feeding, waking and back-pressure of a reader. See reader_core.hpp.
#include <pelton/stream/reader_core.hpp>

namespace pelton::detail {

ReaderCore::ReaderCore(std::size_t limit) : limit_(limit) {
  if (limit == 0) throw ValueError("Limit cannot be <= 0");
}

void ReaderCore::feed_data(Bytes data) {
  PELTON_ASSERT(!eof_);  // feed_data after feed_eof
  if (data.empty()) return;
  buffer_.append_gathering(std::move(data));
  wake_waiter();
  if (!transport_ || paused_ || buffer_.size() <= 2 * limit_) return;
  if (transport_->can_pause_reading()) {
    paused_ = true;
    transport_->pause_reading();
  } else {
    transport_.reset();  // it will never pause: do not ask again
  }
}

void ReaderCore::feed_eof() noexcept {
  eof_ = true;
  wake_waiter();
}

void ReaderCore::set_exception(Failure failure) noexcept {
  exception_ = std::move(failure);
  if (ReadWait* waiter = std::exchange(waiter_, nullptr)) waiter->fail(exception_);
}

void ReaderCore::set_transport(Ref<Transport> transport) noexcept {
  PELTON_ASSERT(!transport_);  // Transport already set
  transport_ = std::move(transport);
}

bool ReaderCore::begin_wait(ReadWait& wait) noexcept {
  if (waiter_) return false;
  // Waiting while paused would wait for ever: readexactly(n) with n over the limit.
  resume_transport();
  waiter_ = &wait;
  watched_ = false;
  return true;
}

bool ReaderCore::begin_watch(ReadWait& wait) noexcept {
  if (waiter_) return false;
  waiter_ = &wait;
  watched_ = true;
  return true;
}

void ReaderCore::resume_transport() noexcept {
  if (!std::exchange(paused_, false)) return;
  if (transport_) transport_->resume_reading();  // else the connection is over
}

void ReaderCore::wake_waiter() noexcept {
  if (watched_) return;
  if (ReadWait* waiter = std::exchange(waiter_, nullptr)) waiter->wake();
}

}  // namespace pelton::detail
