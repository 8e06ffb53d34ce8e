// Course: what the scenarios share. Simulated clients, the two phases, the checks of every run.
//
// A run has a phase in which the drawn faults strike and a quiet one, at whose end, within a bound
// of simulated time, every connection must have come to its end. In half the runs nobody looks in
// meanwhile, which would wake the loop. Undisturbed connections must have carried every byte.
//
// Neighbours: scenario_*.cpp derive from it; peers.hpp, world.hpp. Owns the peers of the run.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <pelton/stream.hpp>

#include "sim/peers.hpp"
#include "sim/world.hpp"

namespace pelton::sim {

class Course {
 public:
  static constexpr std::uint16_t port = 7;
  static constexpr std::uint16_t upstream_port = 8;
  static constexpr unsigned clients_most = 6;

  Course(World& world, Loop& loop) : world_(world), loop_(loop) {}
  virtual ~Course() = default;
  Course(const Course&) = delete;
  Course& operator=(const Course&) = delete;

  /// The run, to its end: to be run on the loop.
  Task<> run();
  /// After run(): exactness, and what the scenario adds to it.
  virtual void check();

 protected:
  /// Begins to serve, or to connect. Faults do not strike yet.
  virtual void begin() = 0;
  /// Ends what begin() began. Connections may still be open.
  virtual void finish() {}
  /// Closes or aborts every connection of a server.
  virtual void end_clients() {}
  /// Cancels a task, which may break a connection or not.
  virtual void cancel_one() {}
  /// True once nothing of the program's is left to be waited for, its peers apart.
  [[nodiscard]] virtual bool settled() const = 0;
  /// What a client of this scenario sends, and expects.
  [[nodiscard]] virtual PeerPlan plan_client(unsigned number) = 0;
  /// What the connection's peer must have received if nothing disturbed it.
  virtual void check_undisturbed(const Peer& peer) = 0;
  /// At each enter, beside the streams that are watched.
  virtual void check_more() {}

  /// How many clients come. More than clients_most are a crowd, that comes at once and is served.
  [[nodiscard]] virtual unsigned draw_clients() {
    return static_cast<unsigned>(world_.random.between(1, clients_most));
  }
  /// True in a quiet phase in which nothing but the connections themselves may wake the loop.
  [[nodiscard]] bool nobody_looks() const noexcept { return unobserved_ && world_.is_calm(); }

  /// Connects to the upstream, as a scenario has it.
  [[nodiscard]] Task<StreamPair> connect_upstream(const ConnectOptions& options);
  /// A bound socket for a server.
  [[nodiscard]] OwnedFd bound_socket();
  /// A connection that the program asked for has come to the upstream.
  std::shared_ptr<Connection> accept_upstream(const PeerPlan& plan);
  /// The connection of this writer's socket.
  [[nodiscard]] std::shared_ptr<Connection> connection_of(const StreamWriter& writer) const;
  [[nodiscard]] std::size_t draw_window() {
    return static_cast<std::size_t>(world_.random.scaled(64, 16384));
  }
  /// A high-water mark: like a limit, or 0.
  [[nodiscard]] std::size_t draw_high_water() {
    return world_.random.chance(100) ? 0 : draw_limit();
  }
  [[nodiscard]] std::size_t draw_limit() {
    return static_cast<std::size_t>(world_.random.scaled(32, 16384));
  }
  void clients(unsigned count, Duration crowd_at);

  /// While it lives, the streams of a connection are checked at each enter.
  class Watched {
   public:
    Watched(Course& course, const StreamReader& reader, const StreamWriter& writer);
    ~Watched();
    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;
    void check();

   private:
    void check_closing();

    Course& course_;
    StreamReader reader_;
    Ref<Transport> transport_;
    Ref<StreamReaderProtocol> protocol_;
    std::optional<std::size_t> buffered_at_close_;
  };

  /// While it lives, the course is not at rest: for coroutines.
  class Active {
   public:
    explicit Active(Course& course) noexcept : count_(course.active_) { ++count_; }
    ~Active() { --count_; }
    Active(const Active&) = delete;
    Active& operator=(const Active&) = delete;

   private:
    unsigned& count_;
  };

  World& world_;
  Loop& loop_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::size_t write_most_ = 0;  ///< bytes that are written before a drain; 0: not checked
  std::size_t read_most_ = 0;   ///< bytes that one read waits for, whatever the limit
  bool abrupt_ = false;         ///< the loop is closed with work in progress
  bool is_unix_ = false;        ///< all connections are on unix sockets
  bool unobserved_ = false;     ///< nobody looks in while the run is quiet

 private:
  void dial(Peer& peer);
  [[nodiscard]] std::shared_ptr<Connection> connect_peer();
  void check_invariants();
  Task<> meet_faults();
  Task<> come_to_end();
  Task<> come_to_end_unobserved();
  Task<> finish_early(Duration delay);
  Task<> checked_sleep(Duration delay);
  Task<> sleep_unobserved();
  void post_ping();
  [[noreturn]] void fail_to_end(const char* how);
  [[nodiscard]] bool over() const;
  [[nodiscard]] bool at_rest() const;

  std::vector<Watched*> watched_;
  unsigned active_ = 0;
  unsigned pings_ = 0;     ///< posted through the mailbox and not arrived
  TimePoint pinged_at_{};  ///< when the last of them was posted
};

using MakeCourse = std::unique_ptr<Course> (*)(World&, Loop&);

std::unique_ptr<Course> make_echo(World& world, Loop& loop);
std::unique_ptr<Course> make_relay(World& world, Loop& loop);
std::unique_ptr<Course> make_mix(World& world, Loop& loop);
std::unique_ptr<Course> make_transport(World& world, Loop& loop);

struct ScenarioName {
  std::string_view name;
  MakeCourse make;
  std::string_view text;
};
inline constexpr ScenarioName scenarios[] = {
    {"echo", make_echo, "an echo server and its clients"},
    {"relay", make_relay, "a proxy between clients and an upstream"},
    {"mix", make_mix, "reads, writes, drains and cancels of every kind, served and connected"},
    {"transport", make_transport, "transports below the streams, and the protocol's contract"},
};

}  // namespace pelton::sim
