// World: everything outside of pelton in a simulated run: clock, chance, events, descriptors.
//
// One World is one run of one seed on one thread. Nothing in it reads the real clock or the real
// kernel, so the same seed is the same run. Time passes only where the program enters the ring or
// sleeps, and leaps to the next event where it waits.
//
// Neighbours: net.hpp, the connections; sim_ring.hpp, the ring; system_calls.cpp, which sends the
// program's direct calls here; peers.hpp, who is at the other end. Owns all of the run's state.
#pragma once

#include <array>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <system_error>
#include <vector>

#include "sim/knobs.hpp"
#include "sim/net.hpp"
#include "sim/random.hpp"

namespace pelton::sim {

/// What a descriptor refers to: a connection's end, a listener, an event counter or a pipe's end.
struct File {
  enum class Kind : std::uint8_t { socket, event, pipe };
  Kind kind = Kind::socket;
  Connection::End end = Connection::program;
  int fd = -1;
  int family = 0;  ///< of a socket: AF_INET, AF_UNIX
  int flags = 0;   ///< O_NONBLOCK
  std::uint16_t port = 0;
  bool listening = false;
  bool used = false;  ///< an operation has named it
  bool shut = false;  ///< a listener that was shut down
  bool closed = false;
  bool resets_at_close = false;  ///< SO_LINGER of no seconds
  std::size_t low_water = 1;     ///< SO_RCVLOWAT
  std::deque<std::shared_ptr<Connection>> backlog;
  std::shared_ptr<Connection> connection;
  std::uint64_t events = 0;
  unsigned receives = 0;  ///< in flight
  unsigned sends = 0;
  unsigned others = 0;

  [[nodiscard]] unsigned in_flight() const noexcept { return receives + sends + others; }
  [[nodiscard]] bool readable() const noexcept { return connection && connection->readable(end); }
  [[nodiscard]] bool writable() const noexcept { return connection && connection->writable(end); }
  /// What poll(2) tells.
  [[nodiscard]] unsigned poll() const noexcept;
};

/// Counts of a run, or of many.
struct Totals {
  std::uint64_t completions = 0;
  std::uint64_t submissions = 0;
  std::uint64_t faults = 0;
  std::uint64_t connections = 0;
  std::uint64_t bytes = 0;  ///< that arrived at simulated peers
  std::uint64_t spins = 0;  ///< of loops before they would sleep
  std::uint64_t batch_waits = 0;

  static constexpr std::size_t count = 7;
  [[nodiscard]] static std::array<std::uint64_t Totals::*, count> members() noexcept {
    return {&Totals::completions, &Totals::submissions, &Totals::faults,     &Totals::connections,
            &Totals::bytes,       &Totals::spins,       &Totals::batch_waits};
  }
};

class World {
 public:
  static constexpr int fd_base = 1'000'000;  ///< real descriptors are below

  /// \param trace  Prints what happens to standard error.
  World(std::uint64_t seed, bool trace);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  /// The run that this thread is in, or null.
  inline static World* current = nullptr;

  // --- Chance ---
  Random random;
  Knobs knobs;
  Totals totals;
  /// Draws whether this fault happens here and now.
  [[nodiscard]] bool strikes(Knob knob) noexcept {
    const bool struck = random.chance(knobs.weight(knob));
    totals.faults += struck;
    return struck;
  }
  /// No more faults from here on.
  void calm() noexcept {
    knobs = Knobs();
    calm_ = true;
  }
  [[nodiscard]] bool is_calm() const noexcept { return calm_; }
  /// Something happened on which the program may act.
  void note_progress() noexcept { ++progress_; }
  [[nodiscard]] std::uint64_t progress() const noexcept { return progress_ + totals.faults; }

  // --- Time ---
  [[nodiscard]] TimePoint now() noexcept;
  /// The clock without the guard against endless turns.
  [[nodiscard]] TimePoint time() const noexcept { return now_; }
  void after(Duration delay, std::function<void()> event);
  /// Advances the clock, and runs what was due until then.
  void advance_to(TimePoint when);
  /// The same while the program works, or spins: its CPU time passes, too.
  void work_until(TimePoint when);
  [[nodiscard]] Duration cpu_time() const noexcept { return cpu_time_; }
  [[nodiscard]] TimePoint next_event() const noexcept {
    return events_.empty() ? TimePoint::max() : events_.top().at;
  }

