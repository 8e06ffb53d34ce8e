// Seeds that failed once, in a file: "SEED SCENARIO", one a line; '#' begins a comment.
//
// Neighbours: main.cpp runs them first; seeds.txt is the file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pelton::sim {

struct StoredSeed {
  std::uint64_t number = 0;
  std::string scenario;

  bool operator==(const StoredSeed&) const = default;
};

/// Refuses a file that cannot be read, and a line that is none, naming it as FILE:LINE.
[[nodiscard]] std::vector<StoredSeed> read_stored(const std::string& path);
/// The line of a seed that failed for this reason.
[[nodiscard]] std::string stored_line(const StoredSeed& seed, const std::string& reason);
/// Adds a seed unless it is there.
void store(const std::string& path, const StoredSeed& seed, const std::string& reason);

}  // namespace pelton::sim
