// What a loop is made with, and what it counts.
//
// Plain values, no behaviour but parsing and adding. Neighbours: loop.hpp.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pelton {

/// Which ring carries out a loop's I/O.
struct Engine {
  enum class Kind : std::uint8_t {
    automatic,  ///< what the environment variable PELTON_ENGINE says, else io_uring, else epoll
    uring,      ///< io_uring, or RingUnavailable
    epoll,
  };
  Kind kind = Kind::automatic;

  /// Reads "auto", "uring" or "epoll". \throws ValueError naming the text and what is accepted.
  [[nodiscard]] static Engine parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
};

/// Whether a loop spins for a while before it sleeps. Spinning saves the sleep and the wake-up.
struct BusyPoll {
  enum class Mode : std::uint8_t {
    off,        ///< sleep at once
    always,     ///< spin for `window` before each sleep
    automatic,  ///< spin only while that pays: see spin_policy.hpp
  };
  Mode mode = Mode::automatic;
  std::chrono::microseconds window{20};

  /// Reads "auto", "off" or a number of microseconds, 1..10000.
  /// \throws ValueError naming the text and what is accepted.
  [[nodiscard]] static BusyPoll parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
};

/// Whether a loop that falls asleep may be woken by a batch of completions instead of the first.
/// That saves wake-ups, its own and its peers', where a crowd is served, and may hold a completion
/// up by 100 us each time.
enum class BatchWait : std::uint8_t {
  off,
  automatic,  ///< only while a crowd keeps the loop busy: see batch_policy.hpp
};
/// Reads "auto" or "off". \throws ValueError naming the text and what is accepted.
[[nodiscard]] BatchWait parse_batch_wait(std::string_view text);
[[nodiscard]] const char* to_string(BatchWait mode) noexcept;

/// Sizes and budgets of a loop.
struct LoopOptions {
  unsigned sq_entries = 512;             ///< submission queue, rounded up to a power of two
  unsigned cq_entries = 8192;            ///< completion queue
  unsigned buffer_count = 512;           ///< receive buffers, rounded up to a power of two
  std::size_t buffer_bytes = 16 * 1024;  ///< of each receive buffer
  unsigned completions_per_turn = 64;    ///< CQEs that one turn completes at most
  BusyPoll busy_poll{};
  BatchWait batch_wait = BatchWait::automatic;
  Engine engine{};
  /// An io_uring that refuses every operation that pelton does not use, such as opening files: who
  /// takes the process over does not get them through this ring (a seccomp filter can forbid to
  /// make another). Where epoll takes its place there is no ring, and a warning.
  bool restrict_ring = false;
};

/// What a loop did. Every test of the engine's behaviour under stress asserts on these.
struct LoopStats {
  std::uint64_t turns = 0;
  std::uint64_t enters = 0;          ///< system calls into the ring
  std::uint64_t submitted = 0;       ///< SQEs, cancel requests included
  std::uint64_t completions = 0;     ///< CQEs
  std::uint64_t recv_submitted = 0;  ///< receives armed
  std::uint64_t send_submitted = 0;
  std::uint64_t accept_submitted = 0;
  std::uint64_t cancel_submitted = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t enobufs = 0;                ///< receives that found the buffer group empty
  std::uint64_t parks = 0;                  ///< receives that waited for a buffer
  std::uint64_t copied_under_pressure = 0;  ///< bytes copied to give buffers back early
  std::uint64_t sq_full = 0;                ///< operations that waited for a submission slot
  std::uint64_t cq_overflows = 0;           ///< turns that found the completion queue overflown
  std::uint64_t enter_again = 0;            ///< enters that were refused with EAGAIN or EBUSY
  std::uint64_t no_memory = 0;              ///< operations retried after ENOMEM
  std::uint64_t impossible = 0;             ///< completions that fit no operation
  std::uint64_t accepted = 0;               ///< connections taken from listeners
  std::uint64_t accept_pauses = 0;          ///< times that accepting stopped for want of resources
  std::uint64_t connections_opened = 0;     ///< transports made
  std::uint64_t connections_closed = 0;     ///< transports whose fd is closed
  std::uint64_t spins = 0;                  ///< busy polls
  std::uint64_t spin_hits = 0;              ///< busy polls that saw a completion
  std::uint64_t batch_waits = 0;            ///< sleeps that waited for a batch
  std::uint64_t splices = 0;                ///< directions that splice(2) took over
  std::uint64_t bytes_spliced = 0;          ///< of those received and sent

  LoopStats& operator+=(const LoopStats& other) noexcept;
  /// "turns=1 enters=2 ...", every counter in the order above.
  [[nodiscard]] std::string to_string() const;
};

}  // namespace pelton
