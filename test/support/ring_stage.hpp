// Scripts for rings: what is submitted, what the world does meanwhile, and the CQEs that follow,
// written down as text so that one expectation fits every ring.
//
// A completion is told as "USER_DATA:RESULT", with "+" behind it where more will come, and with
// "[BYTES]" where it carries a buffer, which is given back at once. Neighbours: ring_script.hpp for
// single steps; ring_conformance_test and ring_conformance_sockets_test are the scripts.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <pelton/engine/buffers.hpp>
#include <pelton/engine/socket.hpp>
#include <pelton/engine/sqe.hpp>
#include <support/ring_script.hpp>

namespace pelton::test {

using Trace = std::vector<std::string>;

/// A connected pair of sockets: the ring's end and the world's.
struct StreamEnds {
  OwnedFd ours;
  OwnedFd theirs;

  static StreamEnds unix_pair() {
    auto made = socket_pair();
    REQUIRE(made);
    return {std::move(made->first), std::move(made->second)};
  }
  void send(std::string_view text, int flags = 0) const {
    REQUIRE(::send(theirs.get(), text.data(), text.size(), MSG_NOSIGNAL | flags) ==
            static_cast<ssize_t>(text.size()));
  }
  /// What has arrived at the world's end.
  [[nodiscard]] std::string receive() const {
    std::string text;
    char piece[4096];
    for (;;) {
      const ssize_t count = ::recv(theirs.get(), piece, sizeof piece, MSG_DONTWAIT);
      if (count <= 0) return text;
      text.append(piece, static_cast<std::size_t>(count));
    }
  }
};

/// One ring on which a script runs.
class Stage {
 public:
  static constexpr std::uint16_t group_id = 1;

  explicit Stage(std::unique_ptr<Ring> ring_of_this) : ring(std::move(ring_of_this)) {}

  /// The next SQE.
  io_uring_sqe& sqe(std::uint64_t user_data) { return next_sqe(*ring, user_data); }
  /// Offers buffers of 64 bytes.
  void offer_buffers(unsigned count) {
    auto made =
        BufferGroup::make(*ring, {.id = group_id, .count = count, .buffer_bytes = buffer_bytes});
    REQUIRE(made);
    buffers = std::move(*made);
  }
  void receive(std::uint64_t user_data, int fd, unsigned pass = 0, unsigned total = 0) {
    sqe::recv_multishot(sqe(user_data), fd, group_id, pass, total);
  }
  void cancel(std::uint64_t user_data, std::uint64_t target) {
    sqe::cancel(sqe(user_data), target);
  }
  /// Writes down the next `count` completions.
  void hear(unsigned count) { note(collect(*ring, count)); }
  /// The same, in the order of their texts: where the kernel promises none.
  void hear_in_any_order(unsigned count) {
    const std::size_t before = trace.size();
    hear(count);
    std::sort(trace.begin() + static_cast<std::ptrdiff_t>(before), trace.end());
  }
  /// Submits, and writes down what is there without waiting, or "-".
  void hear_now() {
    const Completions now = collect_now(*ring);
    if (now.empty()) trace.emplace_back("-");
    note(now);
  }
  void say(std::string text) { trace.push_back(std::move(text)); }
  /// Waits for so long. \return true if nothing completed. The end of another ring of the process
  /// may interrupt a wait.
  [[nodiscard]] bool is_quiet(std::chrono::nanoseconds time) {
    const auto until = std::chrono::steady_clock::now() + time;
    for (;;) {
      const auto left = until - std::chrono::steady_clock::now();
      if (left <= time.zero()) return true;
      const int result = ring->enter(1, left);
      if (ring->ready() > 0 || (result != -ETIME && result != -EINTR && result != 0)) return false;
    }
  }

  std::unique_ptr<Ring> ring;
  BufferGroup::Owner buffers;
  Trace trace;
  /// How a result is told; files and sizes are whatever they are.
  std::function<std::string(int)> tell = [](int res) { return std::to_string(res); };

 private:
  static constexpr std::size_t buffer_bytes = 64;

  void note(const Completions& completions) {
    for (const Completion& each : completions) {
      std::string text = std::to_string(each.user_data) + ":" + tell(each.res);
      if (each.more()) text += "+";
      if (each.has_buffer()) {
        const Lease lease = buffers->take(each.buffer_id(), static_cast<std::size_t>(each.res));
        text += "[" +
                std::string(reinterpret_cast<const char*>(lease.span().data()), lease.size()) + "]";
      }
      trace.push_back(std::move(text));
    }
    if (buffers) buffers->commit();
  }
};

/// Why a script does not run on the simulation, test/sim: empty where it does.
struct NotSimulated {
  std::string_view reason = {};
};

/// Runs `script` on each ring that this program has; each must tell `expected`. A test binary of
/// the engine has those that the host allows (ring_stage.cpp), test/sim has its own.
void agree(const std::function<void(Stage&)>& script, const Trace& expected,
           const RingOptions& size = {.sq_entries = 32, .cq_entries = 256},
           NotSimulated not_simulated = {});
/// The same for a script that asks more of the world than the simulation has.
inline void agree(const std::function<void(Stage&)>& script, const Trace& expected,
                  NotSimulated not_simulated) {
  agree(script, expected, {.sq_entries = 32, .cq_entries = 256}, not_simulated);
}

/// What a script expects of an operation that fails: "USER_DATA:ERRNO".
[[nodiscard]] inline std::string code(std::uint64_t user_data, int error) {
  return std::to_string(user_data) + ":" + std::to_string(-error);
}

}  // namespace pelton::test

namespace doctest {
template <>
struct StringMaker<pelton::test::Trace> {
  static String convert(const pelton::test::Trace& trace) {
    std::string text;
    for (const std::string& line : trace) text += (text.empty() ? "" : " | ") + line;
    return text.c_str();
  }
};
}  // namespace doctest
