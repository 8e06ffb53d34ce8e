// What both kinds of relay are asked to carry: bytes both ways at once.
//
// Neighbours: relay_test.cpp and relay_splice_test.cpp, whose fixtures have the two ends, `left`
// and `right` (support/peer.hpp), and `result()`.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <thread>

#include <pelton/stream/relay.hpp>

namespace pelton::test {

/// Sends `there` from left to right and `back` from right to left at once, each to its end, and
/// checks what arrives and what the relay says of it.
template <class Relayed>
void exchange(Relayed& relayed, const std::string& there, const std::string& back) {
  std::string received_right;
  std::string received_left;
  {
    const std::jthread left_sends([&] {
      relayed.left.send(there);
      relayed.left.end_writing();
    });
    const std::jthread right_sends([&] {
      relayed.right.send(back);
      relayed.right.end_writing();
    });
    const std::jthread right_reads([&] { received_right = relayed.right.receive_all(); });
    const std::jthread left_reads([&] { received_left = relayed.left.receive_all(); });
    const RelayResult result = relayed.result();
    CHECK(result.bytes_from_first == there.size());
    CHECK(result.bytes_from_second == back.size());
    CHECK_FALSE(result.error_first);
    CHECK_FALSE(result.error_second);
  }
  CHECK(received_right == there);
  CHECK(received_left == back);
}

}  // namespace pelton::test
