// Drawing knobs, and their texts. See knobs.hpp.
#include "sim/knobs.hpp"

namespace pelton::sim {
namespace {

struct Entry {
  const char* name;
  std::uint16_t most;
  const char* text;
};

constexpr std::array<Entry, Knobs::count> entries{{
#define PELTON_SIM_KNOB(name, most, text) {#name, most, text},
    PELTON_SIM_KNOBS(PELTON_SIM_KNOB)
#undef PELTON_SIM_KNOB
}};

}  // namespace

Knobs Knobs::draw(Random& random) noexcept {
  constexpr std::array<unsigned, 6> shares{0, 100, 250, 500, 500, 900};
  Knobs knobs;
  const unsigned share = shares[random.below(shares.size())];
  for (std::size_t index = 0; index < count; ++index) {
    if (!random.chance(share)) continue;
    knobs.weights_[index] = static_cast<std::uint16_t>(random.between(1, entries[index].most));
  }
  return knobs;
}

std::string Knobs::to_string() const {
  std::string text;
  for (std::size_t index = 0; index < count; ++index) {
    if (weights_[index] == 0) continue;
    if (!text.empty()) text += ' ';
    text += std::string(entries[index].name) + '=' + std::to_string(weights_[index]);
  }
  return text.empty() ? "none" : text;
}

std::string Knobs::describe_all() {
  std::string text;
  for (const Entry& entry : entries) {
    std::string line = "  " + std::string(entry.name);
    line.resize(24, ' ');
    text += line + entry.text + '\n';
  }
  return text;
}

}  // namespace pelton::sim
