// Entering, the order of completions, the completion queue. See sim_ring.hpp.
#include "sim/sim_ring.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>

namespace pelton::sim {
namespace {

using std::chrono::nanoseconds;

constexpr unsigned enters_in_vain_most = 300;
constexpr std::size_t steps_per_work = 20;  // as few as the kernel runs in one go

bool names_file(const io_uring_sqe& sqe) noexcept {
  switch (sqe.opcode) {
    case IORING_OP_RECV:
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
    case IORING_OP_ACCEPT:
    case IORING_OP_CONNECT:
    case IORING_OP_READ:
    case IORING_OP_POLL_ADD:
      return true;
    default:
      return false;
  }
}

}  // namespace

RingShape RingShape::draw(Random& random) noexcept {
  RingShape shape;
  shape.sq_entries = 1U << random.below(random.chance(400) ? 2 : 7);
  const auto cq_entries = static_cast<unsigned>(random.scaled(2, 256));
  shape.cq_entries = std::bit_ceil(std::max(cq_entries, shape.sq_entries));
  shape.recv_multishot = random.chance(800);
  shape.recv_multishot_unix = shape.recv_multishot && random.chance(800);
  shape.accept_multishot = random.chance(800);
  shape.recv_caps = shape.recv_multishot && random.chance(500);
  shape.bounded_batches = random.chance(500);
  return shape;
}

SimRing::SimRing(World& world, const RingShape& shape)
    : world_(world), sqe_memory_(shape.sq_entries), cqe_memory_(shape.cq_entries) {
  sqes_ = sqe_memory_.data();
  sq_head_ = &head_of_sqes_;
  sq_flags_ = &flag_bits_;
  sq_entries_ = shape.sq_entries;
  cqes_ = cqe_memory_.data();
  cq_head_ = &head_of_cqes_;
  cq_tail_ = &tail_of_cqes_;
  cq_mask_ = shape.cq_entries - 1;
  info_.name = "simulation";
  info_.sq_entries = shape.sq_entries;
  info_.cq_entries = shape.cq_entries;
  info_.taskrun_flag = true;
  info_.recv_multishot = info_.recv_multishot_unix = info_.accept_multishot = true;
  info_.recv_multishot = shape.recv_multishot;
  info_.recv_multishot_unix = shape.recv_multishot_unix;
  info_.accept_multishot = shape.accept_multishot;
  info_.recv_caps = shape.recv_caps;
  info_.bounded_batches = shape.bounded_batches;
}

SimRing::~SimRing() {
  if (!world_.checks_program) return;
  if (unsubmitted() > 0) world_.fail("%u submissions were never entered", unsubmitted());
  if (!requests_.empty()) {
    world_.fail("%zu operations never had their final completion, the first of opcode %d",
                requests_.size(), int{requests_.front()->sqe.opcode});
  }
  if (!overflow_.empty() || ready() > 0) world_.fail("completions were never taken off");
}

// --- Entering ---

int SimRing::enter(unsigned min_complete, nanoseconds timeout, nanoseconds batch_bound) noexcept {
  if (world_.check_invariants) world_.check_invariants();
  const TimePoint begin = world_.time() + nanoseconds(world_.random.between(100, 20'000));
  world_.work_until(begin);
  check_spin();
  if (unsubmitted() > 0) {
    if (world_.strikes(Knob::enter_ebusy)) return -EBUSY;
    if (world_.strikes(Knob::enter_eagain)) return -EAGAIN;
  }
  take_submissions();
  flush_overflow();
  work();
  TimePoint deadline = TimePoint::max();
  if (timeout >= nanoseconds::zero()) {
    deadline = begin + timeout;
    if (world_.strikes(Knob::timer_skew)) {
      deadline += nanoseconds(world_.random.scaled(1000, 3'000'000));
    }
  }
  TimePoint batch_until = TimePoint::max();
  if (batch_bound > nanoseconds::zero() && info_.bounded_batches) batch_until = begin + batch_bound;
  const int result = min_complete == 0 ? 0 : wait(min_complete, deadline, batch_until);
  publish_flags();
  return result;
}

/// A program that enters again and again, and neither waits nor gets on with anything, spins.
void SimRing::check_spin() {
  if (world_.progress() != progress_seen_) {
    progress_seen_ = world_.progress();
    enters_in_vain_ = 0;
  }
  if (++enters_in_vain_ > enters_in_vain_most) {
    world_.fail("the program spins: %u enters, and nothing comes of them", enters_in_vain_);
  }
}

/// Lets time pass until enough has completed.
int SimRing::wait(unsigned min_complete, TimePoint deadline, TimePoint batch_until) {
  for (;;) {
    const bool bounded = world_.time() >= batch_until;
    if (ready() >= (bounded ? 1U : min_complete)) return 0;
    // What ends a wait is told only where nothing has completed.
    if (world_.strikes(Knob::enter_eintr)) return ready() > 0 ? 0 : -EINTR;
    if (world_.strikes(Knob::enter_in_vain)) return 0;
    if (world_.time() >= deadline) return ready() > 0 ? 0 : -ETIME;
    TimePoint next = std::min({world_.next_event(), next_change(), deadline});
    if (!bounded) next = std::min(next, batch_until);
    if (next > world_.time()) world_.note_progress();
    if (next == TimePoint::max()) world_.fail("the program waits for what will never come");
    world_.advance_to(next);
    flush_overflow();
    work();
  }
}

int SimRing::submit() noexcept {
  if (world_.check_invariants) world_.check_invariants();
  world_.work_until(world_.time() + nanoseconds(world_.random.between(100, 5'000)));
  if (unsubmitted() > 0 && world_.strikes(Knob::enter_eagain)) return -EAGAIN;
  take_submissions();
  publish_flags();
  return 0;
}

bool SimRing::spin_until(TimePoint deadline) noexcept {
  for (;;) {
    publish_flags();
    if (has_work()) return true;
    if (world_.time() >= deadline) return false;
    world_.work_until(std::min({world_.next_event(), next_change(), deadline}));
    world_.note_progress();
  }
}

// --- Submission ---

void SimRing::take_submissions() {
  unsigned count = unsubmitted();
  if (count > 1 && world_.strikes(Knob::enter_takes_few)) {
    count = static_cast<unsigned>(world_.random.between(1, count));
  }
  for (unsigned index = 0; index < count; ++index) {
    const io_uring_sqe sqe = sqes_[head_of_sqes_ & (sq_entries_ - 1)];
    ++head_of_sqes_;
    take(sqe);
  }
}

void SimRing::take(const io_uring_sqe& sqe) {
  ++world_.totals.submissions;
  auto request = std::make_unique<Request>();
  request->sqe = sqe;
  if (names_file(sqe)) request->file = world_.file(sqe.fd);
  if (request->file) account(*request, 1);
  world_.trace("submitted: opcode %d, descriptor %d, user_data %llx", int{sqe.opcode}, sqe.fd,
               static_cast<unsigned long long>(sqe.user_data));
  check_memory(*request);
  Request& taken = *request;
  taken.turn = ++turns_;
  requests_.push_back(std::move(request));
  if (names_file(sqe) && !taken.file) {
    refuse(taken, EBADF);
  } else {
    if (world_.strikes(Knob::issues_late)) return;
    proceed(taken, true);
  }
  if (!taken.has_answer) return;
  if (world_.strikes(Knob::late_completion)) {
    taken.not_before = world_.time() + nanoseconds(world_.random.scaled(1000, 2'000'000));
    return;
  }
  // What ends where it is issued completes at once, before anything that was submitted later.
  for (std::size_t index = requests_.size(); index-- > 0;) {
    if (requests_[index].get() == &taken) return finish_at(index);
  }
}

/// Pelton never asks for that; a script that does is answered as the kernel does it.
void SimRing::refuse(Request& request, int error) {
  const io_uring_sqe& sqe = request.sqe;
  if (world_.checks_program) {
    world_.fail("an operation of opcode %d on descriptor %d, which the kernel answers with %d",
                int{sqe.opcode}, sqe.fd, -error);
  }
  answer(request, -error);
}

void SimRing::account(const Request& request, int change) {
  File& file = *request.file;
  const bool checks = world_.checks_program;
  file.used = true;
  const auto add = [change](unsigned& count) { count += static_cast<unsigned>(change); };
  switch (request.sqe.opcode) {
    case IORING_OP_RECV:
      add(file.receives);
      if (checks && file.receives > 1)
        world_.fail("two receives in flight on descriptor %d", file.fd);
      return;
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
      add(file.sends);
      if (checks && file.sends > 1) world_.fail("two sends in flight on descriptor %d", file.fd);
      return;
    default:
      add(file.others);
      if (checks && file.others > 1)
        world_.fail("two operations in flight on descriptor %d", file.fd);
  }
}

// --- Completion ---

/// Lets operations go on that can, by chance or in the order of their coming.
void SimRing::work() {
  look_at_new_buffers();
  for (std::size_t steps = 0; steps < steps_per_work; ++steps) {
    able_.clear();
    for (std::size_t index = 0; index < requests_.size(); ++index) {
      const Request& request = *requests_[index];
      if (request.not_before > world_.time()) continue;
      if (request.has_answer || is_ready(request)) able_.push_back(index);
    }
    if (able_.empty()) return;
    if (!step(choose()) && able_.size() == 1) return;
  }
}

/// Of those that are able: by a fault, by chance, or in turn.
std::size_t SimRing::choose() {
  if (world_.strikes(Knob::send_meets_reset)) {
    for (const std::size_t each : able_) {
      const Request& request = *requests_[each];
      const bool is_send =
          request.sqe.opcode == IORING_OP_SEND || request.sqe.opcode == IORING_OP_SENDMSG;
      if (is_send && request.file->connection->has_error(request.file->end)) return each;
    }
  }
  if (world_.strikes(Knob::reordering)) return able_[world_.random.below(able_.size())];
  return *std::ranges::min_element(able_, {},
                                   [this](std::size_t each) { return requests_[each]->turn; });
}

/// \return false if the operation rests from now on.
bool SimRing::step(std::size_t index) {
  Request& request = *requests_[index];
  request.turn = ++turns_;
  if (!request.has_answer) proceed(request, false);
  if (request.has_answer && request.not_before <= world_.time()) {
    if (world_.strikes(Knob::late_completion)) {
      request.not_before = world_.time() + nanoseconds(world_.random.scaled(1000, 2'000'000));
      return false;
    }
    finish_at(index);
  }
  return true;
}

/// Posts the final completion of an operation that has been answered.
void SimRing::finish_at(std::size_t index) {
  const RequestPtr request = std::move(requests_[index]);
  requests_.erase(requests_.begin() + static_cast<std::ptrdiff_t>(index));
  check_memory(*request);
  if (request->file) {
    account(*request, -1);
    if (request->file->closed && request->file->in_flight() == 0) world_.release(*request->file);
  }
  post(request->sqe.user_data, request->answer.res, request->answer.flags);
}

void SimRing::post(std::uint64_t user_data, int res, std::uint32_t flags) {
  ++world_.totals.completions;
  world_.trace("completion: user_data %llx, res %d, flags %x",
               static_cast<unsigned long long>(user_data), res, flags);
  io_uring_cqe cqe{};
  cqe.user_data = user_data;
  cqe.res = res;
  cqe.flags = flags;
  if (queue_full()) {
    overflow_.push_back(cqe);
  } else {
    cqes_[tail_of_cqes_++ & cq_mask_] = cqe;
  }
}

void SimRing::flush_overflow() {
  std::size_t moved = 0;
  while (moved < overflow_.size() && ready() <= cq_mask_) {
    cqes_[tail_of_cqes_++ & cq_mask_] = overflow_[moved++];
  }
  overflow_.erase(overflow_.begin(), overflow_.begin() + static_cast<std::ptrdiff_t>(moved));
}

void SimRing::publish_flags() {
  flag_bits_ = overflow_.empty() ? 0 : IORING_SQ_CQ_OVERFLOW;
  const bool due = std::ranges::any_of(requests_, [this](const RequestPtr& request) {
    return request->not_before <= world_.time() && (request->has_answer || is_ready(*request));
  });
  if (due) flag_bits_ |= IORING_SQ_TASKRUN;
}

TimePoint SimRing::next_change() const noexcept {
  TimePoint next = TimePoint::max();
  for (const RequestPtr& request : requests_) {
    if (request->has_answer || request->not_before > world_.time()) {
      next = std::min(next, std::max(request->not_before, world_.time()));
    } else if (is_ready(*request))
      next = world_.time();
  }
  return next;
}

// --- Provided buffers ---

Result<void> SimRing::register_buffer_ring(std::uint16_t, void* memory, unsigned entries) noexcept {
  table_ = static_cast<io_uring_buf_ring*>(memory);
  entries_ = entries;
  offered_.assign(entries, false);
  buffer_head_ = buffer_seen_ = 0;
  return {};
}

void SimRing::unregister_buffer_ring(std::uint16_t) noexcept { table_ = nullptr; }

/// Checks what was offered since the last look: an id must not be offered twice.
void SimRing::look_at_new_buffers() {
  if (!table_) return;
  while (buffer_seen_ != table_->tail) {
    const io_uring_buf& entry = uapi::buffer_entries(table_)[buffer_seen_ & (entries_ - 1)];
    if (entry.bid >= entries_) world_.fail("buffer %u is offered, and there is none", entry.bid);
    if (offered_[entry.bid]) world_.fail("buffer %u is offered twice", entry.bid);
    offered_[entry.bid] = true;
    ++buffer_seen_;
    if (static_cast<std::uint16_t>(buffer_seen_ - buffer_head_) > entries_) {
      world_.fail("more buffers are offered than the ring has entries");
    }
  }
}

}  // namespace pelton::sim
