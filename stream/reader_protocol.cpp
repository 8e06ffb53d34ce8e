// The calls of a transport, and the waits of drain() and wait_closed(). See reader_protocol.hpp.
#include <pelton/stream/reader_protocol.hpp>

#include <pelton/stream/server.hpp>
#include <pelton/stream/writer.hpp>

namespace pelton {
namespace {

constexpr const char* handler_failed_text = "Unhandled exception in client_connected_cb";

}  // namespace

StreamReaderProtocol::StreamReaderProtocol(Loop& loop, StreamReader reader,
                                           const detail::ConnectionHandler* handler,
                                           detail::ServerCore* owner)
    : loop_(loop), reader_(reader.core()), handler_(handler), owner_(owner) {}

StreamReaderProtocol::~StreamReaderProtocol() {
  if (owner_ && linked()) owner_->detach(*this);
}

void StreamReaderProtocol::connection_made(Transport& transport) {
  transport_ = Ref<Transport>(&transport);
  reader_->set_transport(transport_);
  if (handler_) start_handler();
}

void StreamReaderProtocol::start_handler() {
  const Ref<Transport> transport = transport_;  // what a plain handler calls may let go of it
  try {
    StreamWriter writer(transport, Ref<StreamReaderProtocol>(this), reader_);
    Task<> task = (*handler_)(StreamReader(reader_), std::move(writer));
    if (task.valid()) watch(loop_.create_task(std::move(task)));
  } catch (...) {  // a plain handler; a coroutine's body has not begun
    loop_.call_exception_handler({handler_failed_text, std::current_exception()});
    transport->close();
  }
}

/// Reports what the handler's coroutine raised, and closes where it did not end by itself.
void StreamReaderProtocol::watch(const TaskHandle<>& task) {
  task.add_done_callback([task, transport = transport_, loop = &loop_] {
    if (!task.cancelled()) {
      const Failure& failure = task.exception();
      if (!failure) return;
      loop->call_exception_handler({handler_failed_text, failure.exception()});
    }
    transport->close();
  });
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
  wake_all(closing_);
  while (Waiter* waiter = draining_.pop_front()) {
    static_cast<detail::DrainAwaiter*>(waiter)->failure_ = failure;
    waiter->wake();
  }
  reader_->drop_transport();
  transport_.reset();
  if (owner_ && linked()) owner_->detach(*this);
}

void StreamReaderProtocol::pause_writing() {
  PELTON_ASSERT(!writing_paused_);
  writing_paused_ = true;
}

void StreamReaderProtocol::resume_writing() {
  writing_paused_ = false;  // it may be so already: the transport had another protocol before
  wake_all(draining_);
}

namespace detail {

// --- drain ---

DrainAwaiter::DrainAwaiter(StreamReaderProtocol& protocol, const ReaderCore* reader,
                           const Transport* transport) noexcept
    : protocol_(&protocol), reader_(reader), transport_(transport) {}

bool DrainAwaiter::await_ready() noexcept {
  if (reader_ && reader_->exception()) {
    failure_ = reader_->exception();
    return true;
  }
  // A turn passes, so that a loop of write() and drain() comes to see the loss.
  if (transport_ && transport_->is_closing()) {
    yielding_ = true;
    return false;
  }
  return settle();
}

/// True if nothing is left to wait for: the connection is lost, or writing is not paused.
bool DrainAwaiter::settle() noexcept {
  settled_ = true;
  lost_ = protocol_->lost_;
  return lost_ || !protocol_->writing_paused_;
}

void DrainAwaiter::await_suspend(std::coroutine_handle<> coroutine) noexcept {
  park(coroutine);
  if (yielding_) {
    wake();
  } else {
    protocol_->draining_.push_back(*this);
  }
}

bool DrainAwaiter::still_waiting() noexcept {
  if (settled_) return false;  // woken by low water or by the loss
  if (settle()) return false;
  protocol_->draining_.push_back(*this);
  return true;
}

Failure DrainAwaiter::outcome() {
  check_cancelled();
  if (failure_) return failure_;
  if (lost_) {
    return Failure(std::make_exception_ptr(ConnectionResetError("Connection lost")));
  }
  return {};
}

void DrainAwaiter::await_resume() {
  if (const Failure failure = outcome()) failure.raise();
}

Result<void> TryDrainAwaiter::await_resume() {
  const Failure failure = outcome();
  if (failure) return std::unexpected(failure.code());
  return {};
}

// --- wait_closed ---

ClosedAwaiter::ClosedAwaiter(StreamReaderProtocol& protocol) noexcept : protocol_(&protocol) {}

bool ClosedAwaiter::await_ready() const noexcept { return protocol_->lost_; }

void ClosedAwaiter::await_suspend(std::coroutine_handle<> coroutine) noexcept {
  park(coroutine);
  protocol_->closing_.push_back(*this);
}

void ClosedAwaiter::await_resume() {
  check_cancelled();
  if (protocol_->failure_) protocol_->failure_.raise();
}

}  // namespace detail
}  // namespace pelton
