// The loop's turn: end-of-turn work, submission, waiting, completion, ready queue; and closing.
// Callbacks, timers, signals and threads are in loop_calls.cpp. See loop.hpp.
#include <pelton/engine/loop.hpp>

#include <unistd.h>

#include <algorithm>
#include <bit>

#include <pelton/engine/log.hpp>
#include <pelton/engine/mailbox.hpp>
#include <pelton/engine/ring_choice.hpp>
#include <pelton/engine/ring_inline.hpp>
#include <pelton/engine/signals.hpp>
#include <pelton/engine/simulation.hpp>
#include <pelton/engine/sqe.hpp>
#include <pelton/engine/uring_ring.hpp>

namespace pelton {
namespace {

constexpr unsigned submits_in_a_row_max = 16;
constexpr Duration sleep_max = std::chrono::hours(24);  // far below what the kernel can add up
constexpr auto memory_pause = std::chrono::milliseconds(1);
constexpr auto rest_time = std::chrono::milliseconds(10);
constexpr auto relief_pause = std::chrono::milliseconds(100);
constexpr auto close_patience = std::chrono::seconds(10);

BufferGroup::Options buffer_options(const LoopOptions& options) noexcept {
  return {.id = 0,
          .count = std::bit_ceil(std::clamp(options.buffer_count, 1U, 32768U)),
          .buffer_bytes = std::max<std::size_t>(options.buffer_bytes, 64)};
}

RingOptions ring_options(const LoopOptions& options) noexcept {
  return {.sq_entries = options.sq_entries,
          .cq_entries = options.cq_entries,
          .restricted = options.restrict_ring};
}

/// Registers the buffers with `ring`, or with another that takes its place.
BufferGroup::Owner make_buffers(std::unique_ptr<Ring>& ring, const LoopOptions& options) {
  auto group = BufferGroup::make(*ring, buffer_options(options));
  if (group) return std::move(*group);
  const int error = group.error().value();
  const std::string what = std::to_string(buffer_options(options).count) +
                           " receive buffers cannot be registered: io_uring_register";
  const RingUnavailable refusal(group.error(), explain_ring_refusal(error, what));
  if (ring->info().name != "io_uring") throw OSError(group.error(), "receive buffers");
  if (resolve_engine(options.engine).kind != Engine::Kind::automatic) throw refusal;
  ring = make_ring_instead(ring_options(options), refusal.what());
  return make_buffers(ring, options);
}

enum class EnterVerdict : std::uint8_t { entered, again, never };

/// The table of what an enter may answer.
EnterVerdict judge_enter(int result) noexcept {
  switch (-result) {
    case 0:
    case ETIME:
    case EINTR:
      return EnterVerdict::entered;
    case EAGAIN:  // no memory for requests
    case ENOMEM:
    case EBUSY:  // completions must be taken off first
    case EBADR:  // a completion was lost for want of memory: its operation ends with the loop
      return EnterVerdict::again;
    default:
      return EnterVerdict::never;
  }
}

[[noreturn, gnu::noinline]] void fail_enter(int result, const Ring& ring) {
  throw OSError(errno_code(-result), "enter of " + ring.info().name);
}

}  // namespace

Loop::Loop(const LoopOptions& options)
    : Loop(options, make_ring(options.engine, ring_options(options))) {}

Loop::Loop(const LoopOptions& options, std::unique_ptr<Ring> ring)
    : options_(options),
      ring_(std::move(ring)),
      buffers_(make_buffers(ring_, options)),
      mailbox_(std::make_shared<Mailbox>()),
      thread_(std::this_thread::get_id()),
      process_(::getpid()),
      spin_policy_(options.busy_poll),
      batch_policy_(ring_->info().bounded_batches ? options.batch_wait : BatchWait::off,
                    SpinPolicy::thread_cpu_time) {
  reserve_operations(1);  // the mailbox's
  timers_.reserve_one();  // of rest_
  older_ = std::exchange(newest_, this);
}

Loop::~Loop() {
  close();
  for (Loop** link = &newest_; *link; link = &(*link)->older_) {
    if (*link != this) continue;
    *link = older_;
    break;
  }
}

bool Loop::lives(const Loop* loop) noexcept {
  const Loop* other = newest_;
  while (other && other != loop) other = other->older_;
  return other != nullptr;
}

Loop& Loop::running() {
  if (!running_) throw RuntimeError("no running event loop");
  return *running_;
}

const RingInfo& Loop::engine_info() const noexcept { return ring_->info(); }

void Loop::check_open() const {
  if (closed_) throw RuntimeError("Event loop is closed");
}

/// A child shares descriptors, and with some rings the memory, of the loops of its parent.
void Loop::check_process() const {
  if (process_ == ::getpid()) return;
  throw RuntimeError(
      "A loop is run and closed in the process that made it: make loops after fork, or leave the "
      "child by exec or _exit");
}

void Loop::check_thread() const {
  check_open();
  check_process();
  if (is_running_) throw RuntimeError("This event loop is already running");
  if (running_) throw RuntimeError("Cannot run the event loop while another loop is running");
  if (thread_ != std::this_thread::get_id()) {
    throw RuntimeError("A loop runs on the thread that made it");
  }
}

void Loop::begin_running() {
  check_thread();
  is_running_ = true;
  running_ = this;
  mailbox_->listen(*this);
}

void Loop::end_running() noexcept {
  is_running_ = false;
  stopping_ = false;
  running_ = nullptr;
}

void Loop::run_forever() {
  begin_running();
  struct End {
    Loop& loop;
    ~End() { loop.end_running(); }
  } const end{*this};
  do {
    turn();
  } while (!stopping_);
}

void Loop::turn() {
  ++stats_.turns;
  flush_end_of_turn();
  submit_queued();
  wait_for_completions();
  reap();
  if (!timers_.empty()) timers_.fire_due(Clock::now());
  run_ready();
}

void Loop::flush_end_of_turn() noexcept {
  // By index: the work may ask for more, and take back what others asked for.
  while (served_ < end_of_turn_.size()) {
    LoopResource* const resource = std::exchange(end_of_turn_[served_++], nullptr);
    if (!resource) continue;
    resource->awaits_end_of_turn_ = false;
    resource->on_end_of_turn();
  }
  end_of_turn_.clear();
  served_ = 0;
  if (buffer_pressure_) relieve_buffer_pressure();
}

/// Makes room: what is left are resources that wait, each once, which room was reserved for.
void Loop::drop_served() noexcept {
  std::erase(end_of_turn_, nullptr);
  served_ = 0;
}

void Loop::relieve_buffer_pressure() noexcept {
  const TimePoint now = Clock::now();
  if (now - last_relief_ < relief_pause) return;
  last_relief_ = now;
  buffer_pressure_ = false;
  const auto relieve = [](BufferWaiter& waiter) { waiter.on_buffer_pressure(); };
  resources_.for_each(relieve);
  resting_.for_each(relieve);
  buffers_->for_each_parked(relieve);
}

void Loop::rest(LoopResource& resource) noexcept {
  if (resting_.empty()) timers_.arm_reserved(rest_, Clock::now() + rest_time);
  resting_.push_back(resource);
}

void Loop::end_rest() noexcept {
  List<LoopResource, BufferWaiter> rested;
  rested.splice_back(resting_);
  while (LoopResource* const resource = rested.pop_front()) {
    add_resource(*resource);
    resource->on_rested();
  }
}

// --- Submission ---

void Loop::reserve_operations(unsigned count) {
  const std::size_t wanted = reserved_operations_ + count;
  ops_.reserve(wanted);
  // Who has an end of turn has two operations.
  if (wanted / 2 + 1 > end_of_turn_.capacity()) {
    end_of_turn_.reserve(std::max(wanted / 2 + 1, end_of_turn_.capacity() * 2));
  }
  reserved_operations_ = wanted;
}

void Loop::start(Op& op) noexcept {
  PELTON_ASSERT(!op.in_flight());
  op.state_ = Op::State::queued;
  op.cancel_ = Op::Cancel::none;
  ++in_flight_;
  const bool first = ops_.line_empty();
  static_cast<void>(ops_.add(op));
  if (first && submit_one(op)) return;
  ++stats_.sq_full;
  ops_.line_up(op);
}

bool Loop::submit_one(Op& op) noexcept {
  io_uring_sqe* const sqe = ring_->get_sqe();
  if (!sqe) return false;
  op.kind_->prepare(op, *sqe);
  sqe->user_data = ops_.user_data(op);
  op.state_ = Op::State::submitted;
  ++stats_.submitted;
  return true;
}

void Loop::cancel(Op& op) noexcept {
  if (!op.in_flight() || op.cancelling()) return;
  op.cancel_ = Op::Cancel::wanted;
  if (op.state_ == Op::State::queued) return;  // submit_line() ends it
  if (cancels_waiting_ == 0 && submit_cancel(op)) return;
  if (PELTON_CANARY(lost_cancel)) return;
  ++cancels_waiting_;
}

bool Loop::submit_cancel(Op& op) noexcept {
  io_uring_sqe* const sqe = ring_->get_sqe();
  if (!sqe) return false;
  sqe::cancel(*sqe, ops_.user_data(op));
  sqe->user_data = OpTable::cancel_user_data;
  op.cancel_ = Op::Cancel::asked_for;
  ++cancels_in_flight_;
  ++stats_.submitted;
  ++stats_.cancel_submitted;
  return true;
}

/// \return true if any found a slot.
bool Loop::submit_cancels() noexcept {
  const std::size_t before = cancels_waiting_;
  if (before == 0) return false;
  ops_.visit_while([this](Op& op) {
    if (op.cancel_ != Op::Cancel::wanted || op.state_ != Op::State::submitted) return true;
    if (!submit_cancel(op)) return false;
    return --cancels_waiting_ > 0;
  });
  return cancels_waiting_ < before;
}

/// \return true if the line is shorter now.
bool Loop::submit_line() noexcept {
  bool progress = false;
  while (!ops_.line_empty()) {
    Op& op = ops_.front_of_line();
    const bool cancelled = op.cancelling();
    if (!cancelled && !submit_one(op)) break;
    ops_.leave_line();
    progress = true;
    if (!cancelled) continue;
    ops_.remove(op);
    op.state_ = Op::State::idle;
    --in_flight_;
    op.kind_->complete(op, -ECANCELED, 0);
  }
  return progress;
}

/// Gives slots to what found none, cancels first: they make room. Enters to make more.
void Loop::submit_queued() noexcept {
  buffers_->commit();
  if (buffers_->has_parked()) buffers_->wake_parked();
  while (line_waits()) {
    bool progress = submit_cancels();
    if (cancels_waiting_ == 0 && submit_line()) progress = true;
    if (progress) continue;
    ++stats_.enters;
    const unsigned waiting = ring_->unsubmitted();
    static_cast<void>(ring_->enter(0, Duration::zero()));
    if (ring_->unsubmitted() >= waiting) return;  // completions must be reaped first
  }
}

// --- Waiting ---

Duration Loop::wait_limit() const noexcept {
  const bool ready = ready_first_ && !(PELTON_CANARY(sleeps_on) && !timers_.empty());
  if (ready || stopping_ || line_waits() || !end_of_turn_.empty() || buffers_->can_wake()) {
    return Duration::zero();
  }
  if (timers_.empty() || PELTON_CANARY(sleeps_past_timer)) return Duration(-1);
  const TimePoint now = Clock::now();
  const TimePoint earliest = timers_.earliest();
  return earliest <= now ? Duration::zero() : std::min<Duration>(earliest - now, sleep_max);
}

void Loop::wait_for_completions() {
  buffers_->commit();  // what came home while operations were submitted
  const Duration limit = wait_limit();
  if (ring_->overflowed()) ++stats_.cq_overflows;
  if (ring_->ready() > 0) {
    // The last turn left some: more are not asked for before those are completed, or a crowd of
    // ready sockets would fill the queue and hold every receive buffer.
    if (ring_->unsubmitted() == 0) return;
    ++stats_.enters;
    // But sends that end at once may keep the queue filled for ever: the others are heard as well.
    const bool hear = ++submits_in_a_row_ >= submits_in_a_row_max;
    if (hear) submits_in_a_row_ = 0;
    return check_enter(hear ? ring_->enter(0, Duration::zero()) : ring_->submit());
  }
  submits_in_a_row_ = 0;
  if (limit != Duration::zero()) return block(limit);
  // Nothing may sleep: enter only if there is something to hand over or to hear.
  if (ring_->unsubmitted() == 0 && !ring_->has_work()) return;
  ++stats_.enters;
  check_enter(ring_->enter(0, Duration::zero()));
}

/// Submits and waits until a completion or `limit` (negative: no limit). Spins first if that has
/// been paying; if not, a crowd's completions may be waited for together.
void Loop::block(Duration limit) {
  unsigned wanted = 1;
  if (!spin_policy_.worth_spinning()) {
    wanted = wakeup_batch();
  } else {
    if (ring_->unsubmitted() > 0) {
      ++stats_.enters;
      check_enter(ring_->enter(0, Duration::zero()));
      if (ring_->ready() > 0) return;
    }
    if (spin(limit)) {
      ++stats_.enters;
      return check_enter(ring_->enter(0, Duration::zero()));
    }
    if (limit >= Duration::zero()) limit = wait_limit();
  }
  sleep(limit, wanted);
}

/// How many completions a sleep should end with: no more than the next turn takes, or the queue.
unsigned Loop::wakeup_batch() const noexcept {
  if (batch_policy_.batch() == 0) return 1;
  const unsigned most = std::min(options_.completions_per_turn, ring_->info().cq_entries / 2);
  return std::max(1U, std::min(ring_->unsubmitted() + batch_policy_.batch(), most));
}

/// Submits and sleeps until `wanted` completions have come, or fewer and the bound has passed.
void Loop::sleep(Duration limit, unsigned wanted) {
  const bool timed = spin_policy_.times_sleeps() || batch_policy_.judges();
  const TimePoint asleep = timed ? Clock::now() : TimePoint();
  ++stats_.enters;
  check_enter(ring_->enter(wanted, limit, wanted > 1 ? BatchPolicy::bound : Duration::zero()));
  if (!timed) return;
  const unsigned ready = ring_->ready();
  if (wanted > 1) {
    ++stats_.batch_waits;
    batch_policy_.waited(ready >= wanted);
  }
  const TimePoint awake = Clock::now();
  batch_policy_.awake(awake);
  if (!spin_policy_.times_sleeps()) return;
  spin_policy_.slept(awake - asleep, wanted == 1 && ready > 0, stats_);
}

/// \return true as soon as an enter would find something.
bool Loop::spin(Duration limit) noexcept {
  const Duration window = spin_policy_.window();
  const bool hit = ring_->spin_until(Clock::now() +
                                     (limit < Duration::zero() ? window : std::min(limit, window)));
  ++stats_.spins;
  if (hit) ++stats_.spin_hits;
  spin_policy_.spun(hit, stats_);
  return hit;
}

/// What an enter answered. What loses nothing is counted and tried again.
void Loop::check_enter(int result) {
  switch (judge_enter(result)) {
    case EnterVerdict::entered:
      return;
    case EnterVerdict::again:
      ++stats_.enter_again;
      if (ring_->ready() == 0) std::this_thread::sleep_for(memory_pause);
      return;
    case EnterVerdict::never:
      fail_enter(result, *ring_);
  }
}

// --- Completion ---

void Loop::reap() noexcept {
  const unsigned count = std::min(ring_->ready(), std::max(1U, options_.completions_per_turn));
  for (unsigned index = 0; index < count; ++index) {
    const io_uring_cqe& cqe = ring_->peek(index);
    complete(cqe.user_data, cqe.res, cqe.flags);
  }
  if (PELTON_CANARY(lost_completion) && ring_->ready() > count) ring_->advance(1);
  if (count > 0) ring_->advance(count);
  stats_.completions += count;
}

void Loop::complete(std::uint64_t user_data, int res, std::uint32_t flags) noexcept {
  const bool more = (flags & IORING_CQE_F_MORE) != 0;
  Op* const op = ops_.find(user_data);
  if (user_data == OpTable::cancel_user_data && !more) {
    --cancels_in_flight_;
    return;
  }
  const bool fits = op && (!more || op->kind_->multishot);  // else its only one is yet to come
  if (!fits) {
    ++stats_.impossible;
    PELTON_DEBUG_ASSERT(fits);
    if (flags & IORING_CQE_F_BUFFER) {  // what it carries goes home all the same
      static_cast<void>(buffers_->take(flags >> IORING_CQE_BUFFER_SHIFT, 0));
    }
    return;
  }
  if (!more && !(PELTON_CANARY(end_judged_by_result) && res > 0)) {
    ops_.remove(*op);
    if (op->cancel_ == Op::Cancel::wanted && cancels_waiting_ > 0) --cancels_waiting_;  // too late
    op->state_ = Op::State::idle;
    --in_flight_;
  } else if (ops_.newly_active(*op, batch_policy_.period())) {
    batch_policy_.note_active();
  }
  op->kind_->complete(*op, res, flags);
}

// --- The ready queue ---

void Loop::schedule(Runnable& runnable) noexcept {
  if (runnable.scheduled_) return;
  runnable.scheduled_ = true;
  runnable.next_ = nullptr;
  if (ready_last_) {
    ready_last_->next_ = &runnable;
  } else {
    ready_first_ = &runnable;
  }
  ready_last_ = &runnable;
}

void Loop::run_ready() noexcept {
  Runnable* next = std::exchange(ready_first_, nullptr);
  ready_last_ = nullptr;
  while (Runnable* runnable = next) {
    next = runnable->next_;
    runnable->scheduled_ = false;
    runnable->run();
  }
}

void Loop::discard_ready() noexcept {
  while (Runnable* runnable = ready_first_) {
    ready_first_ = runnable->next_;
    if (!ready_first_) ready_last_ = nullptr;
    runnable->scheduled_ = false;
    runnable->discard();
  }
}

// --- Closing ---

void Loop::cancel_all_tasks() {
  check_thread();
  begin_running();
  struct End {
    Loop& loop;
    ~End() { loop.end_running(); }
  } const end{*this};
  List<TaskCore, TaskCore> ending;  // what they start is not in it: it might never end
  ending.splice_back(tasks_);
  ending.for_each([](TaskCore& task) { task.cancel(); });
  try {
    while (!ending.empty()) turn();
  } catch (...) {
    tasks_.splice_back(ending);
    throw;
  }
}

void Loop::close() {
  if (is_running_) throw RuntimeError("Cannot close a running event loop");
  if (closed_) return;
  check_process();
  if (thread_ != std::this_thread::get_id()) {
    throw RuntimeError("A loop is closed on the thread that made it");
  }
  closed_ = true;
  discard_ready();
  while (!tasks_.empty()) {
    TaskCore& task = tasks_.back();  // what a task started may refer to its frame: youngest first
    log(LogLevel::warn, "Task was destroyed but it is pending!");
    task.abandon();
  }
  timers_.discard_all();
  if (signals_) signals_->close();
  if (executor_) executor_->shut_down();
  mailbox_->close(*this);
  jobs_.clear();
  const auto end = [](BufferWaiter& waiter) { waiter.on_loop_close(); };
  resources_.for_each(end);
  resting_.for_each(end);
  buffers_->for_each_parked(end);
  reap_everything();
  discard_ready();
  signals_.reset();
  buffers_.reset();
  ring_.reset();
}

/// Enters until every operation has had its final completion.
void Loop::reap_everything() noexcept {
  const TimePoint deadline = Clock::now() + close_patience;
  while (operations_in_flight() > 0) {
    submit_queued();
    const int result = ring_->enter(1, std::chrono::milliseconds(100));
    if (judge_enter(result) == EnterVerdict::never) {
      while (ring_->ready() > 0) reap();
      drop_everything();
    } else {
      reap();
    }
    discard_ready();
    PELTON_ASSERT(Clock::now() < deadline);  // an operation that never ends is a bug of ours
  }
}

/// For a ring that cannot be entered any more. As completions are worked out by enters alone, the
/// kernel touches nothing any more: what is in flight ends as if it were cancelled.
void Loop::drop_everything() noexcept {
  ops_.visit_while([this](Op& op) {
    if (op.state_ == Op::State::submitted) {
      complete(ops_.user_data(op), -ECANCELED, 0);
    } else {
      op.cancel_ = Op::Cancel::wanted;  // and submit_line() ends it
    }
    return true;
  });
  submit_line();
  cancels_waiting_ = cancels_in_flight_ = 0;
}

}  // namespace pelton
