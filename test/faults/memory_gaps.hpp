// Where a failed allocation still ends the process or leaves something behind, by name.
//
// The list is kept exact: a site that is not here fails the tests, and so does an entry that none
// was found for. A site is the innermost function of pelton's below the allocation that failed.
#pragma once

#include <array>

namespace pelton::faults {

struct MemoryGap {
  const char* site;  ///< a part of the function's name
  const char* reason;
};

inline constexpr std::array<MemoryGap, 0> memory_gaps{};

}  // namespace pelton::faults