  // --- Descriptors ---
  /// \return the descriptor, or -EMFILE.
  [[nodiscard]] int add_file(std::shared_ptr<File> file);
  [[nodiscard]] std::shared_ptr<File> file(int fd) const noexcept;
  /// The file of a descriptor that must be open.
  [[nodiscard]] File& open_file(int fd, const char* call);
  void close(int fd);
  /// The last operation on a descriptor that is closed has ended: only now its socket is closed.
  void release(File& file);
  /// A connected pair of descriptors on this machine. \return 0 or an errno, negated.
  [[nodiscard]] int open_pair(File::Kind kind, Connection::Kind how, int flags, int* fds);
  /// True while the rules that pelton keeps are checked; else what breaks them is answered as the
  /// kernel does it.
  bool checks_program = true;
  [[nodiscard]] std::size_t open_files() const noexcept { return open_; }
  [[nodiscard]] static bool is_simulated(int fd) noexcept { return fd >= fd_base; }
  unsigned descriptors_most = 1000;
  static constexpr std::uint16_t unix_port = 1;  ///< stands for the name of a unix socket
  std::uint16_t next_port = 40'000;              ///< for who asks for any
  bool crowded = false;                          ///< a crowd of clients, and room for it
  bool ends_abruptly = false;  ///< the loop closes amid all: that resets also who comes meanwhile
  bool lowest_first = true;    ///< else the one closed last

  // --- Connections ---
  std::shared_ptr<Connection> connect_pair(std::size_t room_of_program, std::size_t room_of_peer,
                                           Connection::Kind kind = Connection::Kind::distant);
  /// Connects a socket of the program's to a listener of its own, where `upstream` is not asked.
  /// \return 0 or an errno, negated.
  [[nodiscard]] int connect_here(File& socket, int family, std::uint16_t at_port);
  /// Takes who waits for a listener. \return the descriptor or an errno, negated.
  [[nodiscard]] int accept_from(File& listener, int flags);
  [[nodiscard]] const std::vector<std::shared_ptr<Connection>>& connections() const noexcept {
    return connections_;
  }
  /// The listener on this port, or null.
  [[nodiscard]] std::shared_ptr<File> listener(std::uint16_t port) const noexcept;
  /// True if any is.
  [[nodiscard]] bool listens() const noexcept;
  /// What answers the program's connects: null looks for a listener, and refuses without one.
  std::function<std::shared_ptr<Connection>()> upstream;
  /// A connect is made to fail with this errno.
  int fail_connect(int error);
  /// A connect of the program's has failed: it must have been made to, with this error.
  void expect_connect_error(const std::error_code& error);
  /// What the scenario checks whenever the program enters the ring.
  std::function<void()> check_invariants;

  // --- Telling ---
  /// The run has failed: says why and ends the process.
  [[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 2, 3)));
  [[nodiscard]] bool tracing() const noexcept { return trace_; }
  void trace(const char* format, ...) __attribute__((format(printf, 2, 3)));
  /// After the loop is gone: what must be true of every run.
  void check_end();

  static constexpr int failed_exit_code = 1;

 private:
  struct Event {
    TimePoint at;
    std::uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const noexcept {  // the top is what comes first
      return at != other.at ? at > other.at : order > other.order;
    }
  };

  std::uint64_t seed_;
  bool trace_;
  bool calm_ = false;
  std::vector<int> connect_errors_;  ///< brought about, and not heard of
  Duration cpu_time_{};
  TimePoint now_{std::chrono::seconds(1000)};
  std::uint64_t progress_ = 0;
  std::uint64_t looks_at_clock_ = 0;  ///< since time last passed
  std::uint64_t next_order_ = 0;
  std::priority_queue<Event> events_;
  std::vector<std::shared_ptr<File>> files_;
  std::vector<std::size_t> free_;
  std::size_t open_ = 0;
  std::vector<std::shared_ptr<Connection>> connections_;
};

}  // namespace pelton::sim
