// The per-thread free lists of frame_pool.hpp.
#include <pelton/engine/frame_pool.hpp>

#include <array>
#include <cstdint>
#include <new>

#include <pelton/engine/assert.hpp>

namespace pelton::detail {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(PELTON_SIMULATION)
constexpr bool recycle = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool recycle = false;
#else
constexpr bool recycle = true;
#endif
#else
constexpr bool recycle = true;
#endif

// Classes are as wide as glibc's chunks are inside: 16 * k + 8 bytes, so that none is wasted.
constexpr std::size_t class_bytes = 16;
constexpr std::size_t header_bytes = 8;
constexpr std::size_t class_count = 260;  // up to 4 KiB and a header: a chain's gathering block
// The rest goes back to the heap. Small blocks are what every busy connection has one of; large
// ones, the frames of what takes a connection up above all, come in crowds that do not return.
constexpr std::size_t small_bytes_max = 128;
constexpr std::size_t kept_bytes_per_small_class = 128 * 1024;
constexpr std::size_t kept_bytes_per_large_class = 64 * 1024;

constexpr std::size_t class_of(std::size_t size) noexcept {
  return (size + class_bytes - 1 - header_bytes) / class_bytes;
}
constexpr std::size_t block_bytes(std::size_t index) noexcept {
  return index * class_bytes + header_bytes;
}

struct FreeBlock {
  FreeBlock* next;
};

struct SizeClass {
  FreeBlock* head = nullptr;
  std::uint32_t room = 0;  ///< blocks that it would still keep
};

constexpr std::uint32_t most_kept(std::size_t index) noexcept {
  const std::size_t bytes = block_bytes(index);
  return static_cast<std::uint32_t>(
      (bytes <= small_bytes_max ? kept_bytes_per_small_class : kept_bytes_per_large_class) / bytes);
}

consteval std::array<SizeClass, class_count> empty_classes() noexcept {
  std::array<SizeClass, class_count> empty{};
  for (std::size_t index = 0; index < class_count; ++index) empty[index].room = most_kept(index);
  return empty;
}

enum class PoolState : std::uint8_t { unused, active, ended };

// Trivially destructible, so that they need no guard on access and may be touched while a thread
// ends, by objects that outlive the pool.
constinit thread_local std::array<SizeClass, class_count> classes = empty_classes();
constinit thread_local PoolState state = PoolState::unused;

/// Empties the pool at the end of its thread.
struct PoolEnd {
  PoolEnd() noexcept { state = PoolState::active; }
  ~PoolEnd() {
    state = PoolState::ended;
    for (SizeClass& size_class : classes) {
      while (FreeBlock* block = size_class.head) {
        size_class.head = block->next;
        ::operator delete(block);
      }
    }
  }
};

void* take(SizeClass& size_class) noexcept {
  FreeBlock* const block = size_class.head;
  if (!block) return nullptr;
  size_class.head = block->next;
  ++size_class.room;
  return block;
}

bool keep(std::size_t index, void* memory) noexcept {
  if (state != PoolState::active) {
    if (state == PoolState::ended) return false;
    static thread_local const PoolEnd at_thread_end;
    static_cast<void>(&at_thread_end);
  }
  SizeClass& size_class = classes[index];
  if (size_class.room == 0) return false;
  auto* block = static_cast<FreeBlock*>(memory);
  block->next = size_class.head;
  size_class.head = block;
  --size_class.room;
  return true;
}

}  // namespace

void* allocate_frame(std::size_t size) {
  const std::size_t index = class_of(size);
  if (!recycle || index >= class_count) return ::operator new(size);
  if (void* block = take(classes[index])) return block;
  return ::operator new(block_bytes(index));
}

void free_frame(void* block, std::size_t size) noexcept {
  const std::size_t index = class_of(size);
  if (recycle && index < class_count && keep(index, block)) return;
  ::operator delete(block);
}

}  // namespace pelton::detail
