// UringRing: set-up ladder, feature probe, enter. See uring_ring.hpp; what is refused and why is
// told by uring_refusal.cpp.
#include <pelton/engine/uring_ring.hpp>

#include <liburing.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>

#include <pelton/engine/assert.hpp>
#include <pelton/engine/ring_inline.hpp>
#include <pelton/engine/ring_probe.hpp>
#include <pelton/engine/sqe.hpp>

namespace pelton {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr unsigned setup_flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                                 IORING_SETUP_TASKRUN_FLAG;
constexpr unsigned required_features = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP |
                                       IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL |
                                       IORING_FEAT_EXT_ARG;
constexpr unsigned sq_entries_min = 8;
constexpr auto charge_drains = std::chrono::milliseconds(20);  // of a small ring that is gone

void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Orders what a thread did with a ring that is gone before what another does with one that lies at
// the same address: ThreadSanitizer does not see liburing's mappings come and go.
std::atomic<unsigned> rings_gone = 0;

class UringRing final : public Ring {
 public:
  UringRing() = default;
  ~UringRing() override {
    if (!made_) return;
    rings_gone.fetch_add(1, std::memory_order_release);
    io_uring_queue_exit(&ring_);
  }

  /// \return 0 or a negated errno.
  int set_up(const RingOptions& options) noexcept {
    io_uring_params params{};
    params.flags = setup_flags | (options.restricted ? IORING_SETUP_R_DISABLED : 0U);
    params.cq_entries = options.cq_entries;
    const int error = io_uring_queue_init_params(options.sq_entries, &ring_, &params);
    if (error < 0) return error;
    made_ = true;
    static_cast<void>(rings_gone.load(std::memory_order_acquire));
    io_uring_ring_dontfork(&ring_);  // a child that touched the queues would corrupt ours
    if ((params.features & required_features) != required_features) return -ENOSYS;
    map_fields(params);
    register_fd();
    return options.restricted ? restrict_and_enable() : 0;
  }

  /// Whether the ring may be entered, which a filter can refuse where it allows the rest.
  /// \return 0 or a negated errno.
  int try_entering() noexcept {
    const int result = enter(0, nanoseconds::zero());
    const bool for_now = result == -EINTR || result == -EAGAIN || result == -EBUSY ||
                         result == -ENOMEM || result == -ETIME;
    return for_now ? 0 : result;
  }

  void take_verdict(const ProbeVerdict& verdict) {
    for (const auto& [feature, text] : verdict.refusals) {
      if (info_.*feature) info_.turn_down(feature, text);
    }
  }

  void note_shrunk(unsigned wanted) {
    info_.turned_down.push_back("sq_entries " + std::to_string(wanted) +
                                ": not enough locked memory, raise RLIMIT_MEMLOCK");
  }

