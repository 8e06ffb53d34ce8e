// Taking a direction over, moving its pages, giving it back. See socket_splice.hpp.
#include <pelton/proto/socket_splice.hpp>

#include <poll.h>

#include <algorithm>
#include <utility>
#include <vector>

#include <pelton/engine/sqe.hpp>

namespace pelton {
namespace {

constexpr std::size_t pipe_bytes = 512 * 1024;
constexpr std::size_t low_water_bytes = 256 * 1024;
constexpr std::size_t large_bytes = 64 * 1024;
constexpr std::size_t small_bytes = 16 * 1024;
constexpr std::size_t turn_bytes_max = 4 * pipe_bytes;  // of all splices, in one turn
constexpr std::uint8_t large_until_raised = 4;          // at first
constexpr std::uint8_t large_until_raised_max = 128;    // of a flow that often stops below the mark
constexpr std::uint8_t small_until_ended = 4;
constexpr std::size_t splices_max = 64;  // of a thread: two descriptors each
constexpr auto stall_limit = std::chrono::microseconds(500);
constexpr auto idle_limit = std::chrono::milliseconds(20);
constexpr auto shortage_delay = std::chrono::milliseconds(10);
// For the destination to take a pipe that is full, and what was written before.
constexpr auto destination_limit = std::chrono::seconds(1);
constexpr auto pipe_retry_delay = std::chrono::seconds(1);

constexpr std::size_t queued_piece_bytes = 64 * 1024;

/// What this turn has moved, and how many wait for the next.
struct Budget {
  std::uint64_t turn = 0;
  std::size_t spent = 0;
  std::size_t waiting = 0;
};

thread_local std::vector<SocketSplice*> splices;
thread_local Budget budget;
thread_local TimePoint no_pipes_until = TimePoint::min();

bool would_block(std::error_code code) noexcept {
  return code == errno_code(EAGAIN) || code == errno_code(EINTR);
}

bool out_of_memory(std::error_code code) noexcept {
  return code == errno_code(ENOMEM) || code == errno_code(ENOBUFS);
}

/// Not an error of the connection: a filter of system calls, a socket that cannot be spliced, or
/// no memory. Nothing was moved, and the ring can go on.
bool refused(std::error_code code) noexcept {
  const auto is = [code](int number) { return code == errno_code(number); };
  return is(EPERM) || is(EACCES) || is(ENOSYS) || is(EINVAL) || out_of_memory(code);
}

/// True if others of the loop have moved enough for this turn.
bool budget_spent(const LoopStats& stats) noexcept {
  if (std::exchange(budget.turn, stats.turns) != stats.turns) budget.spent = 0;
  return budget.spent >= turn_bytes_max;
}

}  // namespace

const OpKind SocketSplice::kind{"splice", prepare, complete};

SocketSplice::SocketSplice(SocketTransport& from, SocketTransport& to, SplicePipe pipe,
                           std::uint64_t& bytes) noexcept
    : from_(&from),
      to_(&to),
      bytes_(&bytes),
      pipe_(std::move(pipe)),
      large_needed_(large_until_raised) {}

/// Asked once of a source that is bulk. A unix socket is readable piece by piece, for it has no
/// low-water mark: towards TCP, whose writes are the dearer ones, copying more at once is cheaper.
bool SocketSplice::pays(const SocketTransport& from, const SocketTransport& to) noexcept {
  const auto family = [](const SocketTransport& transport) {
    return socket_family(transport.socket_.get()).value_or(AF_UNSPEC);
  };
  if (!broken_pipe_ignored()) return false;
  // On a blocking socket splice(2) waits, whatever its flags.
  if (!is_nonblocking(from.socket_.get()) || !is_nonblocking(to.socket_.get())) return false;
  return family(from) != AF_UNIX || family(to) == AF_UNIX;
}

void SocketSplice::begin(Transport& from, Transport& to, std::uint64_t& bytes) noexcept {
  auto* const source = dynamic_cast<SocketTransport*>(&from);
  auto* const destination = dynamic_cast<SocketTransport*>(&to);
  if (!source || !destination || source == destination) return;
  if (source->splice_refused_ || source->peer_ended_ || splices.size() >= splices_max) return;
  if (source->closing_ || destination->closing_) return;
  const bool taken = std::ranges::any_of(splices, [&](const SocketSplice* each) {
    return each->state_ != State::ended &&
           (each->from_.get() == source || each->to_.get() == destination);
  });
  if (taken || Clock::now() < no_pipes_until) return;
  source->splice_refused_ = !pays(*source, *destination);
  if (source->splice_refused_) return;
  auto pipe = SplicePipe::open(pipe_bytes);
  if (!pipe) {
    no_pipes_until = Clock::now() + pipe_retry_delay;
    return;
  }
  SocketSplice* const splice = make(*source, *destination, std::move(*pipe), bytes);
  if (!splice) return;
  source->spliced_ = destination->spliced_ = true;
  source->unpark();
  source->loop_.cancel(source->receive_);
  splice->limit(Limit::destination, destination_limit);
}

/// \return null where there is no memory for one.
SocketSplice* SocketSplice::make(SocketTransport& from, SocketTransport& to, SplicePipe pipe,
                                 std::uint64_t& bytes) noexcept {
  Loop& loop = from.loop_;
  SocketSplice* splice = nullptr;
  bool has_timer = false;
  try {
    splices.reserve(splices_max);
    splice = new SocketSplice(from, to, std::move(pipe), bytes);
    loop.timers().reserve_one();
    has_timer = true;
    loop.reserve_operations(1);
    splices.push_back(splice);
    return splice;
  } catch (const std::bad_alloc&) {
    if (has_timer) loop.timers().release_one();
    delete splice;
    return nullptr;
  }
}

bool SocketSplice::receives_for(const SocketTransport& transport) noexcept {
  return std::ranges::any_of(splices, [&](const SocketSplice* each) {
    return each->state_ != State::ended && each->from_.get() == &transport;
  });
}

void SocketSplice::notice(const SocketTransport& transport) noexcept {
  for (std::size_t index = splices.size(); index-- > 0;) {
    if (splices[index]->joins(transport)) splices[index]->proceed();
    index = std::min(index, splices.size());
  }
}

void SocketSplice::leave(const SocketTransport& transport, bool rearm) noexcept {
  for (std::size_t index = splices.size(); index-- > 0;) {
    if (splices[index]->joins(transport)) splices[index]->end(rearm);
    index = std::min(index, splices.size());
  }
}

void SocketSplice::mark(SocketTransport& transport) noexcept {
  transport.spliced_ = std::ranges::any_of(
      splices, [&transport](const SocketSplice* each) { return each->joins(transport); });
}

/// True if all that was received is sent. Asked when an operation has completed: then whoever
/// carries the bytes holds none, for it reads and writes them without a wait in between.
bool SocketSplice::drained() const noexcept {
  const SocketTransport& from = *from_;
  const SocketTransport& to = *to_;
  return !from.receive_.in_flight() && !from.paused_ && !from.held_ && from.protocol_ &&
         !from.protocol_->holds_received() && !to.send_.in_flight() && to.queue_.empty();
}

void SocketSplice::proceed() noexcept {
  if (state_ != State::draining) return;
  if (from_->peer_ended_ || to_->eof_requested_) return end(true);
  if (!drained()) return;
  state_ = State::moving;
  Timer::disarm();
  ++from_->loop_.stats().splices;
  move(false);
}

/// One piece, so that others have their turn. The pipe is filled only when it is empty.
/// \param ready  What was waited for is there, says the kernel.
void SocketSplice::move(bool ready) noexcept {
  // Those who wait for a turn go first, in their order: others may be ready in each turn.
  if (budget_spent(from_->loop_.stats()) || budget.waiting > 0) return wait_for_turn(ready);
  move_now(ready);
}

void SocketSplice::move_now(bool ready) noexcept {
  LoopStats& stats = from_->loop_.stats();
  const bool was_empty = in_pipe_ == 0;
  if (was_empty && !fill(ready)) return;
  const auto moved = splice_to(to_->socket_.get(), pipe_, in_pipe_);
  if (!moved) {
    const bool takes_nothing = ready && !was_empty;  // and is writable: that might go on
    if (!out_of_memory(moved.error()) && !would_block(moved.error())) {
      return fail(moved.error(), true);
    }
    if (out_of_memory(moved.error()) || takes_nothing) {
      return limit(Limit::shortage, shortage_delay);
    }
  }
  const std::size_t count = moved ? *moved : 0;
  in_pipe_ -= count;
  budget.spent += count;
  stats.bytes_sent += count;
  if (in_pipe_ > 0) return wait_for_destination();
  if (small_ >= small_until_ended) return end(true);
  wait_for_source();
}

/// \return false if there is nothing to move on; the next step is taken then.
bool SocketSplice::fill(bool ready) noexcept {
  const auto moved = splice_from(from_->socket_.get(), pipe_, pipe_bytes);
  if (!moved) {
    if (would_block(moved.error()) && !ready) {
      wait_for_source();
    } else if (would_block(moved.error())) {
      end(true);  // at the mark of urgent data, which only a receive goes past
    } else if (refused(moved.error())) {
      from_->splice_refused_ = true;
      end(true);
    } else {
      fail(moved.error(), false);
    }
    return false;
  }
  if (*moved == 0) {
    end(true);  // the receive finds the end again
    return false;
  }
  in_pipe_ = *moved;
  give_back_at_ = Clock::now() + destination_limit;
  *bytes_ += *moved;
  LoopStats& stats = from_->loop_.stats();
  stats.bytes_received += *moved;
  stats.bytes_spliced += *moved;
  judge(*moved);
  return true;
}

void SocketSplice::judge(std::size_t moved) noexcept {
  if (moved < large_bytes) {
    large_ = 0;
    small_ = moved < small_bytes ? static_cast<std::uint8_t>(small_ + 1) : std::uint8_t{0};
    return;
  }
  small_ = 0;
  if (large_ < large_needed_) ++large_;
  if (large_ == large_needed_) set_low_water(true);
}

void SocketSplice::set_low_water(bool raised) noexcept {
  if (raised_ == raised) return;
  raised_ = raised;
  static_cast<void>(set_receive_low_water(from_->socket_.get(), raised ? low_water_bytes : 1));
}

void SocketSplice::wait_for_source() noexcept {
  readable_ = true;
  from_->loop_.start(poll_);
  limit(Limit::source, raised_ ? Duration(stall_limit) : Duration(idle_limit));
}

/// The time that it has is not prolonged by what it takes meanwhile.
void SocketSplice::wait_for_destination() noexcept {
  readable_ = false;
  from_->loop_.start(poll_);
  limit_ = Limit::destination;
  from_->loop_.timers().arm_reserved(*this, give_back_at_);
}

void SocketSplice::wait_for_turn(bool ready) noexcept {
  ready_ = ready;
  ++budget.waiting;
  limit(Limit::turn, Duration(0));
}

/// The destination is slow: the pipe is for others, where its queue may hold what is in it.
void SocketSplice::give_back() noexcept {
  if (in_pipe_ <= to_->flow_.high()) return end(true);
  give_back_at_ = Clock::now() + destination_limit;
  if (poll_.in_flight()) return limit(Limit::destination, destination_limit);
  move(false);
}

void SocketSplice::limit(Limit what, Duration patience) noexcept {
  limit_ = what;
  from_->loop_.timers().arm_reserved(*this, Clock::now() + patience);
}

void SocketSplice::on_timer() noexcept {
  switch (limit_) {
    case Limit::turn:
      --budget.waiting;
      limit_ = Limit::source;
      return budget_spent(from_->loop_.stats()) ? wait_for_turn(ready_) : move_now(ready_);
    case Limit::shortage:
      return in_pipe_ > 0 && Clock::now() >= give_back_at_ ? give_back() : move(false);
    case Limit::destination:
      return give_back();
    case Limit::source:
      break;
  }
  // Nothing came, or less than the low-water mark: lowered, it reports what has come. With that
  // done already, the flow rests, and the ring can wait for it at less expense.
  if (!raised_) return end(true);
  large_ = 0;
  large_needed_ = std::min<std::uint8_t>(large_needed_ * 2, large_until_raised_max);
  set_low_water(false);
  limit(Limit::source, idle_limit);
}

void SocketSplice::fail(std::error_code code, bool of_destination) noexcept {
  const Ref<SocketTransport> from = from_;
  const Ref<SocketTransport> to = to_;
  if (of_destination) to->force_close(Failure(code));  // this ends the splice
  from->force_close(Failure(code));
}

/// Gives the direction back.
void SocketSplice::end(bool rearm) noexcept {
  if (state_ == State::ended) return;
  state_ = State::ended;
  if (limit_ == Limit::turn) --budget.waiting;  // also where the loop has discarded its timers
  Timer::disarm();
  SocketTransport& from = *from_;
  empty_pipe();
  pipe_ = SplicePipe();
  from.loop_.report_descriptor_free();
  set_low_water(false);
  if (rearm) from.arm_receive();  // no more than wanted: not if it closes
  if (poll_.in_flight()) {
    from.loop_.cancel(poll_);
  } else {
    release();
  }
}

/// What is in the pipe goes to the destination's queue. Where it cannot, bytes are lost, and the
/// destination is reset (but for a unix socket, which knows no reset).
void SocketSplice::empty_pipe() noexcept {
  SocketTransport& to = *to_;
  Result<void> read{};
  if (in_pipe_ > 0 && to.dropping_) read = errno_result(ECANCELED);
  try {
    while (in_pipe_ > 0 && read) {
      const std::size_t count = std::min(in_pipe_, queued_piece_bytes);
      std::byte* memory = nullptr;
      Bytes piece = Bytes::uninitialized(count, memory);
      read = read_from(pipe_, memory, count);
      if (!read) break;
      in_pipe_ -= count;
      to.queue_.append(std::move(piece));
      to.queue_grew();
    }
  } catch (const std::bad_alloc&) {
    read = errno_result(ENOMEM);
  }
  in_pipe_ = 0;
  if (read) return;
  to.shut_ = true;  // a shutdown would send the end of the stream before the reset
  static_cast<void>(set_linger(to.socket_.get(), std::chrono::seconds(0)));
  to.force_close(Failure(read.error()));
}

/// Lets go of itself and of the transports.
void SocketSplice::release() noexcept {
  const Ref<SocketTransport> from = from_;
  const Ref<SocketTransport> to = to_;
  std::erase(splices, this);
  from->loop_.timers().release_one();
  from->loop_.release_operations(1);
  delete this;
  mark(*from);
  mark(*to);
}

void SocketSplice::prepare(Op& op, io_uring_sqe& sqe) noexcept {
  auto& self = op.owner<SocketSplice>();
  const SocketTransport& transport = self.readable_ ? *self.from_ : *self.to_;
  sqe::poll(sqe, transport.socket_.get(), self.readable_ ? POLLIN | POLLRDHUP : POLLOUT);
}

void SocketSplice::complete(Op& op, int res, std::uint32_t) noexcept {
  auto& self = op.owner<SocketSplice>();
  PELTON_ASSERT(!op.in_flight());  // polls are single-shot
  if (self.state_ == State::ended) {
    const Ref<SocketTransport> from = self.from_;
    const Ref<SocketTransport> to = self.to_;
    self.release();
    if (from->closing_) from->proceed_closing();
    if (to->closing_) to->proceed_closing();
  } else if (res < 0 && res != -EINTR && res != -ECANCELED) {  // not of the connection
    if (self.readable_) return self.end(true);
    self.limit(Limit::shortage, shortage_delay);
  } else {
    self.move(res > 0);
  }
}

}  // namespace pelton
