// fuzz_replay: runs every fuzz target over the inputs of its corpus, as a test.
//
//   fuzz_replay DIRECTORY            each target over the files of DIRECTORY/NAME
//   fuzz_replay --target NAME FILE   one input, as a fuzzer stored it
//
// Ends 0, 1 where a target has no inputs or a file cannot be read, 2 on bad usage; what an input
// finds ends the process with its own message. Neighbours: target.hpp.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <vector>

#include <fuzz/target.hpp>

namespace {

namespace fs = std::filesystem;
using pelton::fuzz::Target;

constexpr const char* usage =
    "usage: fuzz_replay DIRECTORY\n"
    "       fuzz_replay --target NAME FILE...\n"
    "\n"
    "Runs each fuzz target over the inputs in DIRECTORY/NAME, or one over single files.\n";

bool run_file(const Target& target, const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string data{std::istreambuf_iterator<char>(file), {}};
  if (!file) {
    std::fprintf(stderr, "fuzz_replay: cannot read %s\n", path.c_str());
    return false;
  }
  // In memory of exactly this size, so that a sanitizer sees a read behind it.
  const std::vector<std::uint8_t> exact(data.begin(), data.end());
  target.run(pelton::fuzz::Input(exact.data(), exact.size()));
  return true;
}

bool run_corpus(const Target& target, const fs::path& directory) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory / target.name, error)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  const bool read = std::all_of(files.begin(), files.end(), [&](const fs::path& path) {
    std::printf("%s %s\n", target.name, path.filename().c_str());
    std::fflush(stdout);  // what it finds ends the process
    return run_file(target, path);
  });
  std::printf("%s: %zu inputs\n", target.name, files.size());
  return read && !files.empty();
}

int run_all(const fs::path& directory) {
  bool good = Target::first != nullptr;
  for (const Target* target = Target::first; target; target = target->next) {
    good = run_corpus(*target, directory) && good;
  }
  if (!good) std::fprintf(stderr, "fuzz_replay: a target has no inputs, or one is unreadable\n");
  return good ? 0 : 1;
}

int run_files(const std::string& name, char** begin, char** end) {
  const Target* target = Target::first;
  while (target && target->name != name) target = target->next;
  if (!target) {
    std::fprintf(stderr, "fuzz_replay: there is no target '%s'\n", name.c_str());
    return 2;
  }
  const bool good = std::all_of(begin, end, [&](char* file) { return run_file(*target, file); });
  return good ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string first = count > 1 ? arguments[1] : "";
  if (first == "--help" || first == "-h") {
    std::fputs(usage, stdout);
    return 0;
  }
  if (first == "--target" && count > 3)
    return run_files(arguments[2], arguments + 3, arguments + count);
  if (count == 2 && !first.starts_with('-')) return run_all(first);
  std::fputs(usage, stderr);
  return 2;
}