  using Ring::enter;
  int enter(unsigned min_complete, nanoseconds timeout, nanoseconds batch_bound) noexcept override {
    std::atomic_ref(*ring_.sq.ktail).store(sq_tail_, std::memory_order_release);
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    if (ring_.int_flags & INT_FLAG_REG_RING) flags |= IORING_ENTER_REGISTERED_RING;
    __kernel_timespec limit{};
    io_uring_getevents_arg argument{};
    argument.sigmask_sz = _NSIG / 8;
    if (batch_bound > nanoseconds::zero() && info_.bounded_batches) {
      // Without a time limit the kernel would end the wait with nothing when the bound is reached.
      if (timeout < nanoseconds::zero()) timeout = std::chrono::hours(24);
      batch_bound = std::min(batch_bound, timeout);
      argument.pad = static_cast<std::uint32_t>(batch_bound.count() / 1000);  // min_wait_usec
    }
    if (timeout >= nanoseconds::zero() && min_complete > 0) {
      limit.tv_sec = timeout.count() / 1'000'000'000;
      limit.tv_nsec = timeout.count() % 1'000'000'000;
      argument.ts = reinterpret_cast<std::uintptr_t>(&limit);
    }
    const int result =
        io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), unsubmitted(), min_complete,
                        flags, reinterpret_cast<sigset_t*>(&argument), sizeof argument);
    return result < 0 ? result : 0;
  }

  int submit() noexcept override {
    std::atomic_ref(*ring_.sq.ktail).store(sq_tail_, std::memory_order_release);
    const unsigned flags =
        ring_.int_flags & INT_FLAG_REG_RING ? unsigned{IORING_ENTER_REGISTERED_RING} : 0U;
    const int result = io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), unsubmitted(), 0,
                                       flags, nullptr, 0);
    return result < 0 ? result : 0;
  }

  bool spin_until(steady_clock::time_point deadline) noexcept override {
    for (;;) {
      for (int round = 0; round < 32; ++round) {
        if (has_work()) return true;
        cpu_relax();
      }
      if (steady_clock::now() >= deadline) return has_work();
    }
  }

  Result<void> register_buffer_ring(std::uint16_t group, void* memory,
                                    unsigned entries) noexcept override {
    io_uring_buf_reg request{};
    request.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
    request.ring_entries = entries;
    request.bgid = group;
    const int error = io_uring_register_buf_ring(&ring_, &request, 0);
    if (error < 0) return errno_result(-error);
    return {};
  }

  void unregister_buffer_ring(std::uint16_t group) noexcept override {
    io_uring_unregister_buf_ring(&ring_, group);
  }

 private:
  // liburing 2.3 keeps this bit private; io_uring_register_ring_fd sets it.
  static constexpr unsigned INT_FLAG_REG_RING = 1;

  void map_fields(const io_uring_params& params) noexcept {
    sqes_ = ring_.sq.sqes;
    sq_head_ = ring_.sq.khead;
    sq_flags_ = ring_.sq.kflags;
    sq_entries_ = params.sq_entries;
    cqes_ = ring_.cq.cqes;
    cq_head_ = ring_.cq.khead;
    cq_tail_ = ring_.cq.ktail;
    cq_mask_ = params.cq_entries - 1;
    for (unsigned index = 0; index < params.sq_entries; ++index) ring_.sq.array[index] = index;
    info_.name = "io_uring";
    info_.sq_entries = params.sq_entries;
    info_.cq_entries = params.cq_entries;
    info_.taskrun_flag = true;
    info_.recv_multishot = info_.recv_multishot_unix = info_.accept_multishot = true;
    info_.recv_caps = true;  // as far as is known before the probe
    info_.bounded_batches = (params.features & uapi::feature_min_timeout) != 0;
    if (!info_.bounded_batches) {
      info_.turned_down.emplace_back(
          "bounded_batches: the kernel cannot bound the wait for several completions (Linux 6.12 "
          "can)");
    }
  }

  void register_fd() {
    const int registered = io_uring_register_ring_fd(&ring_);
    info_.registered_ring_fd = registered == 1;
    if (registered != 1) {
      info_.turned_down.push_back("registered_ring_fd: " + errno_code(-registered).message());
    }
  }

  /// \return 0 or a negated errno.
  int restrict_and_enable() noexcept {
    constexpr std::uint8_t registrations[] = {
        IORING_REGISTER_PBUF_RING, IORING_UNREGISTER_PBUF_RING, IORING_UNREGISTER_RING_FDS};
    std::array<io_uring_restriction, std::size(sqe::operations) + std::size(registrations) + 1>
        list{};
    auto* next = list.data();
    for (const std::uint8_t operation : sqe::operations) {
      next->opcode = IORING_RESTRICTION_SQE_OP;
      (next++)->sqe_op = operation;
    }
    for (const std::uint8_t registration : registrations) {
      next->opcode = IORING_RESTRICTION_REGISTER_OP;
      (next++)->register_op = registration;
    }
    next->opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    next->sqe_flags = sqe::sqe_flags;
    const int error = do_register(IORING_REGISTER_RESTRICTIONS, list.data(), list.size());
    if (error != 0) return error;
    info_.restricted = true;
    return do_register(IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  }

  /// What liburing 2.3 has functions for, but does not export. \return 0 or a negated errno.
  [[nodiscard]] int do_register(unsigned opcode, const void* argument, unsigned count) noexcept {
    return syscall(__NR_io_uring_register, ring_.ring_fd, opcode, argument, count) < 0 ? -errno : 0;
  }

  io_uring ring_{};
  bool made_ = false;
};

