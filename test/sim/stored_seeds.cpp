// Reading and writing the stored seeds. See stored_seeds.hpp.
#include "sim/stored_seeds.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "sim/course.hpp"
#include "sim/options.hpp"

namespace pelton::sim {

std::vector<StoredSeed> read_stored(const std::string& path) {
  std::vector<StoredSeed> stored;
  std::ifstream file(path);
  if (!file) refuse("'" + path + "' cannot be read: give another with --stored, or --no-stored");
  unsigned number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    line.resize(std::min(line.find('#'), line.size()));
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    std::istringstream words(line);
    StoredSeed seed;
    std::string more;
    const bool is_seed = words >> seed.number >> seed.scenario && !(words >> more);
    if (!is_seed ||
        std::ranges::find(scenarios, seed.scenario, &ScenarioName::name) == std::end(scenarios)) {
      refuse(path + ":" + std::to_string(number) + ": '" + line +
             "' is not 'SEED SCENARIO': see pelton-sim --list for the scenarios");
    }
    stored.push_back(std::move(seed));
  }
  return stored;
}

std::string stored_line(const StoredSeed& seed, const std::string& reason) {
  return std::to_string(seed.number) + ' ' + seed.scenario + "  # " +
         reason.substr(0, reason.find('\n'));
}

void store(const std::string& path, const StoredSeed& seed, const std::string& reason) {
  const std::vector<StoredSeed> known = read_stored(path);
  if (std::ranges::find(known, seed) != known.end()) return;
  std::ofstream file(path, std::ios::app);
  file << stored_line(seed, reason) << '\n';
  if (!file.flush()) refuse("'" + path + "' cannot be written");
}

}  // namespace pelton::sim
