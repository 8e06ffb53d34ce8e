// The ring of quiet_ring.hpp and the loop on it.
#include <fuzz/quiet_ring.hpp>

#include <array>
#include <atomic>

#include <fuzz/target.hpp>
#include <pelton/engine/ring_inline.hpp>

namespace pelton::fuzz {
namespace {

class QuietRing final : public Ring {
 public:
  QuietRing() {
    sqes_ = sqe_memory_.data();
    cqes_ = reinterpret_cast<io_uring_cqe*>(cqe_memory_.data());
    sq_head_ = &sq_head_memory_;
    sq_flags_ = &no_flags_;
    sq_entries_ = static_cast<unsigned>(sqe_memory_.size());
    cq_head_ = cq_tail_ = &no_completions_;
    info_.name = "quiet";
    info_.sq_entries = sq_entries_;
    info_.cq_entries = 1;
  }

  using Ring::enter;
  int enter(unsigned min_complete, std::chrono::nanoseconds timeout,
            std::chrono::nanoseconds) noexcept override {
    require(min_complete == 0 || timeout == timeout.zero(), "the loop sleeps for ever");
    return submit();
  }
  int submit() noexcept override {
    sq_head_memory_ = sq_tail_;
    return 0;
  }
  bool spin_until(std::chrono::steady_clock::time_point) noexcept override { return false; }
  Result<void> register_buffer_ring(std::uint16_t, void* memory,
                                    unsigned entries) noexcept override {
    table_ = static_cast<io_uring_buf_ring*>(memory);
    entries_ = entries;
    return {};
  }
  void unregister_buffer_ring(std::uint16_t) noexcept override {}

  /// The id of the next buffer that a receive would fill, or -1.
  int next_buffer() noexcept {
    if (std::atomic_ref(table_->tail).load(std::memory_order_acquire) == head_) return -1;
    return uapi::buffer_entries(table_)[head_++ & (entries_ - 1)].bid;
  }

 private:
  std::array<io_uring_sqe, 8> sqe_memory_{};
  alignas(io_uring_cqe) std::array<std::byte, sizeof(io_uring_cqe)> cqe_memory_{};  // never read
  unsigned sq_head_memory_ = 0;
  unsigned no_flags_ = 0;
  unsigned no_completions_ = 0;
  io_uring_buf_ring* table_ = nullptr;
  unsigned entries_ = 0;
  std::uint16_t head_ = 0;
};

struct Quiet {
  Quiet() : Quiet(std::make_unique<QuietRing>()) {}
  static LoopOptions options() {
    LoopOptions options;
    options.busy_poll = BusyPoll::parse("off");
    options.batch_wait = BatchWait::off;
    options.buffer_count = 64;
    options.buffer_bytes = ring_buffer_bytes;
    return options;
  }
  QuietRing& ring;
  Loop loop;

 private:
  explicit Quiet(std::unique_ptr<QuietRing> made) : ring(*made), loop(options(), std::move(made)) {}
};

Quiet& quiet() {
  static Quiet* const quiet = new Quiet;  // never closed: its ring could end no operation
  return *quiet;
}

}  // namespace

Loop& quiet_loop() { return quiet().loop; }

void run_turn() {
  Loop& loop = quiet().loop;
  loop.stop();
  loop.run_forever();
}

Bytes received(std::string_view data) {
  BufferGroup& buffers = quiet().loop.buffers();
  buffers.commit();
  const int id = quiet().ring.next_buffer();
  if (id < 0) return {};
  Lease lease = buffers.take(static_cast<unsigned>(id), data.size());
  // What the kernel does: the memory is the group's, and writable.
  std::memcpy(const_cast<std::byte*>(lease.span().data()), data.data(), data.size());
  return std::move(lease).into_bytes();
}

}  // namespace pelton::fuzz
