// EpollRing: taking submissions, waiting, serving descriptors that are ready. See epoll_ring.hpp.
//
// Descriptors are registered edge-triggered when an operation first has to wait, and stay so while
// they have one: a message costs no epoll_ctl(2). An edge is told once, so an operation is waited
// for only after a call said that it would block, or a receive came back short from a socket whose
// end has not been reported.
#include <pelton/engine/epoll_ring.hpp>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>

#include <pelton/engine/epoll_buffers.hpp>
#include <pelton/engine/epoll_calls.hpp>
#include <pelton/engine/epoll_completions.hpp>
#include <pelton/engine/epoll_ops.hpp>
#include <pelton/engine/ring_inline.hpp>
#include <pelton/engine/socket.hpp>

namespace pelton {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;
namespace calls = epoll_calls;

constexpr int events_per_enter = 24;  // more would take every buffer before the loop has its say
constexpr unsigned receives_per_pass = 32;  // of one socket, where no cap is asked for
constexpr unsigned accepts_per_pass = 32;
constexpr std::size_t left_over_per_enter = 24;  // descriptors, as many as events
constexpr unsigned sends_per_pass = 2;
constexpr auto retry_pause = std::chrono::milliseconds(2);
constexpr std::uint32_t trouble = EPOLLERR | EPOLLHUP;
constexpr std::uint32_t may_hide_more = EPOLLRDHUP | EPOLLPRI | trouble;
constexpr std::uint32_t by_message = 1U << 27;  // ours: of a unix socket, see receive_pieces()
constexpr std::uint32_t all_events = EPOLLIN | EPOLLOUT | may_hide_more;

/// How far an attempt came.
enum class Progress : std::uint8_t {
  ended,    ///< its final completion is posted
  waiting,  ///< until the descriptor is ready
  more,     ///< its share of this enter is used up
  retry,    ///< no event will tell when it can go on
};

class EpollRing final : public Ring {
 public:
  explicit EpollRing(const RingOptions& options)
      : epoll_(epoll_create1(EPOLL_CLOEXEC)),
        sqe_memory_(options.sq_entries),
        completions_(options.cq_entries) {
    if (!epoll_) throw_os_error(errno_code(errno), "epoll_create1");
    sqes_ = sqe_memory_.data();
    sq_head_ = &sq_head_value_;
    sq_flags_ = &sq_flags_value_;
    sq_entries_ = options.sq_entries;
    completions_.make_backlog(sq_entries_);
    cqes_ = completions_.entries();
    cq_head_ = completions_.head();
    cq_tail_ = completions_.tail();
    cq_mask_ = completions_.mask();
    info_.name = "epoll";
    info_.sq_entries = options.sq_entries;
    info_.cq_entries = options.cq_entries;
    info_.recv_multishot = info_.recv_multishot_unix = info_.recv_caps = true;
    info_.accept_multishot = true;
    info_.turned_down.emplace_back(
        "bounded_batches: epoll cannot bound the wait for several completions");
    if (options.restricted) info_.turned_down.emplace_back("restricted: epoll has no ring");
  }

  using Ring::enter;
  int enter(unsigned min_complete, nanoseconds timeout, nanoseconds) noexcept override {
    completions_.flush();
    const bool served = serve_events();  // that a spin came upon
    const bool submitted = take_submissions();
    int error = 0;
    if (completions_.backlogged() ||
        (min_complete > 0 && ready() >= min_complete && !passed_over_)) {
      passed_over_ = true;  // but only once: others are heard as well
    } else if (!served || ready() < min_complete) {
      passed_over_ = false;
      error = hear(min_complete, timeout);
    }
    update_flags();
    return submitted || ready() > 0 ? 0 : error;
  }

  int submit() noexcept override {
    take_submissions();
    update_flags();
    return 0;
  }

  bool spin_until(steady_clock::time_point deadline) noexcept override {
    for (;;) {
      if (ready() > 0 || event_count_ > 0 || !left_over_.empty() || overflowed()) return true;
      if (poll_events(nanoseconds::zero()) == 0 && event_count_ > 0) return true;
      if (steady_clock::now() >= deadline) return false;
    }
  }

