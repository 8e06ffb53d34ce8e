// Recycled memory for coroutine frames and task records.
//
// A thread keeps freed blocks by size class and hands them out again, so that a server which
// creates a task per connection or awaits a coroutine per message allocates nothing in the long
// run. Blocks never move between threads, as loops do not. Under AddressSanitizer every block is
// a plain allocation, so that a use after free is seen.
//
// Neighbours: task.hpp and future.hpp allocate here.
#pragma once

#include <cstddef>

namespace pelton::detail {

/// Memory for `size` bytes, aligned for any type. \throws std::bad_alloc
[[nodiscard]] void* allocate_frame(std::size_t size);
/// Gives a block back. \param size the one it was allocated with.
void free_frame(void* block, std::size_t size) noexcept;

/// Base that takes its memory from the frame pool.
struct PooledMemory {
  static void* operator new(std::size_t size) { return allocate_frame(size); }
  static void operator delete(void* block, std::size_t size) noexcept { free_frame(block, size); }
};

}  // namespace pelton::detail
