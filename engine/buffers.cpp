// BufferGroup: the buffer ring's memory and the four changes of ownership. See buffers.hpp.
#include <pelton/engine/buffers.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <new>

#include <pelton/engine/ring.hpp>
#include <pelton/engine/simulation.hpp>
#include <pelton/engine/uapi.hpp>

#if defined(__SANITIZE_ADDRESS__)
#define PELTON_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PELTON_POISON 1
#endif
#endif
#ifdef PELTON_POISON
#include <sanitizer/asan_interface.h>
#endif

namespace pelton {
namespace {

// While the kernel or nobody owns a buffer, reading it is a bug that AddressSanitizer reports.
void poison([[maybe_unused]] const std::byte* data, [[maybe_unused]] std::size_t size) noexcept {
#ifdef PELTON_POISON
  __asan_poison_memory_region(data, size);
#endif
}
void unpoison([[maybe_unused]] const std::byte* data, [[maybe_unused]] std::size_t size) noexcept {
#ifdef PELTON_POISON
  __asan_unpoison_memory_region(data, size);
#endif
}

// So many at first: more than one enter takes off a loop that keeps up.
constexpr unsigned offered_at_first = 64;

void* map_anonymous(std::size_t size) noexcept {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  unpoison(static_cast<std::byte*>(memory), size);  // of what lay there before
  madvise(memory, size, MADV_DONTFORK);  // a child must never share memory that a ring fills
  return memory;
}

}  // namespace

BufferGroup::BufferGroup(Ring& ring, const Options& options) noexcept
    : ring_(&ring),
      options_(options),
      offered_most_(std::min(options.count, offered_at_first)),
      // A quarter is kept circulating, one buffer at least.
      pressure_below_(std::max(1U, options.count / 4)) {}

BufferGroup::~BufferGroup() {
  PELTON_ASSERT(lent_ == 0);
  if (buffers_) {
    unpoison(buffers_, memory_bytes());
    munmap(buffers_, memory_bytes());
  }
  if (table_) munmap(table_, options_.count * sizeof(io_uring_buf));
}

Result<BufferGroup::Owner> BufferGroup::make(Ring& ring, const Options& options) noexcept {
  Owner group(new (std::nothrow) BufferGroup(ring, options));
  if (!group) return errno_result(ENOMEM);
  if (auto mapped = group->map(); !mapped) return std::unexpected(mapped.error());
  if (auto made = ring.register_buffer_ring(options.id, group->table_, options.count); !made) {
    return std::unexpected(made.error());
  }
  group->registered_ = true;
  group->commit();
  return group;
}

Result<void> BufferGroup::map() noexcept {
  slots_.reset(new (std::nothrow) Slot[options_.count]);
  free_.reset(new (std::nothrow) std::uint16_t[options_.count]);
  buffers_ = static_cast<std::byte*>(map_anonymous(memory_bytes()));
  table_ = static_cast<io_uring_buf_ring*>(map_anonymous(options_.count * sizeof(io_uring_buf)));
  if (!slots_ || !free_ || !buffers_ || !table_) return errno_result(ENOMEM);
  for (unsigned id = 0; id < options_.count; ++id) {
    slots_[id].tag = static_cast<std::uint16_t>(id);
    slots_[id].ring_buffer = true;
    slots_[id].group = this;
    slots_[id].release = give_back;
    poison(buffer(id), options_.buffer_bytes);
    free_[free_count_++] = static_cast<std::uint16_t>(options_.count - 1 - id);
  }
  available_ = options_.count;
  return {};
}

void BufferGroup::offer(unsigned id) noexcept {
  Slot& slot = slots_[id];
  PELTON_ASSERT(slot.state == Slot::State::free);
  slot.state = Slot::State::kernel;
  io_uring_buf& entry = uapi::buffer_entries(table_)[tail_ & (options_.count - 1)];
  entry.addr = reinterpret_cast<std::uintptr_t>(buffer(id));
  entry.len = static_cast<std::uint32_t>(options_.buffer_bytes);
  entry.bid = static_cast<std::uint16_t>(id);
  ++tail_;
  ++offered_;
}

Lease BufferGroup::take(unsigned id, std::size_t size) noexcept {
  PELTON_ASSERT(id < options_.count);
  PELTON_ASSERT(size <= options_.buffer_bytes);
  Slot& slot = slots_[id];
  PELTON_ASSERT(slot.state == Slot::State::kernel);
  slot.state = Slot::State::lent;
  slot.refs = 1;
  --available_;
  --offered_;
  ++lent_;
  unpoison(buffer(id), size);
  return Lease(Bytes(buffer(id), size, slot));
}

void BufferGroup::give_back(detail::BytesOwner& owner) noexcept {
  Slot& slot = static_cast<Slot&>(owner);
  BufferGroup& group = *slot.group;
  PELTON_ASSERT(slot.state == Slot::State::lent);
  slot.state = Slot::State::free;
  --group.lent_;
  poison(group.buffer(slot.tag), group.options_.buffer_bytes);
  if (group.registered_) {
    group.free_[group.free_count_++] = slot.tag;
    ++group.available_;
  } else if (group.lent_ == 0) {
    delete &group;  // retired while this lease was out, and it was the last
  }
}

void BufferGroup::commit() noexcept {
  committed_most_ = offered_most_;
  if (free_count_ == 0 || offered_ >= offered_most_) return;
  while (free_count_ > 0 && offered_ < offered_most_) offer(free_[--free_count_]);
  std::atomic_ref(table_->tail).store(tail_, std::memory_order_release);
}

unsigned BufferGroup::wake_parked() noexcept {
  if (PELTON_CANARY(parked_for_ever)) return 0;
  unsigned woken = 0;
  while (woken < available_ && !parked_.empty()) {
    parked_.pop_front()->on_buffers_available();
    ++woken;
  }
  return woken;
}

void BufferGroup::retire() noexcept {
  if (registered_) ring_->unregister_buffer_ring(options_.id);
  registered_ = false;
  for (unsigned id = 0; slots_ && id < options_.count; ++id) {
    if (slots_[id].state == Slot::State::kernel) slots_[id].state = Slot::State::free;
  }
  available_ = offered_ = free_count_ = 0;
  if (lent_ == 0) delete this;
}

}  // namespace pelton