  Result<void> register_buffer_ring(std::uint16_t group, void* memory,
                                    unsigned entries) noexcept override {
    if (entries == 0 || !std::has_single_bit(entries) || entries > 32768) {
      return errno_result(EINVAL);
    }
    if (find_buffers(group)) return errno_result(EEXIST);
    try {
      groups_.emplace_back(group, memory, entries);
    } catch (const std::bad_alloc&) {
      return errno_result(ENOMEM);
    }
    return {};
  }

  void unregister_buffer_ring(std::uint16_t group) noexcept override {
    std::erase_if(groups_, [group](const EpollBuffers& each) { return each.group() == group; });
  }

 private:
  // --- Completions ---

  void post(std::uint64_t user_data, int res, std::uint32_t flags) noexcept {
    completions_.post(user_data, res, flags);
  }

  Progress finish(const EpollOperation& operation, int res) noexcept {
    post(operation.user_data, res, 0);
    return Progress::ended;
  }

  /// A completion of a multishot operation. It is the last one if `last`, or if the queue is full.
  /// \return false if it was.
  [[nodiscard]] bool post_shot(const EpollOperation& operation, int res, std::uint32_t flags,
                               bool last) noexcept {
    last = last || !operation.multishot || completions_.full();
    post(operation.user_data, res, last ? flags : flags | IORING_CQE_F_MORE);
    return !last;
  }

  /// Before anybody looks: what the kernel tells by these flags as it happens.
  void update_flags() noexcept {
    const bool work = operations_.count() > 0 || event_count_ > 0;
    sq_flags_value_ = (work ? IORING_SQ_TASKRUN : 0U) |
                      (completions_.backlogged() ? unsigned{IORING_SQ_CQ_OVERFLOW} : 0U);
  }

  // --- Submissions ---

  /// Room for the ends of all operations, and of one that is submitted now and ends at once.
  /// Without memory for it submissions are left in their queue.
  [[nodiscard]] bool has_backlog() noexcept {
    const std::size_t ends = operations_.count() + 1;
    if (completions_.has_backlog(ends)) return true;
    try {
      completions_.make_backlog(ends + sq_entries_);
    } catch (const std::bad_alloc&) {
      return false;
    }
    return true;
  }

  /// \return true if there was one.
  bool take_submissions() noexcept {
    const bool any = unsubmitted() > 0;
    while (sq_head_value_ != sq_tail_ && has_backlog()) {
      submit_one(sqes_[sq_head_value_ & (sq_entries_ - 1)]);
      std::atomic_ref(sq_head_value_).store(sq_head_value_ + 1, std::memory_order_release);
    }
    return any;
  }

  void submit_one(const io_uring_sqe& sqe) noexcept {
    switch (sqe.opcode) {
      case IORING_OP_NOP:
        return post(sqe.user_data, 0, 0);
      case IORING_OP_ASYNC_CANCEL:
        return cancel(sqe);
      default:
        break;
    }
    EpollOperation operation(sqe);
    if (operation.fd < 0) return post(sqe.user_data, -EBADF, 0);
    const bool may_block = sqe.opcode == IORING_OP_ACCEPT || sqe.opcode == IORING_OP_CONNECT;
    if (may_block) operation.was_blocking = calls::make_nonblocking(operation.fd);
    const Progress progress = proceed(operation, all_events);
    if (progress == Progress::ended) return end(operation);
    keep(operation, progress);
  }

  /// Gives an operation that could not end a record, and its descriptor a watch.
  void keep(const EpollOperation& operation, Progress progress) noexcept {
    std::uint32_t index = EpollOperation::none;
    try {
      completions_.make_backlog(operations_.count() + 1 + sq_entries_);
      index = operations_.add(operation);
    } catch (const std::bad_alloc&) {
      give_up(operation, -ENOMEM);
      return end(operation);
    }
    settle(index, progress);
  }

