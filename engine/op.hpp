// Op: one operation that the kernel may hold, from its SQE to its final CQE.
//
// An Op is a member of the object that owns the operation's memory (a transport, a listener, the
// loop's wake-up) and is pinned there while in_flight(): its destructor asserts that it is not.
// It names its kind by a static table of two functions and its owner by the distance to it, so an
// Op costs 16 bytes and no virtual call besides the one that its completion is.
//
// OpTable gives each started Op a slot and a generation; user_data encodes both, so a CQE that
// belongs to no living operation is recognised instead of dereferenced.
//
// Neighbours: loop.hpp starts, cancels and completes Ops. Thread rule: the loop's thread only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <pelton/engine/assert.hpp>

struct io_uring_sqe;

namespace pelton {

class Op;

/// What one kind of operation is: its name for counters, how its SQE is filled, what its
/// completions do. One constant per kind; the functions must not throw.
struct OpKind {
  const char* name;
  /// Fills `sqe`, which is zeroed; user_data is set by the loop afterwards.
  void (*prepare)(Op& op, io_uring_sqe& sqe) noexcept;
  /// Called for each CQE with its res and flags. `op.in_flight()` is false already if the CQE was
  /// the final one (F_MORE clear); the call may then start it anew or destroy its owner.
  void (*complete)(Op& op, int res, std::uint32_t flags) noexcept;
  /// False for those that have one completion only.
  bool multishot = false;
};

/// One operation; see the head of this file.
class Op {
 public:
  /// \param owner  The object that this is a member of, at most 32 KiB in size; null for none.
  Op(const OpKind& kind, const void* owner) noexcept
      : kind_(&kind), offset_(owner ? offset_in(owner) : std::int16_t{0}) {}
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  ~Op() { PELTON_ASSERT(!in_flight()); }

  /// True from Loop::start to the final CQE.
  [[nodiscard]] bool in_flight() const noexcept { return state_ != State::idle; }
  /// True if a cancel has been asked for since the start.
  [[nodiscard]] bool cancelling() const noexcept { return cancel_ != Cancel::none; }
  [[nodiscard]] const OpKind& kind() const noexcept { return *kind_; }
  template <class Owner>
  [[nodiscard]] Owner& owner() const noexcept {
    auto* const self = reinterpret_cast<std::byte*>(const_cast<Op*>(this));
    return *reinterpret_cast<Owner*>(self - offset_);
  }

 private:
  friend class Loop;
  friend class OpTable;
  enum class State : std::uint8_t { idle, queued, submitted };
  enum class Cancel : std::uint8_t { none, wanted, asked_for };

  [[nodiscard]] std::int16_t offset_in(const void* owner) const noexcept {
    const auto distance =
        reinterpret_cast<std::intptr_t>(this) - reinterpret_cast<std::intptr_t>(owner);
    PELTON_ASSERT(distance >= 0 && distance <= INT16_MAX);
    return static_cast<std::int16_t>(distance);
  }

  const OpKind* kind_;
  std::uint32_t slot_ = 0;
  std::int16_t offset_;  ///< from the owner's beginning
  State state_ = State::idle;
  Cancel cancel_ = Cancel::none;
};
static_assert(sizeof(Op) == 16);  // every connection has two

/// Slots of the operations in flight, and the line of those that have no SQE yet. Owns no Op.
class OpTable {
 public:
  /// The user_data of CQEs that answer a cancel request, which belong to no Op.
  static constexpr std::uint64_t cancel_user_data = ~std::uint64_t{0};

  /// Room for `count` operations at once, which add() then finds. \throws std::bad_alloc
  void reserve(std::size_t count) {
    if (count > slots_.capacity()) slots_.reserve(std::max(count, slots_.capacity() * 2));
  }
  /// Gives `op` a slot and returns the user_data of its SQE.
  [[nodiscard]] std::uint64_t add(Op& op) {
    if (first_free_ == none) {
      op.slot_ = static_cast<std::uint32_t>(slots_.size());
      slots_.push_back({});
    } else {
      op.slot_ = first_free_;
      first_free_ = slots_[op.slot_].next_free;
    }
    Slot& slot = slots_[op.slot_];
    PELTON_ASSERT(!slot.taken());
    ++slot.generation;
    slot.op = &op;
    return user_data(op);
  }
  /// The user_data that add() returned for this op.
  [[nodiscard]] std::uint64_t user_data(const Op& op) const noexcept {
    return (std::uint64_t{slots_[op.slot_].generation} << 32) | op.slot_;
  }
  /// The living Op of this user_data, or null for a CQE that fits none.
  [[nodiscard]] Op* find(std::uint64_t user_data) const noexcept {
    const auto index = static_cast<std::uint32_t>(user_data);
    const auto generation = static_cast<std::uint32_t>(user_data >> 32);
    if (index >= slots_.size() || slots_[index].generation != generation) return nullptr;
    return slots_[index].taken() ? slots_[index].op : nullptr;
  }
  /// Frees the slot; later CQEs with the old user_data find nothing.
  void remove(Op& op) noexcept {
    Slot& slot = slots_[op.slot_];
    PELTON_ASSERT(slot.taken() && slot.op == &op);
    ++slot.generation;
    slot.next_free = first_free_;
    first_free_ = op.slot_;
  }
  // --- The line of those that wait for an SQE; they are in the table ---

  [[nodiscard]] bool line_empty() const noexcept { return first_in_line_ == none; }
  [[nodiscard]] Op& front_of_line() const noexcept { return *slots_[first_in_line_].op; }
  void line_up(const Op& op) noexcept {
    slots_[op.slot_].next_in_line = none;
    (line_empty() ? first_in_line_ : slots_[last_in_line_].next_in_line) = op.slot_;
    last_in_line_ = op.slot_;
  }
  void leave_line() noexcept {
    Slot& slot = slots_[first_in_line_];
    first_in_line_ = slot.next_in_line;
    slot.active_in = none;
  }

  /// True if the slot of this op, which is in the table, has not been asked about in this period.
  /// By slot: of short operations that follow each other in one, the first alone counts.
  [[nodiscard]] bool newly_active(const Op& op, std::uint32_t period) noexcept {
    return std::exchange(slots_[op.slot_].active_in, period) != period;
  }
  /// Calls `visit(Op&)` for each Op in the table, as long as it returns true.
  template <class Visit>
  void visit_while(Visit&& visit) {
    for (std::size_t index = 0; index < slots_.size(); ++index) {
      if (slots_[index].taken() && !visit(*slots_[index].op)) return;
    }
  }

 private:
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  struct Slot {
    union {
      Op* op = nullptr;         ///< of a taken slot
      std::uint32_t next_free;  ///< of a free one
    };
    std::uint32_t generation = 0;  ///< odd while the slot is taken
    union {
      std::uint32_t active_in = none;  ///< the period that it was last asked about in
      std::uint32_t next_in_line;      ///< of an operation without an SQE
    };

    [[nodiscard]] bool taken() const noexcept { return (generation & 1) != 0; }
  };
  static_assert(sizeof(Slot) == 16);
  std::vector<Slot> slots_;
  std::uint32_t first_free_ = none;
  std::uint32_t first_in_line_ = none;
  std::uint32_t last_in_line_ = none;
};

}  // namespace pelton
