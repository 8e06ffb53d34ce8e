// What every fuzz target has in common: its entry, its input, its verdict.
//
// A target is one source that says PELTON_FUZZ_TARGET(name). Built with PELTON_BUILD_FUZZERS it is
// a program of its own, driven by libFuzzer; in every other build all targets are in one program,
// fuzz_replay, which runs the corpora as tests.
//
// Neighbours: replay.cpp, the main of that program; README.md beside this file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace pelton::fuzz {

/// Reads an input from its front. Behind its end everything is 0 and empty, so that any bytes are a
/// whole input.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) noexcept
      : rest_(reinterpret_cast<const char*>(data), size) {}

  [[nodiscard]] bool empty() const noexcept { return rest_.empty(); }
  [[nodiscard]] std::uint8_t byte() noexcept {
    if (rest_.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return value;
  }
  /// Two bytes, the low one first.
  [[nodiscard]] unsigned word() noexcept {
    const unsigned low = byte();
    return low + 256U * byte();
  }
  /// The next `size` bytes, or what is left.
  [[nodiscard]] std::string_view take(std::size_t size) noexcept {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  /// What stands before the next `end` byte, or all that is left; that byte is skipped.
  [[nodiscard]] std::string_view take_until(char end) noexcept {
    const std::size_t size = std::min(rest_.find(end), rest_.size());
    const std::string_view taken = take(size);
    static_cast<void>(take(1));
    return taken;
  }
  [[nodiscard]] std::string_view rest() noexcept { return take(rest_.size()); }

 private:
  std::string_view rest_;
};

/// Ends the process, which a fuzzer takes for a finding.
[[noreturn]] inline void fail(const std::string& text) {
  std::fprintf(stderr, "fuzz: %s\n", text.c_str());
  std::abort();
}
/// The same where `fact` is false. Where the text has to be put together, and often, ask first.
inline void require(bool fact, const char* text) {
  if (!fact) fail(text);
}

/// `text` for a message: bytes that are no letters as \xNN.
[[nodiscard]] inline std::string shown(std::string_view text) {
  std::string out = "'";
  for (const char character : text) {
    char hex[5];
    std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned>(character) & 255U);
    out += character >= ' ' && character < 0x7f ? std::string(1, character) : hex;
  }
  return out + "'";
}

using Run = void (*)(Input input);

/// A target as fuzz_replay knows it: linked into the list of all of them before main().
struct Target {
  Target(const char* target_name, Run target_run) noexcept
      : name(target_name), run(target_run), next(first) {
    first = this;
  }
  const char* name;
  Run run;
  const Target* next;
  inline static const Target* first = nullptr;
};

}  // namespace pelton::fuzz

// The body that follows is run with each `input`.
#ifdef PELTON_FUZZER
#define PELTON_FUZZ_TARGET(name)                                                      \
  static void run_##name(pelton::fuzz::Input input);                                  \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) { \
    run_##name(pelton::fuzz::Input(data, size));                                      \
    return 0;                                                                         \
  }                                                                                   \
  static void run_##name([[maybe_unused]] pelton::fuzz::Input input)
#else
#define PELTON_FUZZ_TARGET(name)                                      \
  static void run_##name(pelton::fuzz::Input input);                  \
  static const pelton::fuzz::Target target_##name(#name, run_##name); \
  static void run_##name([[maybe_unused]] pelton::fuzz::Input input)
#endif
