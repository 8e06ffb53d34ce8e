// Making a pattern, and saying where data departs from it. See pattern.hpp.
#include "perf/bench/pattern.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <random>

namespace pelton::bench {
namespace {

constexpr std::size_t random_period = 65521;  // a prime, as is 65519
constexpr std::size_t run_bytes_min = 64 * 1024;
constexpr std::size_t run_bytes_max = 1024 * 1024;
constexpr std::size_t shown_bytes = 8;

/// The least prime of these that reaches `count`: so many lines make the circle.
std::size_t line_count_for(std::size_t count) {
  constexpr std::array<std::size_t, 9> primes{3, 13, 61, 251, 1021, 4093, 16381, 32749, 65521};
  const auto found = std::ranges::lower_bound(primes, count);
  return found == primes.end() ? primes.back() : *found;
}

}  // namespace

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    char digits[8];
    std::snprintf(digits, sizeof digits, "%s%02x", text.empty() ? "" : " ",
                  static_cast<unsigned>(static_cast<unsigned char>(byte)));
    text += digits;
  }
  return text;
}

Pattern::Pattern(std::string circle, std::size_t unit, std::size_t run_bytes)
    : memory_(std::move(circle)), period_(memory_.size()), unit_(unit) {
  // A piece that begins anywhere in the circle has so much room before the memory ends.
  const std::size_t more = std::clamp(run_bytes, run_bytes_min, run_bytes_max);
  memory_.reserve(period_ + more);
  while (memory_.size() < period_ + more) {
    memory_.append(memory_, 0, std::min(period_, period_ + more - memory_.size()));
  }
}

Pattern Pattern::bytes(std::size_t run_bytes) {
  std::mt19937 random(1);  // NOLINT: the same bytes in every run
  std::string circle(run_bytes % random_period == 0 ? random_period - 2 : random_period, '\0');
  for (char& byte : circle) byte = static_cast<char>(random() >> 24);
  return Pattern(std::move(circle), 1, run_bytes);
}

Pattern Pattern::lines(std::size_t line_bytes) {
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  static_assert(alphabet.size() == 64);
  std::mt19937 random(1);  // NOLINT: the same lines in every run
  std::string circle(line_count_for(random_period / line_bytes) * line_bytes, '\n');
  for (std::size_t index = 0; index < circle.size(); ++index) {
    if ((index + 1) % line_bytes != 0) circle[index] = alphabet[random() >> 26];
  }
  return Pattern(std::move(circle), line_bytes, line_bytes);
}

Pattern Pattern::repeated(std::string_view message) {
  return Pattern(std::string(message), message.size(), message.size());
}

std::optional<Difference> Pattern::difference(std::size_t position, std::string_view data) const {
  for (std::size_t offset = 0; offset < data.size(); ++offset) {
    if (memory_[position] != data[offset]) {
      Difference found{offset, std::string(at(position, shown_bytes)),
                       std::string(data.substr(offset, shown_bytes))};
      return found;
    }
    position = after(position, 1);
  }
  return {};
}

}  // namespace pelton::bench
