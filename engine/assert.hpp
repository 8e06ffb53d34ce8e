// Assertions that stay on in every build.
//
// An assertion is for a bug of pelton's own: states, in-flight counts, buffer ownership. What a
// peer or the kernel does wrong is an error value, never an assertion. PELTON_ASSERT costs a
// compare and is kept in release builds; PELTON_DEBUG_ASSERT is for checks that are O(n).
#pragma once

namespace pelton::detail {

/// Prints `expression`, `file` and `line` on standard error and aborts the process.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;

}  // namespace pelton::detail

#define PELTON_ASSERT(expression)      \
  (__builtin_expect(!!(expression), 1) \
       ? static_cast<void>(0)          \
       : ::pelton::detail::assertion_failed(#expression, __FILE__, __LINE__))

#ifdef NDEBUG
#define PELTON_DEBUG_ASSERT(expression) static_cast<void>(0)
#else
#define PELTON_DEBUG_ASSERT(expression) PELTON_ASSERT(expression)
#endif
