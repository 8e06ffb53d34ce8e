// SimRing: the Ring that is a simulation of io_uring's contract, on a World.
//
// Nothing completes inside get_sqe(). An enter takes submissions, lets what is ready complete in
// an order drawn by chance, and lets time pass until enough has completed. Kept are the orders
// that the kernel keeps: the completions of one multishot. A full completion queue ends multishots
// and moves the rest to a list that the next enter flushes.
//
// It checks as it goes: buffer ids have one owner, a connection has one receive and one send in
// flight at most, what a send points to does not change before its final completion, no operation
// names a descriptor that is not open, and at the end each operation had its final completion.
// Where the world does not check the program, it answers what breaks these rules as the kernel
// does.
//
// Neighbours: engine/ring.hpp, the contract; engine/sqe.hpp, what pelton submits; world.hpp;
// requests.cpp, what each operation does.
#pragma once

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include <pelton/engine/ring_inline.hpp>

#include "sim/world.hpp"

namespace pelton::sim {

/// Sizes and features, drawn per run.
struct RingShape {
  unsigned sq_entries = 64;
  unsigned cq_entries = 256;
  bool recv_multishot = true;
  bool recv_multishot_unix = true;
  bool accept_multishot = true;
  bool recv_caps = true;
  bool bounded_batches = true;

  static RingShape draw(Random& random) noexcept;
};

class SimRing final : public Ring {
 public:
  SimRing(World& world, const RingShape& shape);
  ~SimRing() override;

  using Ring::enter;
  int enter(unsigned min_complete, std::chrono::nanoseconds timeout,
            std::chrono::nanoseconds batch_bound) noexcept override;
  int submit() noexcept override;
  bool spin_until(std::chrono::steady_clock::time_point deadline) noexcept override;
  Result<void> register_buffer_ring(std::uint16_t group, void* memory,
                                    unsigned entries) noexcept override;
  void unregister_buffer_ring(std::uint16_t group) noexcept override;

 private:
  struct Answer {
    int res;
    std::uint32_t flags;
  };
  struct Request {
    io_uring_sqe sqe;
    std::shared_ptr<File> file;
    TimePoint not_before{};        ///< it rests until then
    std::uint64_t turn = 0;        ///< who had the least recent one is served next
    std::size_t moved = 0;         ///< bytes of a send, or of a capped receive
    std::uint64_t memory_sum = 0;  ///< of what a send points to
    bool has_answer = false;       ///< the final one, not posted yet
    bool judged = false;           ///< the faults of its beginning were drawn
    Answer answer{};
  };
  struct Buffer {
    std::byte* data;
    std::size_t size;
    std::uint32_t flags;  ///< of the completion that brings it
  };
  using RequestPtr = std::unique_ptr<Request>;

  // Submission and completion: sim_ring.cpp.
  void take_submissions();
  void take(const io_uring_sqe& sqe);
  void work();
  [[nodiscard]] std::size_t choose();
  bool step(std::size_t index);
  void finish_at(std::size_t index);
  void post(std::uint64_t user_data, int res, std::uint32_t flags);
  void flush_overflow();
  void publish_flags();
  void account(const Request& request, int change);
  [[nodiscard]] bool queue_full() const noexcept {
    return !overflow_.empty() || ready() > cq_mask_;
  }
  [[nodiscard]] TimePoint next_change() const noexcept;
  int wait(unsigned min_complete, TimePoint deadline, TimePoint batch_until);
  void check_spin();
  void look_at_new_buffers();
  void refuse(Request& request, int error);

  // What each operation does: requests.cpp. Each is called where the operation may go on, answers
  // it if it ends, and posts what does not end it.
  [[nodiscard]] bool is_ready(const Request& request) const;
  void proceed(Request& request, bool issuing);
  void proceed_receive(Request& request, bool issuing);
  void receive_pieces(Request& request);
  bool receive_piece(Request& request);
  [[nodiscard]] Buffer take_buffer();
  bool receive_fault(Request& request);
  void proceed_send(Request& request);
  bool send_fault(Request& request);
  void send_pieces(Request& request);
  void proceed_accept(Request& request);
  bool accept_fault(Request& request);
  void proceed_connect(Request& request, bool issuing);
  void proceed_read(Request& request);
  void proceed_poll(Request& request);
  void proceed_cancel(Request& request);
  void cancel_target(Request& target, bool late);
  void answer(Request& request, int res, std::uint32_t flags = 0);
  [[nodiscard]] std::vector<std::span<const std::byte>> memory_of(const Request& request) const;
  void check_memory(Request& request);

  World& world_;
  std::vector<io_uring_sqe> sqe_memory_;
  std::vector<io_uring_cqe> cqe_memory_;
  unsigned head_of_sqes_ = 0;
  unsigned flag_bits_ = 0;
  unsigned head_of_cqes_ = 0;
  unsigned tail_of_cqes_ = 0;
  std::vector<io_uring_cqe> overflow_;
  std::vector<RequestPtr> requests_;  ///< in the order of their submission
  std::uint64_t turns_ = 0;
  std::uint64_t progress_seen_ = 0;
  unsigned enters_in_vain_ = 0;
  std::vector<std::size_t> able_;  ///< those that can go on, while work() looks
  // The provided buffers.
  io_uring_buf_ring* table_ = nullptr;
  unsigned entries_ = 0;
  std::uint16_t buffer_head_ = 0;  ///< the next that is taken
  std::uint16_t buffer_seen_ = 0;  ///< up to where offers were checked
  std::vector<bool> offered_;      ///< by id: the kernel has it
};

}  // namespace pelton::sim