/// A lower bound of the locked memory that a ring of this size is charged.
std::size_t locked_bytes(const RingOptions& size) noexcept {
  return size.sq_entries * (sizeof(io_uring_sqe) + sizeof(unsigned)) +
         size.cq_entries * sizeof(io_uring_cqe);
}

bool can_ever_fit(const RingOptions& size) noexcept {
  rlimit limit{};
  return getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || locked_bytes(size) <= limit.rlim_cur;
}

/// One attempt at this size; ENOMEM is retried with growing pauses for `patience`: the charge of
/// rings that are gone is taken back late.
int set_up_patiently(std::unique_ptr<UringRing>& ring, const RingOptions& options,
                     std::chrono::milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  auto pause = std::chrono::milliseconds(5);
  for (;;) {
    ring = std::make_unique<UringRing>();
    const int error = ring->set_up(options);
    if (error != -ENOMEM || steady_clock::now() + pause > deadline) return error;
    if (!can_ever_fit(options)) return error;
    std::this_thread::sleep_for(pause);
    pause *= 2;
  }
}

/// Tries a small ring of its own: a probe leaves nothing behind in a serving one.
/// \throws OSError  there is none to be had, or not enough to try it with.
ProbeVerdict examine_small_ring() {
  std::unique_ptr<UringRing> ring;
  const int error = set_up_patiently(ring, probe_ring_options, probe_ring_options.memory_patience);
  if (error != 0) throw OSError(errno_code(-error), "no ring to probe with");
  if (const int refused = ring->try_entering(); refused != 0) {
    throw OSError(errno_code(-refused), "the ring to probe with cannot be entered");
  }
  return probe_features(*ring);
}

/// Once per process. What fails is tried a second time: the machine may have been asleep.
ProbeVerdict verdict_of_process() {
  static std::mutex mutex;
  static std::optional<ProbeVerdict> verdict;
  const std::lock_guard lock(mutex);
  if (verdict) return *verdict;
  try {
    ProbeVerdict found = examine_small_ring();
    if (!found.refusals.empty() || !found.unusable.empty()) found = examine_small_ring();
    verdict = std::move(found);
  } catch (const OSError& trouble) {
    return not_probed(trouble.what());
  }
  return *verdict;
}

}  // namespace

std::unique_ptr<Ring> make_uring_ring(const RingOptions& options) {
  RingOptions size = options;
  size.sq_entries = std::bit_ceil(std::clamp(options.sq_entries, 1U, 32768U));
  size.cq_entries = std::bit_ceil(std::clamp(options.cq_entries, size.sq_entries, 65536U));
  const unsigned wanted = size.sq_entries;
  // First: a ring of all the memory that may be locked would leave none to probe with.
  const ProbeVerdict verdict = verdict_of_process();
  std::unique_ptr<UringRing> ring;
  int error = set_up_patiently(ring, size, options.memory_patience);
  while (error == -ENOMEM && size.sq_entries > sq_entries_min) {
    size.sq_entries /= 2;
    size.cq_entries = std::max(size.cq_entries / 2, size.sq_entries);
    error = set_up_patiently(ring, size, std::min(options.memory_patience, charge_drains));
  }
  if (error != 0) throw RingUnavailable(errno_code(-error), explain_ring_refusal(-error));
  if (const int refused = ring->try_entering(); refused != 0) {
    throw RingUnavailable(
        errno_code(-refused),
        explain_ring_refusal(-refused, "io_uring is refused on this host: io_uring_enter"));
  }
  if (!verdict.unusable.empty()) {
    const std::string what = "io_uring cannot be trusted, " + verdict.unusable + ": a trial of it";
    throw RingUnavailable(errno_code(EOPNOTSUPP), explain_ring_refusal(EOPNOTSUPP, what));
  }
  ring->take_verdict(verdict);
  if (size.sq_entries != wanted) ring->note_shrunk(wanted);
  return ring;
}

}  // namespace pelton