  void cancel(const io_uring_sqe& sqe) noexcept {
    if (sqe.cancel_flags & IORING_ASYNC_CANCEL_FD) return cancel_on_descriptor(sqe);
    const std::uint32_t index = operations_.find(sqe.addr);
    if (index == EpollOperation::none) return post(sqe.user_data, -ENOENT, 0);
    post(sqe.user_data, 0, 0);
    cancel_one(index);
  }

  /// With or without IORING_ASYNC_CANCEL_ALL, which counts them.
  void cancel_on_descriptor(const io_uring_sqe& sqe) noexcept {
    const bool all = (sqe.cancel_flags & IORING_ASYNC_CANCEL_ALL) != 0;
    int count = 0;
    while (operations_.knows(sqe.fd) && (all || count == 0)) {
      const std::uint32_t index = operations_.descriptor(sqe.fd).first;
      if (index == EpollOperation::none) break;
      cancel_one(index);
      ++count;
    }
    post(sqe.user_data, all ? count : count > 0 ? 0 : -ENOENT, 0);
  }

  void cancel_one(std::uint32_t index) noexcept {
    give_up(operations_[index], -ECANCELED);
    drop(index);
  }

  void end(const EpollOperation& operation) noexcept {
    if (operation.was_blocking) calls::make_blocking(operation.fd);
  }

  void drop(std::uint32_t index) noexcept {
    end(operations_[index]);
    operations_.remove(index);
  }

  // --- Attempts ---

  /// Does what can be done now. \param events  those that were reported.
  Progress proceed(EpollOperation& operation, std::uint32_t events) noexcept {
    switch (operation.opcode) {
      case IORING_OP_RECV:
        return receive(operation, events);
      case IORING_OP_SEND:
        return send(operation);
      case IORING_OP_SENDMSG:
        return send_message(operation);
      case IORING_OP_ACCEPT:
        return accept(operation);
      case IORING_OP_CONNECT:
        return connect(operation);
      case IORING_OP_READ:
        return once(operation,
                    calls::read(operation.fd, operation.address, operation.size, operation.offset));
      case IORING_OP_POLL_ADD: {
        const int ready_events = calls::poll(operation.fd, operation.flags);
        return ready_events == 0 ? Progress::waiting : finish(operation, ready_events);
      }
      default:
        return finish(operation, -EINVAL);
    }
  }

  Progress once(const EpollOperation& operation, int result) noexcept {
    if (result == -EAGAIN) return Progress::waiting;
    return result == -EINTR ? Progress::more : finish(operation, result);
  }

  /// One pass. \param events  Some of them mean that a short receive proves nothing.
  Progress receive(EpollOperation& operation, std::uint32_t events) noexcept {
    EpollBuffers* const buffers = find_buffers(operation.group);
    if (!buffers) return finish(operation, -ENOBUFS);
    bool to_the_end = (events & may_hide_more) != 0;
    std::uint32_t pass_left = operation.size;
    bool any = false;
    for (unsigned round = 0; round < receives_per_pass; ++round) {
      EpollPieces pieces;
      const unsigned room = std::max(1U, completions_.room());  // to tell of them
      const std::uint32_t size =
          buffers->offer(pieces, operation.large ? room : 1, pass_left, operation.total_left);
      if (size == 0) {
        const bool empty = any && !calls::has_more(operation.fd);
        return empty ? Progress::waiting : finish(operation, -ENOBUFS);
      }
      const int count =
          pieces.count > 1 || (events & by_message)
              ? calls::receive_pieces(operation.fd, {pieces.memory.data(), pieces.count},
                                      operation.flags, to_the_end)
              : calls::receive(operation.fd, pieces.memory[0], operation.flags);
      if (count == -EAGAIN) return Progress::waiting;
      if (count == -EINTR) continue;
      if (count <= 0) return finish(operation, count);
      const auto received = static_cast<std::uint32_t>(count);
      if (any) completions_.latest().flags |= IORING_CQE_F_SOCK_NONEMPTY;
      any = true;
      if (!post_received(*buffers, operation, pieces, received)) return Progress::ended;
      operation.large = received == size;
      if (received < size && !to_the_end) return Progress::waiting;
      if (pass_left > 0 && (pass_left -= received) == 0) return Progress::more;
    }
    return Progress::more;
  }

