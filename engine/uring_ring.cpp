// UringRing: set-up ladder, feature probe, enter. See uring_ring.hpp; what is refused and why is
// told by uring_refusal.cpp.
#include <pelton/engine/uring_ring.hpp>

#include <liburing.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <mutex>
#include <thread>

#include <pelton/engine/assert.hpp>
#include <pelton/engine/sqe.hpp>
#include <pelton/engine/uapi.hpp>

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

void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// What the process-wide probe found; see probe_features().
struct ProbedFeatures {
  bool recv_pass_cap = false;
};

class UringRing final : public Ring {
 public:
  UringRing() = default;
  ~UringRing() override {
    if (made_) io_uring_queue_exit(&ring_);
  }

  /// \return 0 or a negated errno.
  int set_up(unsigned sq_entries, unsigned cq_entries) noexcept {
    io_uring_params params{};
    params.flags = setup_flags;
    params.cq_entries = cq_entries;
    const int error = io_uring_queue_init_params(sq_entries, &ring_, &params);
    if (error < 0) return error;
    made_ = true;
    if ((params.features & required_features) != required_features) return -ENOSYS;
    map_fields(params);
    register_fd();
    return 0;
  }

  void take_features(const ProbedFeatures& features) {
    info_.recv_pass_cap = features.recv_pass_cap;
    if (!features.recv_pass_cap) {
      info_.turned_down.emplace_back("recv_pass_cap: the kernel refuses a length on a multishot "
                                     "receive (Linux 6.17 takes it)");
    }
  }

  void note_shrunk(unsigned wanted) {
    info_.turned_down.push_back("sq_entries " + std::to_string(wanted) +
                                ": not enough locked memory, raise RLIMIT_MEMLOCK");
  }

  int enter(unsigned min_complete, nanoseconds timeout) noexcept override {
    std::atomic_ref(*ring_.sq.ktail).store(sq_tail_, std::memory_order_release);
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    if (ring_.int_flags & INT_FLAG_REG_RING) flags |= IORING_ENTER_REGISTERED_RING;
    __kernel_timespec limit{};
    io_uring_getevents_arg argument{};
    argument.sigmask_sz = _NSIG / 8;
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

  bool spin_until(steady_clock::time_point deadline) noexcept override {
    do {
      for (int round = 0; round < 32; ++round) {
        if (ready() > 0 || kernel_has_work()) return true;
        cpu_relax();
      }
    } while (steady_clock::now() < deadline);
    return false;
  }

  [[nodiscard]] bool overflowed() const noexcept override {
    return (kernel_flags() & IORING_SQ_CQ_OVERFLOW) != 0;
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
  }

  void register_fd() {
    const int registered = io_uring_register_ring_fd(&ring_);
    info_.registered_ring_fd = registered == 1;
    if (registered != 1) {
      info_.turned_down.push_back("registered_ring_fd: " + errno_code(-registered).message());
    }
  }

  [[nodiscard]] unsigned kernel_flags() const noexcept {
    return std::atomic_ref(*ring_.sq.kflags).load(std::memory_order_relaxed);
  }
  [[nodiscard]] bool kernel_has_work() const noexcept {
    return (kernel_flags() & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
  }

  io_uring ring_{};
  bool made_ = false;
};

/// Arms a capped multishot receive on a socket pair and looks at its first completions: a kernel
/// that does not know the cap answers -EINVAL, one that does delivers at most `cap` at a time.
bool probe_recv_pass_cap(UringRing& ring) noexcept {
  constexpr unsigned cap = 16;
  constexpr unsigned entries = 4;
  constexpr std::uint16_t group = 0xFFFF;
  alignas(4096) static std::array<std::byte, 4096> ring_memory;  // first page-aligned entry table
  alignas(64) static std::array<std::array<char, 64>, entries> buffers;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return false;
  ring_memory.fill(std::byte{0});
  bool works = false;
  if (ring.register_buffer_ring(group, ring_memory.data(), entries)) {
    auto* table = reinterpret_cast<io_uring_buf_ring*>(ring_memory.data());
    for (unsigned id = 0; id < entries; ++id) {
      io_uring_buf_ring_add(table, buffers[id].data(), 64, static_cast<unsigned short>(id),
                            io_uring_buf_ring_mask(entries), static_cast<int>(id));
    }
    io_uring_buf_ring_advance(table, entries);
    const std::array<char, 2 * cap> data{};
    if (write(pair[1], data.data(), data.size()) == static_cast<ssize_t>(data.size())) {
      sqe::recv_multishot(*ring.get_sqe(), pair[0], group, cap);
      const int error = ring.enter(1, std::chrono::milliseconds(50));
      works = (error == 0 || error == -ETIME) && ring.ready() >= 1 &&
              ring.peek(0).res == static_cast<int>(cap);
    }
    shutdown(pair[0], SHUT_RDWR);  // ends the receive, if it is armed
    while (ring.ready() > 0 || ring.enter(1, std::chrono::milliseconds(20)) == 0) {
      const unsigned count = ring.ready();
      const bool ended = count > 0 && !(ring.peek(count - 1).flags & IORING_CQE_F_MORE);
      ring.advance(count);
      if (ended || count == 0) break;
    }
    ring.unregister_buffer_ring(group);
  }
  close(pair[0]);
  close(pair[1]);
  return works;
}

const ProbedFeatures& probe_features() {
  static std::once_flag once;
  static ProbedFeatures features;
  std::call_once(once, [] {
    UringRing ring;  // a small ring of its own: a probe leaves nothing behind in a serving one
    if (ring.set_up(sq_entries_min, 2 * sq_entries_min) != 0) return;
    features.recv_pass_cap = probe_recv_pass_cap(ring);
  });
  return features;
}

/// One attempt at this size; ENOMEM is retried with growing pauses for `patience`.
int set_up_patiently(std::unique_ptr<UringRing>& ring, const RingOptions& options,
                     std::chrono::milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  auto pause = std::chrono::milliseconds(5);
  for (;;) {
    ring = std::make_unique<UringRing>();
    const int error = ring->set_up(options.sq_entries, options.cq_entries);
    if (error != -ENOMEM || steady_clock::now() + pause > deadline) return error;
    std::this_thread::sleep_for(pause);
    pause *= 2;
  }
}

}  // namespace

std::unique_ptr<Ring> make_uring_ring(const RingOptions& options) {
  RingOptions size = options;
  size.sq_entries = std::bit_ceil(std::clamp(options.sq_entries, 1U, 32768U));
  size.cq_entries = std::bit_ceil(std::clamp(options.cq_entries, size.sq_entries, 65536U));
  const unsigned wanted = size.sq_entries;
  std::unique_ptr<UringRing> ring;
  int error = set_up_patiently(ring, size, options.memory_patience);
  while (error == -ENOMEM && size.sq_entries > sq_entries_min) {
    size.sq_entries /= 2;
    size.cq_entries = std::max(size.cq_entries / 2, size.sq_entries);
    error = set_up_patiently(ring, size, std::chrono::milliseconds::zero());
  }
  if (error != 0) throw RingUnavailable(errno_code(-error), explain_ring_refusal(-error));
  ring->take_features(probe_features());
  if (size.sq_entries != wanted) ring->note_shrunk(wanted);
  return ring;
}

}  // namespace pelton
