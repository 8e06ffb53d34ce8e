// The allocator that fails. See allocations.hpp.
#include <faults/allocations.hpp>

#include <execinfo.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define PELTON_OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PELTON_OWN_MALLOC 0
#endif
#endif
#ifndef PELTON_OWN_MALLOC
#define PELTON_OWN_MALLOC 1
#endif

namespace pelton::faults {
namespace {

constexpr std::uint64_t failures_of_a_lasting_shortage = 64;

// Trivial, so that they may be touched before main() and after it.
constinit thread_local std::uint64_t countdown = 0;  ///< 0: nothing fails
constinit thread_local std::uint64_t failures_left = 0;
constinit thread_local bool failed = false;
constinit FailedAt* failed_at = nullptr;
constinit std::atomic<std::int64_t> blocks = 0;

/// \return true if this allocation is to fail.
bool fails() noexcept {
  if (countdown == 0 || --countdown > 0) return false;
  if (!failed && failed_at) failed_at->count = backtrace(failed_at->frames, FailedAt::frames_max);
  failed = true;
  if (--failures_left > 0) countdown = 1;
  errno = ENOMEM;
  return true;
}

void* counted(void* block) noexcept {
  if (block) blocks.fetch_add(1, std::memory_order_relaxed);
  return block;
}

void uncounted(const void* block) noexcept {
  if (block) blocks.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace

void fail_from(std::uint64_t n, Shortage shortage) noexcept {
  failed = false;
  failures_left = shortage == Shortage::once ? 1 : failures_of_a_lasting_shortage;
  countdown = n;
}

bool stop_failing() noexcept {
  countdown = 0;
  return failed;
}

std::int64_t live_blocks() noexcept { return blocks.load(std::memory_order_relaxed); }

void note_failure_in(FailedAt* place) noexcept {
  void* warm[1];
  static_cast<void>(backtrace(warm, 1));  // loads what it needs
  failed_at = place;
}

}  // namespace pelton::faults

using pelton::faults::counted;
using pelton::faults::fails;
using pelton::faults::uncounted;

#if PELTON_OWN_MALLOC
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* block, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* block);

void* malloc(std::size_t size) { return fails() ? nullptr : counted(__libc_malloc(size)); }
void* calloc(std::size_t count, std::size_t size) {
  return fails() ? nullptr : counted(__libc_calloc(count, size));
}
void* realloc(void* block, std::size_t size) {
  if (fails()) return nullptr;
  void* const grown = __libc_realloc(block, size);
  return block ? grown : counted(grown);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return fails() ? nullptr : counted(__libc_memalign(alignment, size));
}
void* memalign(std::size_t alignment, std::size_t size) { return aligned_alloc(alignment, size); }
int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  *block = aligned_alloc(alignment, size);
  return *block ? 0 : ENOMEM;
}
void free(void* block) {
  uncounted(block);
  __libc_free(block);
}
}
#else
void* operator new(std::size_t size) {
  void* const block = fails() ? nullptr : counted(std::malloc(size));
  if (!block) throw std::bad_alloc();
  return block;
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return fails() ? nullptr : counted(std::malloc(size));
}
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new[](std::size_t size, const std::nothrow_t& tag) noexcept {
  return operator new(size, tag);
}
void operator delete(void* block) noexcept {
  uncounted(block);
  std::free(block);
}
void operator delete(void* block, std::size_t) noexcept { operator delete(block); }
void operator delete[](void* block) noexcept { operator delete(block); }
void operator delete[](void* block, std::size_t) noexcept { operator delete(block); }
#endif