  /// A completion for each buffer that something was received into. \return false if the last of
  /// them ended the shot.
  [[nodiscard]] bool post_received(EpollBuffers& buffers, EpollOperation& operation,
                                   const EpollPieces& pieces, std::uint32_t received) noexcept {
    bool more = true;
    for (unsigned index = 0; received > 0; ++index) {
      const auto part =
          std::min(received, static_cast<std::uint32_t>(pieces.memory[index].iov_len));
      received -= part;
      const std::uint32_t id = buffers.take() << IORING_CQE_BUFFER_SHIFT;
      const bool capped = operation.total_left > 0 && part >= operation.total_left;
      std::uint32_t flags = IORING_CQE_F_BUFFER | id;
      if (received > 0) flags |= IORING_CQE_F_SOCK_NONEMPTY;
      more = post_shot(operation, static_cast<int>(part), flags, capped);
      if (operation.total_left > 0 && more) operation.total_left -= part;
    }
    return more;
  }

  /// Ends with what a send has sent, or with the error if that is nothing.
  Progress give_up(const EpollOperation& operation, int error) noexcept {
    const bool sent = operation.done > 0 && operation.opcode != IORING_OP_CONNECT;
    return finish(operation, sent ? static_cast<int>(operation.done) : error);
  }

  Progress send(EpollOperation& operation) noexcept {
    for (unsigned round = 0; round < sends_per_pass; ++round) {
      const int count = calls::send(operation.fd, operation.address + operation.done,
                                    operation.size - operation.done, operation.flags);
      if (count == -EAGAIN) return Progress::waiting;
      if (count == -EINTR) continue;
      if (count < 0) return give_up(operation, count);
      operation.done += static_cast<unsigned>(count);
      if (operation.done >= operation.size) return give_up(operation, 0);
      if (!(operation.flags & MSG_WAITALL)) return give_up(operation, 0);
    }
    return Progress::more;
  }

  Progress send_message(EpollOperation& operation) noexcept {
    const auto& message = *reinterpret_cast<const msghdr*>(operation.address);
    const std::uint64_t size = calls::size_of(message);
    for (unsigned round = 0; round < sends_per_pass; ++round) {
      const int count = calls::send_rest(operation.fd, message, operation.done, operation.flags);
      if (count == -EAGAIN) return Progress::waiting;
      if (count == -EINTR) continue;
      if (count < 0) return give_up(operation, count);
      operation.done += static_cast<unsigned>(count);
      if (operation.done >= size) return give_up(operation, 0);
      if (!(operation.flags & MSG_WAITALL)) return give_up(operation, 0);
    }
    return Progress::more;
  }

  Progress accept(EpollOperation& operation) noexcept {
    for (unsigned round = 0; round < accepts_per_pass; ++round) {
      const int fd = calls::accept(operation.fd, operation.flags);
      if (fd == -EAGAIN) return Progress::waiting;
      if (fd < 0) return finish(operation, fd);
      // A new file: whatever was said of the number before is about another.
      if (operations_.knows(fd)) operations_.descriptor(fd).watched = false;
      if (!post_shot(operation, fd, 0, false)) return Progress::ended;
    }
    return Progress::more;
  }

  Progress connect(EpollOperation& operation) noexcept {
    const int result = calls::connect(operation.fd, operation.address, operation.offset);
    if (result == -EINPROGRESS) {
      operation.done = 1;
      return Progress::waiting;
    }
    if (result == -EAGAIN) return Progress::retry;  // a unix listener's queue is full
    return finish(operation, result == -EISCONN && operation.done > 0 ? 0 : result);
  }

  [[nodiscard]] EpollBuffers* find_buffers(std::uint16_t group) noexcept {
    for (EpollBuffers& each : groups_) {
      if (each.group() == group) return &each;
    }
    return nullptr;
  }

