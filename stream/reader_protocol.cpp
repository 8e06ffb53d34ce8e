// The calls of a transport, and the waits of drain() and wait_closed(). See reader_protocol.hpp.
#include <pelton/stream/reader_protocol.hpp>

#include <pelton/engine/simulation.hpp>

#include <pelton/stream/server.hpp>
#include <pelton/stream/writer.hpp>

namespace pelton {
namespace {

constexpr const char* handler_failed_text = "Unhandled exception in client_connected_cb";

/// The task of a server's connection: it reports what its coroutine raised, and closes where that
/// did not end by itself, as a done callback would in the turn after.
class HandlerTask final : public TaskState<void> {
 public:
  HandlerTask(Loop& loop, Task<> coroutine, Ref<Transport> transport) noexcept
      : TaskState<void>(loop, std::move(coroutine)), transport_(std::move(transport)) {}

 private:
  void on_finished() override {
    if (!cancelled() && !failure_) return;
    try {
      future_loop().call_soon([self = Ref<HandlerTask>(this)] { self->settle(); });
    } catch (const std::bad_alloc&) {
      settle();  // a turn early
    }
  }
  void settle() {
    if (!cancelled()) {
      future_loop().report(handler_failed_text, exception().exception());
    }
    transport_->close();
  }

  Ref<Transport> transport_;
};

/// Calls `visit` for each waiter of `list` that is a `Kind`.
template <class Kind, class Visit>
void for_each_of(WaitList& list, Visit visit) noexcept {
  list.for_each([&](Waiter& waiter) {
    if (auto* const one = dynamic_cast<Kind*>(&waiter)) visit(*one);
  });
}

}  // namespace

StreamReaderProtocol::StreamReaderProtocol(Loop& loop, StreamReader reader,
                                           detail::ServerCore* owner)
    : reader_(reader.core()), loop_(loop), owner_(owner) {}

StreamReaderProtocol::~StreamReaderProtocol() {
  if (owner_ && linked()) owner_->detach(*this);
}

void StreamReaderProtocol::connection_made(Transport& transport) {
  transport_ = Ref<Transport>(&transport);
  reader_->set_transport(transport_);
  if (owner_) start_handler();
}

void StreamReaderProtocol::start_handler() {
  const Ref<Transport> transport = transport_;  // what a plain handler calls may let go of it
  try {
    StreamWriter writer(transport, Ref<StreamReaderProtocol>(this));
    Task<> task = owner_->handler()(StreamReader(reader_), std::move(writer));
    if (task.valid()) {
      loop_.start_task(*make_ref<HandlerTask>(loop_, std::move(task), transport));
    }
  } catch (...) {  // a plain handler; a coroutine's body has not begun
    loop_.report(handler_failed_text, std::current_exception());
    transport->close();
  }
}

bool StreamReaderProtocol::eof_received() {
  reader_->feed_eof();
  return true;  // the writing side stays open
}

void StreamReaderProtocol::connection_lost(const Failure& failure) {
  if (failure) {
    reader_->set_exception(failure);
  } else {
    reader_->feed_eof();
  }
  if (!std::exchange(lost_, true)) failure_ = failure;
  for_each_of<detail::ClosedAwaiter>(waiting_, [](Waiter& waiter) { waiter.wake(); });
  for_each_of<detail::DrainWait>(waiting_, [](detail::DrainWait& wait) {
    wait.end_with(detail::DrainWait::End::lost_meanwhile);
  });
  reader_->drop_transport();
  transport_.reset();
  if (owner_ && linked()) owner_->detach(*this);
}

void StreamReaderProtocol::pause_writing() {
  PELTON_ASSERT(!writing_paused_);
  writing_paused_ = true;
}

void StreamReaderProtocol::resume_writing() {
  if (PELTON_CANARY(drain_never)) return;
  writing_paused_ = false;  // it may be so already: the transport had another protocol before
  for_each_of<detail::DrainWait>(
      waiting_, [](detail::DrainWait& wait) { wait.end_with(detail::DrainWait::End::writable); });
}

namespace detail {
namespace {

Failure connection_lost_failure() {
  return Failure(std::make_exception_ptr(ConnectionResetError("Connection lost")));
}

}  // namespace

// --- drain ---

DrainWait::DrainWait(StreamReaderProtocol& protocol) noexcept : protocol_(&protocol) {}

DrainWait::~DrainWait() = default;

void DrainWait::begin(std::coroutine_handle<> coroutine, bool yields) noexcept {
  park(coroutine);
  begin(yields);
}

void DrainWait::begin_beside(TaskCore& task, bool yields) noexcept {
  park_beside(task);
  begin(yields);
}

void DrainWait::begin(bool yields) noexcept {
  if (yields) {
    wake();
  } else {
    protocol_->waiting_.push_back(*this);
  }
}

bool DrainWait::still_waiting() noexcept {
  if (end_ != End::none) return false;
  // A turn has passed since drain() found the transport closing.
  if (protocol_->lost_) {
    end_ = End::lost_before;
  } else if (!protocol_->writing_paused_) {
    end_ = End::writable;
  } else {
    protocol_->waiting_.push_back(*this);
  }
  return end_ == End::none;
}

Failure DrainWait::outcome() {
  check_cancelled();
  if (end_ == End::lost_meanwhile) return protocol_->failure_;
  return end_ == End::lost_before ? connection_lost_failure() : Failure();
}

void DrainAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  wait_ = std::make_unique<DrainWait>(protocol_);
  // Where it is closing, a turn passes, so that a loop of write() and drain() sees the loss.
  wait_->begin(coroutine, transport_ && transport_->is_closing());
}

std::unique_ptr<DrainWait> DrainAwaiter::wait_beside(TaskCore& task) const {
  auto wait = std::make_unique<DrainWait>(protocol_);
  wait->begin_beside(task, transport_ && transport_->is_closing());
  return wait;
}

Failure DrainAwaiter::outcome_of_trouble() const {
  if (wait_) return wait_->outcome();
  if (transport_ && protocol_.reader()->exception()) return protocol_.reader()->exception();
  return connection_lost_failure();
}

// --- wait_closed ---

ClosedAwaiter::ClosedAwaiter(StreamReaderProtocol& protocol) noexcept : protocol_(&protocol) {}

bool ClosedAwaiter::await_ready() const noexcept { return protocol_->lost_; }

void ClosedAwaiter::await_suspend(std::coroutine_handle<> coroutine) noexcept {
  park(coroutine);
  protocol_->waiting_.push_back(*this);
}

void ClosedAwaiter::await_resume() {
  check_cancelled();
  if (protocol_->failure_) protocol_->failure_.raise();
}

}  // namespace detail
}  // namespace pelton
