// The pattern of pelton-bench: what it sends, and which wrong answers it finds out.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "perf/bench/pattern.hpp"

namespace {

using pelton::bench::Pattern;

/// `size` bytes of the stream from `position` on, as a connection would send them.
std::string stream(const Pattern& pattern, std::size_t position, std::size_t size) {
  std::string bytes;
  while (bytes.size() < size) {
    const std::string_view piece = pattern.at(position, size - bytes.size());
    bytes += piece;
    position = pattern.after(position, piece.size());
  }
  return bytes;
}

TEST_CASE("what was sent compares equal, in whatever pieces it comes back") {
  for (const Pattern& pattern :
       {Pattern::bytes(64), Pattern::lines(100), Pattern::repeated("ab")}) {
    const std::size_t start = pattern.start_of(5);
    const std::string sent = stream(pattern, start, 400'000);
    CHECK(pattern.matches(start, sent));
    std::size_t position = start;
    for (std::size_t at = 0, size = 1; at < sent.size(); at += size, size = size * 3 % 20'011) {
      const std::string_view piece = std::string_view(sent).substr(at, size);
      CHECK(pattern.matches(position, piece));
      position = pattern.after(position, piece.size());
    }
  }
}

TEST_CASE("one wrong byte is found where it is") {
  const Pattern pattern = Pattern::bytes(64);
  std::string data = stream(pattern, 10, 200'000);
  const char right = data[150'000];
  data[150'000] = static_cast<char>(right ^ 1);
  CHECK_FALSE(pattern.matches(10, data));
  const auto difference = pattern.difference(10, data);
  REQUIRE(difference);
  CHECK(difference->offset == 150'000);
  CHECK(difference->expected.front() == right);
  CHECK(difference->got.front() == data[150'000]);
  CHECK(difference->got.size() == 8);
}

TEST_CASE("equal data has no difference") {
  const Pattern pattern = Pattern::bytes(64);
  CHECK_FALSE(pattern.difference(7, stream(pattern, 7, 100'000)));
}

TEST_CASE("a message lost, doubled or of another connection does not compare equal") {
  for (const std::size_t size : {std::size_t{16}, std::size_t{64}, std::size_t{65521}}) {
    const Pattern pattern = Pattern::bytes(size);
    const std::size_t start = pattern.start_of(1);
    const std::string sent = stream(pattern, start, 3 * size);
    CHECK_FALSE(pattern.matches(start, sent.substr(size)));
    CHECK_FALSE(pattern.matches(pattern.after(start, size), sent));
    CHECK_FALSE(pattern.matches(pattern.start_of(2), sent));
  }
}

TEST_CASE("lines have their length and end, and differ from each other") {
  for (const std::size_t size : {std::size_t{2}, std::size_t{100}, std::size_t{70'000}}) {
    const Pattern pattern = Pattern::lines(size);
    const std::size_t start = pattern.start_of(3);
    const std::string sent = stream(pattern, start, 3 * size);
    for (std::size_t index = 0; index < sent.size(); ++index) {
      if ((sent[index] == '\n') != ((index + 1) % size == 0)) FAIL("newline misplaced");
    }
    if (size > 2) CHECK(sent.substr(0, size) != sent.substr(size, size));
  }
}

}  // namespace