  // --- Watching ---

  /// What follows from an attempt of a recorded operation.
  void settle(std::uint32_t index, Progress progress) noexcept {
    const int fd = operations_[index].fd;
    switch (progress) {
      case Progress::ended:
        return drop(index);
      case Progress::waiting:
        if (const int error = watch(fd, operations_[index].wanted); error != 0) {
          give_up(operations_[index], error);
          drop(index);
        }
        return;
      case Progress::more:
        return left_over_.join(fd);
      case Progress::retry:
        if (retries_.empty()) retry_at_ = steady_clock::now() + retry_pause;
        return retries_.join(fd);
    }
  }

  /// Registers the descriptor for `mask` besides what it is registered for. \return 0 or a negated
  /// errno.
  [[nodiscard]] int watch(int fd, std::uint32_t mask) noexcept {
    EpollDescriptor& descriptor = operations_.descriptor(fd);
    if (descriptor.watched && (descriptor.mask & mask) == mask) return 0;
    if (descriptor.watched) {
      mask |= descriptor.mask;
    } else {
      ++descriptor.generation;  // events of an earlier registration are not for these operations
    }
    int error = ENOENT;
    if (descriptor.perhaps_watched) error = control(EPOLL_CTL_MOD, fd, mask);
    if (error == ENOENT) {
      error = control(EPOLL_CTL_ADD, fd, mask);
      const int family = calls::family(fd);
      descriptor.always_told = family == AF_UNIX                         ? by_message
                               : family == AF_INET || family == AF_INET6 ? 0U
                                                                         : may_hide_more;
    }
    if (error == EEXIST) error = control(EPOLL_CTL_MOD, fd, mask);
    if (error != 0) return error == ENOSPC ? -ENOMEM : -error;
    descriptor.watched = descriptor.perhaps_watched = true;
    descriptor.mask = mask;
    return 0;
  }

  [[nodiscard]] int control(int what, int fd, std::uint32_t mask) noexcept {
    epoll_event event{};
    event.events = mask | EPOLLET;
    event.data.u64 =
        std::uint64_t{operations_.descriptor(fd).generation} << 32 | static_cast<std::uint32_t>(fd);
    return epoll_ctl(epoll_.get(), what, fd, &event) == 0 ? 0 : errno;
  }

  /// An event came that nobody waits for, and would come again and again with a busy peer.
  void lose_interest(int fd) noexcept {
    EpollDescriptor& descriptor = operations_.descriptor(fd);
    std::uint32_t wanted = 0;
    for (std::uint32_t index = descriptor.first; index != EpollOperation::none;
         index = operations_[index].next_of_fd) {
      wanted |= operations_[index].wanted;
    }
    if (wanted == 0) {
      descriptor.watched = descriptor.perhaps_watched = false;
      static_cast<void>(control(EPOLL_CTL_DEL, fd, 0));
    } else if (descriptor.watched && control(EPOLL_CTL_MOD, fd, wanted) == 0) {
      descriptor.mask = wanted;
    }
  }

  // --- Hearing ---

  /// Waits and serves until `min_complete` completions are there, or `timeout` is over. \return 0,
  /// -ETIME, or a negated errno.
  int hear(unsigned min_complete, nanoseconds timeout) noexcept {
    const bool timed = min_complete > 0 && timeout > nanoseconds::zero();
    const auto deadline = timed ? steady_clock::now() + timeout : steady_clock::time_point();
    const bool at_once = min_complete == 0 || timeout == nanoseconds::zero();
    nanoseconds left = timeout;
    for (;;) {
      const bool may_wait = !at_once && ready() < min_complete && left_over_.empty();
      if (const int error = poll_events(may_wait ? left : nanoseconds::zero()); error != 0) {
        return error;
      }
      ++pass_;
      serve_events();
      serve_retries();
      serve_left_over();
      if (min_complete == 0 || ready() >= min_complete) return 0;
      if (at_once) return -ETIME;
      if (!timed) continue;
      left = deadline - steady_clock::now();
      if (left <= nanoseconds::zero()) return -ETIME;
    }
  }

