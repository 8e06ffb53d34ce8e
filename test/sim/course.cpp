// The phases and the checks of every run. See course.hpp.
#include "sim/course.hpp"

#include <algorithm>

namespace pelton::sim {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr auto quiet_bound = std::chrono::seconds(30);
constexpr auto unobserved_time = std::chrono::seconds(25);
constexpr auto sleep_slack = milliseconds(100);
constexpr std::string_view unix_name{"\0pelton-sim", 11};  // abstract: there are no files
constexpr std::size_t gathered_bytes_most = 4096;  // of a chain's block, which is read as one piece

}  // namespace

// --- The phases ---

Task<> Course::run() {
  is_unix_ = world_.random.chance(200);
  begin();
  world_.check_invariants = [this] { check_invariants(); };
  world_.knobs = Knobs::draw(world_.random);
  world_.trace("knobs: %s", world_.knobs.to_string().c_str());
  if (world_.random.chance(250)) {
    world_.descriptors_most = static_cast<unsigned>(world_.random.between(2, 6));
  }
  abrupt_ = world_.random.chance(150);
  unobserved_ = world_.random.chance(500);
  const unsigned count = draw_clients();
  const bool at_once = count > clients_most || world_.random.chance(300);
  const Duration begin_of_clients = microseconds(at_once ? world_.random.scaled(16, 20'000) : 0);
  clients(count, begin_of_clients);
  if (at_once && count <= clients_most) loop_.create_task(finish_early(begin_of_clients));
  co_await meet_faults();
  if (abrupt_) co_return;
  world_.trace(unobserved_ ? "no more faults, and nobody looks" : "no more faults");
  world_.calm();
  world_.descriptors_most = 1000;
  if (unobserved_) {
    co_await come_to_end_unobserved();
  } else {
    co_await come_to_end();
  }
  if (loop_.operations_in_flight() > 1) {  // the mailbox listens to the end
    world_.fail("%zu operations are still in flight", loop_.operations_in_flight());
  }
}

Task<> Course::meet_faults() {
  const TimePoint calm_at = world_.time() + microseconds(world_.random.scaled(1000, 200'000));
  while (!over() && world_.time() < calm_at) {
    if (world_.strikes(Knob::program_cancels)) cancel_one();
    if (world_.strikes(Knob::program_aborts)) {
      for (const auto& connection : world_.connections()) connection->may_be_killed = true;
      end_clients();
    }
    co_await checked_sleep(microseconds(world_.random.between(0, 3000)));
  }
}

/// Looks in every few milliseconds: what ends ends soon.
Task<> Course::come_to_end() {
  const TimePoint deadline = world_.time() + quiet_bound;
  while (!over()) {
    if (world_.time() > deadline) fail_to_end("");
    co_await checked_sleep(milliseconds(5));
  }
  finish();
  while (!at_rest()) {
    if (world_.time() > deadline + quiet_bound) world_.fail("the program does not come to its end");
    co_await checked_sleep(milliseconds(5));
  }
  co_await sleep(milliseconds(20));
}

/// Nothing wakes the loop but what it waits for: what ends ends by itself.
Task<> Course::come_to_end_unobserved() {
  co_await sleep_unobserved();
  if (!over()) fail_to_end("unobserved, ");
  finish();
  co_await sleep_unobserved();
  if (!at_rest()) world_.fail("unobserved, the program does not come to its end");
}

void Course::fail_to_end(const char* how) {
  for (const auto& peer : peers_) {
    const auto& connection = peer->connection();
    if (peer->done() || !connection) continue;
    world_.fail(
        "%sconnections do not come to their end: of %u, whose peer has sent %llu bytes, "
        "received %llu, left %zu unread and %s the end",
        how, connection->id(), static_cast<unsigned long long>(peer->sent()),
        static_cast<unsigned long long>(peer->received()), connection->unread(Connection::peer),
        peer->saw_end() ? "saw" : "has not seen");
  }
  world_.fail("%sconnections do not come to their end: a peer never got one", how);
}

bool Course::over() const {
  return std::ranges::all_of(peers_, [](const auto& peer) { return peer->done(); });
}

/// True once nothing that was begun goes on.
bool Course::at_rest() const {
  const LoopStats& stats = loop_.stats();
  return settled() && over() && active_ + pings_ == 0 &&
         stats.connections_opened == stats.connections_closed;
}

/// Sleeps, and posts to itself as another thread would, and checks that both take their time.
Task<> Course::checked_sleep(Duration delay) {
  const TimePoint begin = world_.time();
  if (pings_ == 0) {
    post_ping();
  } else if (begin > pinged_at_ + sleep_slack) {
    world_.fail("a post from another thread does not arrive");
  }
  co_await sleep(delay);
  const Duration slept = world_.time() - begin;
  if (slept < delay) world_.fail("a sleep ended too early");
  if (slept > delay + sleep_slack) world_.fail("a sleep ended too late");
}

/// The same for a long time, in which the post comes just when the loop sleeps, or does not.
Task<> Course::sleep_unobserved() {
  if (pings_ == 0) {
    world_.after(microseconds(world_.random.scaled(1, 5'000'000)), [this] { post_ping(); });
  }
  const TimePoint begin = world_.time();
  co_await sleep(unobserved_time);
  const Duration slept = world_.time() - begin;
  if (slept < unobserved_time) world_.fail("a sleep ended too early");
  if (slept > unobserved_time + sleep_slack) world_.fail("a sleep ended too late");
  if (pings_ > 0) world_.fail("a post from another thread does not arrive");
}

void Course::post_ping() {
  ++pings_;
  pinged_at_ = world_.time();
  loop_.call_soon_threadsafe([this] {
    --pings_;
    if (world_.time() > pinged_at_ + sleep_slack) {
      world_.fail("a post from another thread arrived too late");
    }
  });
}

/// Ends the serving just when clients come.
Task<> Course::finish_early(Duration delay) {
  co_await sleep(delay + microseconds(world_.random.below(100)));
  finish();
}

/// \param crowd_at  Where positive: when all of them come; else they come one by one.
void Course::clients(unsigned count, Duration crowd_at) {
  for (unsigned number = 0; number < count; ++number) {
    Peer& peer = *peers_.emplace_back(std::make_unique<Peer>(world_, plan_client(number)));
    Duration delay = microseconds(world_.random.scaled(1, 20'000));
    if (crowd_at > Duration::zero()) delay = crowd_at + microseconds(world_.random.below(20));
    world_.after(delay, [this, &peer] { dial(peer); });
  }
}

void Course::dial(Peer& peer) {
  const std::shared_ptr<File> listener = world_.listener(is_unix_ ? World::unix_port : port);
  if (!listener) return peer.give_up();
  auto connection = connect_peer();
  listener->backlog.push_back(connection);
  peer.start(std::move(connection));
}

std::shared_ptr<Connection> Course::accept_upstream(const PeerPlan& plan) {
  Peer& peer = *peers_.emplace_back(std::make_unique<Peer>(world_, plan));
  auto connection = connect_peer();
  peer.start(connection);
  return connection;
}

std::shared_ptr<Connection> Course::connect_peer() {
  const std::size_t of_program = draw_window();
  const std::size_t of_peer = draw_window();
  using Kind = Connection::Kind;
  return world_.connect_pair(of_program, of_peer, is_unix_ ? Kind::unix_pair : Kind::distant);
}

Task<StreamPair> Course::connect_upstream(const ConnectOptions& options) {
  if (is_unix_) return open_unix_connection(std::string(unix_name), options);
  return open_connection("127.0.0.1", upstream_port, options);
}

OwnedFd Course::bound_socket() {
  auto socket = open_socket(is_unix_ ? AF_UNIX : AF_INET, SOCK_STREAM);
  const auto address =
      is_unix_ ? *SocketAddress::unix_path(unix_name) : SocketAddress::ipv4(in_addr{}, port);
  if (!socket || !bind_socket(socket->get(), address)) {
    world_.fail("no socket to listen on");
  }
  return std::move(*socket);
}

std::shared_ptr<Connection> Course::connection_of(const StreamWriter& writer) const {
  const ExtraInfo socket = writer.get_extra_info("socket");
  const int* const fd = std::get_if<int>(&socket);
  if (!fd) return nullptr;
  const std::shared_ptr<File> file = world_.file(*fd);
  return file ? file->connection : nullptr;
}

// --- The checks ---

void Course::check() {
  if (abrupt_) {  // closing the loop resets what is in progress
    world_.ends_abruptly = true;
    return;
  }
  for (const auto& peer : peers_) {
    const auto& connection = peer->connection();
    if (!connection || connection->killed_by_peer || connection->may_be_killed) continue;
    check_undisturbed(*peer);
  }
  const LoopStats& stats = loop_.stats();
  if (stats.impossible > 0) world_.fail("a completion fitted no operation");
  const BufferGroup& buffers = loop_.buffers();
  if (buffers.lent() > 0) world_.fail("%u buffers are still lent", buffers.lent());
  if (buffers.available() != buffers.count()) {
    world_.fail("of %u buffers %u are available", buffers.count(), buffers.available());
  }
}

void Course::check_invariants() {
  for (Watched* each : watched_) each->check();
  check_more();
}

Course::Watched::Watched(Course& course, const StreamReader& reader, const StreamWriter& writer)
    : course_(course),
      reader_(reader),
      transport_(&writer.transport()),
      protocol_(static_cast<StreamReaderProtocol*>(writer.transport().get_protocol())) {
  course_.watched_.push_back(this);
}

Course::Watched::~Watched() { std::erase(course_.watched_, this); }

/// After close(), abort() and errors there is nothing more to be read.
void Course::Watched::check_closing() {
  const std::size_t buffered = reader_.buffered();
  if (!buffered_at_close_) buffered_at_close_ = buffered;
  if (buffered > *buffered_at_close_) {
    course_.world_.fail("a reader is fed although its transport is closing");
  }
  buffered_at_close_ = buffered;
}

void Course::Watched::check() {
  World& world = course_.world_;
  if (transport_->is_closing()) return check_closing();
  const std::size_t unsent = transport_->get_write_buffer_size();
  const auto limits = transport_->get_write_buffer_limits();
  if (protocol_->writing_paused() && unsent <= limits.low) {
    world.fail("writing is paused at %zu bytes, low water is %zu", unsent, limits.low);
  }
  if (!protocol_->writing_paused() && unsent > limits.high) {
    world.fail("writing is not paused at %zu bytes, high water is %zu", unsent, limits.high);
  }
  const std::size_t piece_most =
      std::max(course_.loop_.buffers().buffer_bytes(), gathered_bytes_most);
  if (course_.write_most_ > 0 && unsent > limits.high + std::max(course_.write_most_, piece_most)) {
    world.fail("%zu bytes are unsent, high water is %zu", unsent, limits.high);
  }
  if (reader_.buffered() > std::max(2 * reader_.limit(), course_.read_most_) + piece_most) {
    world.fail("a reader of limit %zu has %zu bytes", reader_.limit(), reader_.buffered());
  }
  if (reader_.paused() && transport_->is_reading()) world.fail("a paused reader is fed");
}

}  // namespace pelton::sim
