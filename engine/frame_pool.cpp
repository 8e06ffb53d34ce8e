// The per-thread free lists of frame_pool.hpp.
#include <pelton/engine/frame_pool.hpp>

#include <array>
#include <cstdint>
#include <new>

#include <pelton/engine/assert.hpp>

namespace pelton::detail {
namespace {

#if defined(__SANITIZE_ADDRESS__)
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

constexpr std::size_t class_bytes = 64;
constexpr std::size_t class_count = 32;      // up to 2 KiB
constexpr std::uint32_t kept_per_class = 256;  // the rest goes back to the heap

struct FreeBlock {
  FreeBlock* next;
};

class FramePool {
 public:
  ~FramePool() {
    for (Class& size_class : classes_) {
      while (FreeBlock* block = size_class.head) {
        size_class.head = block->next;
        ::operator delete(block);
      }
    }
    alive_ = false;
  }

  void* take(std::size_t index) noexcept {
    FreeBlock* block = classes_[index].head;
    if (!block) return nullptr;
    classes_[index].head = block->next;
    --classes_[index].count;
    return block;
  }
  bool keep(std::size_t index, void* memory) noexcept {
    if (!alive_ || classes_[index].count >= kept_per_class) return false;
    auto* block = static_cast<FreeBlock*>(memory);
    block->next = classes_[index].head;
    classes_[index].head = block;
    ++classes_[index].count;
    return true;
  }

 private:
  struct Class {
    FreeBlock* head = nullptr;
    std::uint32_t count = 0;
  };
  std::array<Class, class_count> classes_{};
  bool alive_ = true;
};

thread_local FramePool pool;

}  // namespace

void* allocate_frame(std::size_t size) {
  const std::size_t index = (size + class_bytes - 1) / class_bytes;
  if (!recycle || index >= class_count) return ::operator new(size);
  if (void* block = pool.take(index)) return block;
  return ::operator new(index * class_bytes);
}

void free_frame(void* block, std::size_t size) noexcept {
  const std::size_t index = (size + class_bytes - 1) / class_bytes;
  if (recycle && index < class_count && pool.keep(index, block)) return;
  ::operator delete(block);
}

}  // namespace pelton::detail