  /// Waits for at most `timeout` (negative: for ever) until there are events. \return 0 or a
  /// negated errno.
  int poll_events(nanoseconds timeout) noexcept {
    if (event_count_ > 0) return 0;
    if (!retries_.empty() && timeout != nanoseconds::zero()) {
      timeout = timeout < nanoseconds::zero() ? nanoseconds(retry_pause)
                                              : std::min(timeout, nanoseconds(retry_pause));
    }
    const int count = calls::wait(epoll_.get(), events_, timeout);
    if (count < 0) return count;
    event_count_ = static_cast<unsigned>(count);
    return 0;
  }

  /// \return true if there were events.
  bool serve_events() noexcept {
    const unsigned count = std::exchange(event_count_, 0);
    for (unsigned index = 0; index < count; ++index) {
      const auto fd = static_cast<int>(static_cast<std::uint32_t>(events_[index].data.u64));
      const auto generation = static_cast<std::uint32_t>(events_[index].data.u64 >> 32);
      EpollDescriptor& descriptor = operations_.descriptor(fd);
      if (descriptor.generation != generation) continue;  // of a file that is no longer ours
      if (!serve(fd, events_[index].events)) lose_interest(fd);
    }
    return count > 0;
  }

  /// Those whose share of an earlier enter was used up; a bounded number of them.
  void serve_left_over() noexcept {
    std::size_t count = std::min(left_over_.size(), left_over_per_enter);
    for (; count > 0; --count) {
      const int fd = left_over_.take_first();
      if (operations_.descriptor(fd).last_pass == pass_) {
        left_over_.join(fd);  // an event has brought it its share of this one
      } else {
        serve(fd, all_events);
      }
    }
  }

  void serve_retries() noexcept {
    if (retries_.empty() || steady_clock::now() < retry_at_) return;
    retry_at_ = steady_clock::now() + retry_pause;  // of those that join again
    for (std::size_t count = retries_.size(); count > 0; --count) {
      serve(retries_.take_first(), all_events);
    }
  }

  /// Gives each operation of the descriptor that one of `events` is for an attempt.
  /// \return false if there was none.
  bool serve(int fd, std::uint32_t events) noexcept {
    EpollDescriptor& descriptor = operations_.descriptor(fd);
    descriptor.last_pass = pass_;
    const std::uint32_t told = events | descriptor.always_told;
    bool served = false;
    for (std::uint32_t index = descriptor.first; index != EpollOperation::none;) {
      EpollOperation& operation = operations_[index];
      const std::uint32_t next = operation.next_of_fd;
      if (events & (operation.wanted | trouble)) {
        served = true;
        settle(index, proceed(operation, told));
      }
      index = next;
    }
    return served;
  }

  OwnedFd epoll_;
  std::vector<io_uring_sqe> sqe_memory_;
  EpollCompletions completions_;
  unsigned sq_head_value_ = 0;
  unsigned sq_flags_value_ = 0;
  EpollOperations operations_;
  std::vector<EpollBuffers> groups_;
  std::array<epoll_event, events_per_enter> events_;
  unsigned event_count_ = 0;  ///< that wait to be served
  EpollLine left_over_{operations_, &EpollDescriptor::next_left_over};
  EpollLine retries_{operations_, &EpollDescriptor::next_to_retry};
  steady_clock::time_point retry_at_;
  std::uint32_t pass_ = 0;
  bool passed_over_ = false;  ///< the last enter did not ask epoll
};

}  // namespace

std::unique_ptr<Ring> make_epoll_ring(const RingOptions& options) {
  RingOptions size = options;
  size.sq_entries = std::bit_ceil(std::clamp(options.sq_entries, 1U, 32768U));
  size.cq_entries = std::bit_ceil(std::clamp(options.cq_entries, size.sq_entries, 65536U));
  return std::make_unique<EpollRing>(size);
}

}  // namespace pelton
