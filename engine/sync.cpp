// Who comes next at a lock and at a semaphore. See sync.hpp.
#include <pelton/engine/sync.hpp>

#include <limits>

namespace pelton {

namespace detail {

WaitLine::~WaitLine() {
  const auto forget = [](Turn& turn) {
    turn.line_ = nullptr;
    turn.come_ = false;
  };
  waiting_.for_each(forget);
  called_.for_each(forget);
}

void WaitLine::join(Turn& turn) noexcept {
  turn.line_ = this;
  waiting_.push_back(turn);
}

void WaitLine::rejoin(Turn& turn) noexcept {
  turn.line_ = this;
  turn.come_ = false;
  turn.unlink();
  waiting_.push_front(turn);
}

bool WaitLine::call_next() noexcept {
  if (waiting_.empty()) return false;
  Turn& turn = waiting_.front();
  turn.wake();  // unlinks it
  turn.come_ = true;
  called_.push_back(turn);
  return true;
}

}  // namespace detail

// --- Lock ---

bool Lock::try_acquire() noexcept {
  if (locked_ || !line_.idle()) return false;
  locked_ = true;
  return true;
}

void Lock::release() {
  if (!locked_) throw RuntimeError("Lock is not acquired.");
  locked_ = false;
  call_next();
}

/// Keeps the invariant: where the lock is free and tasks wait, the turn of one of them has come,
/// and nobody else can take the lock.
void Lock::call_next() noexcept {
  PELTON_ASSERT(!locked_);
  PELTON_ASSERT(!line_.calling());
  line_.call_next();
}

void Lock::AcquireAwaiter::await_suspend(std::coroutine_handle<> coroutine) noexcept {
  park(coroutine);
  lock_.line_.join(*this);
}

void Lock::AcquireAwaiter::await_resume() {
  const bool my_turn = take_turn();
  if (cancelled()) {
    if (my_turn) lock_.call_next();
    throw Cancelled();
  }
  if (my_turn) lock_.locked_ = true;
}

Lock::AcquireAwaiter::~AcquireAwaiter() {
  if (take_turn()) lock_.call_next();
}

// --- Semaphore ---

Semaphore::Semaphore(std::ptrdiff_t value) : Semaphore(value, false) {}

Semaphore::Semaphore(std::ptrdiff_t value, bool bounded)
    : value_(value), value_max_(bounded ? value : std::numeric_limits<std::ptrdiff_t>::max()) {
  if (value < 0) throw ValueError("Semaphore initial value must be >= 0");
}

bool Semaphore::try_acquire() noexcept {
  if (locked()) return false;
  --value_;
  return true;
}

void Semaphore::release() {
  if (value_ >= value_max_) throw ValueError("BoundedSemaphore released too many times");
  ++value_;
  call_next();
}

/// Takes one off the counter for the first in line: nobody else can have it meanwhile.
bool Semaphore::call_next() noexcept {
  if (!line_.call_next()) return false;
  --value_;
  return true;
}

/// Those who had to wait only because others waited, too.
void Semaphore::call_allowed() noexcept {
  while (value_ > 0 && call_next()) {
  }
}

void Semaphore::give_back() noexcept {
  ++value_;
  call_allowed();
}

void Semaphore::AcquireAwaiter::await_suspend(std::coroutine_handle<> coroutine) noexcept {
  park(coroutine);
  semaphore_.line_.join(*this);
}

void Semaphore::AcquireAwaiter::await_resume() {
  const bool my_turn = take_turn();
  if (cancelled()) {
    if (my_turn) semaphore_.give_back();
    throw Cancelled();
  }
  if (my_turn) semaphore_.call_allowed();
}

Semaphore::AcquireAwaiter::~AcquireAwaiter() {
  if (take_turn()) semaphore_.give_back();
}

}  // namespace pelton
