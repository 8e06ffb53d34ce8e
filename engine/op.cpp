// OpTable: a free list of slots inside one vector. See op.hpp.
#include <pelton/engine/op.hpp>

namespace pelton {

std::uint64_t OpTable::add(Op& op) {
  if (first_free_ == none) {
    slots_.push_back({});
    op.slot_ = static_cast<std::uint32_t>(slots_.size() - 1);
  } else {
    op.slot_ = first_free_;
    first_free_ = slots_[op.slot_].next_free;
  }
  PELTON_ASSERT(slots_[op.slot_].op == nullptr);
  slots_[op.slot_].op = &op;
  return user_data(op);
}

void OpTable::remove(Op& op) noexcept {
  Slot& slot = slots_[op.slot_];
  PELTON_ASSERT(slot.op == &op);
  slot.op = nullptr;
  ++slot.generation;
  slot.next_free = first_free_;
  first_free_ = op.slot_;
}

}  // namespace pelton
