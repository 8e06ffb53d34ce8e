// The loop's callbacks: call_soon, call_later, threads, signals, exceptions, sleep. See loop.hpp.
#include <algorithm>

#include <pelton/engine/executor.hpp>
#include <pelton/engine/log.hpp>
#include <pelton/engine/loop.hpp>
#include <pelton/engine/mailbox.hpp>
#include <pelton/engine/signals.hpp>

namespace pelton {

namespace detail {

/// A callback in the ready queue or in the timer heap. The loop holds a reference until it ran.
class ScheduledCall final : public RefCounted, public PooledMemory, public Runnable, public Timer {
 public:
  ScheduledCall(Loop& loop, Callback callback) : loop_(loop), callback_(std::move(callback)) {}

  void soon() noexcept {
    add_ref();
    loop_.schedule(*this);
  }
  void at(TimePoint when) {
    when_ = when;
    loop_.timers().arm(*this, when);
    add_ref();
  }
  void cancel() noexcept {
    if (cancelled_) return;
    cancelled_ = true;
    const Callback dropped = std::move(callback_);
    if (armed()) {
      disarm();
      drop_ref();
    }
  }
  [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }
  [[nodiscard]] TimePoint when() const noexcept { return when_; }

 private:
  void run() noexcept override {
    if (!cancelled_) {
      Callback callback = std::move(callback_);
      try {
        callback();
      } catch (...) {
        loop_.report("Exception in callback", std::current_exception());
      }
    }
    drop_ref();
  }
  void discard() noexcept override {
    const Callback dropped = std::move(callback_);  // what dies with it may cancel this call
    drop_ref();
  }
  void on_timer() noexcept override { loop_.schedule(*this); }
  void on_discard() noexcept override { discard(); }

  Loop& loop_;
  Callback callback_;
  TimePoint when_;
  bool cancelled_ = false;
};

bool is_cancelled(const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const Cancelled&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace detail

CallHandle::CallHandle() noexcept = default;
CallHandle::CallHandle(Ref<detail::ScheduledCall> call) noexcept : call_(std::move(call)) {}
CallHandle::CallHandle(const CallHandle&) noexcept = default;
CallHandle::CallHandle(CallHandle&&) noexcept = default;
CallHandle& CallHandle::operator=(CallHandle other) noexcept {
  call_ = std::move(other.call_);
  return *this;
}
CallHandle::~CallHandle() = default;
void CallHandle::cancel() noexcept {
  if (call_) call_->cancel();
}
bool CallHandle::cancelled() const noexcept { return call_ && call_->cancelled(); }
TimePoint CallHandle::when() const noexcept { return call_ ? call_->when() : TimePoint(); }

CallHandle CallHandle::prepare(Loop& loop, Callback callback) {
  return CallHandle(make_ref<detail::ScheduledCall>(loop, std::move(callback)));
}
void CallHandle::soon() const noexcept { call_->soon(); }

CallHandle Loop::call_soon(Callback callback) {
  check_open();
  auto call = make_ref<detail::ScheduledCall>(*this, std::move(callback));
  call->soon();
  return CallHandle(std::move(call));
}

CallHandle Loop::call_later(Duration delay, Callback callback) {
  return call_at(deadline_after(delay), std::move(callback));
}

CallHandle Loop::call_at(TimePoint when, Callback callback) {
  check_open();
  auto call = make_ref<detail::ScheduledCall>(*this, std::move(callback));
  call->at(when);
  return CallHandle(std::move(call));
}

void Loop::call_soon_threadsafe(Callback callback) {
  if (!mailbox_->post(std::move(callback))) throw RuntimeError("Event loop is closed");
}

void Loop::run_in_thread(Callback work, Callback settle) {
  if (!executor_) {
    const unsigned threads = std::min(32U, std::thread::hardware_concurrency() + 4);
    executor_ = std::make_shared<Executor>(threads);
  }
  const std::uint64_t id = next_job_++;
  jobs_.emplace(id, std::move(settle));
  auto job = [this, id, mailbox = mailbox_, work = std::move(work)]() mutable {
    work();
    work = nullptr;
    mailbox->post([this, id] { settle_job(id); });  // refused, and `this` unused, once closed
  };
  try {
    executor_->submit(std::move(job));
  } catch (...) {
    jobs_.erase(id);
    throw;
  }
}

void Loop::settle_job(std::uint64_t id) {
  auto job = jobs_.extract(id);
  if (job) job.mapped()();
}

void Loop::add_signal_handler(int signal_number, Callback callback) {
  check_open();
  if (!signals_) signals_ = std::make_unique<SignalHandlers>(*this);
  signals_->add(signal_number, std::move(callback));
}

bool Loop::remove_signal_handler(int signal_number) {
  return signals_ && signals_->remove(signal_number);
}

void Loop::call_exception_handler(const ExceptionContext& context) noexcept {
  if (!handler_) return default_exception_handler(context);
  try {
    const ExceptionHandler handler = handler_;  // it may set another one
    handler(*this, context);
  } catch (...) {
    report_without_loop("Unhandled error in exception handler", std::current_exception());
    default_exception_handler(context);
  }
}

namespace {

/// Without the text where there is no memory for one.
ExceptionContext context_of(const char* message, const std::exception_ptr& exception) noexcept {
  ExceptionContext context{{}, exception};
  try {
    context.message = message;
  } catch (const std::bad_alloc&) {
  }
  return context;
}

}  // namespace

void Loop::report(const char* message, const std::exception_ptr& exception) noexcept {
  call_exception_handler(context_of(message, exception));
}

void Loop::report_without_loop(const char* message, const std::exception_ptr& exception) noexcept {
  default_exception_handler(context_of(message, exception));
}

void Loop::default_exception_handler(const ExceptionContext& context) noexcept {
  try {
    std::string text =
        context.message.empty() ? "Unhandled exception in event loop" : context.message;
    if (context.exception) text += ": " + describe(context.exception);
    log(LogLevel::error, text);
  } catch (...) {  // no memory for the report: nothing is left to report with
  }
}

void SleepAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  park(coroutine);
  if (delay_ <= Duration::zero()) {
    wake();
  } else {
    task().loop().timers().arm(*this, deadline_after(delay_));
  }
}

}  // namespace pelton
