// Canaries: deliberate bugs in pelton's sources, behind PELTON_CANARY(name), one on at a time.
//
// A simulator that does not catch them within a thousand seeds is blind. engine/simulation.hpp has
// the macro; what a canary does is said here and where it sits.
#pragma once

#include <string_view>

namespace pelton::sim {

struct Canary {
  std::string_view name;
  std::string_view text;
};

inline constexpr Canary canaries[] = {
    {"double_recycle", "an end of stream, which brings no buffer, gives buffer 0 back"},
};

}  // namespace pelton::sim
