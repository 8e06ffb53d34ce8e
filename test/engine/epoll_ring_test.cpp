// The ring over epoll: what is its own, and would be seen by no script that fits every ring.
//
// Events that nobody waits for, registrations that outlive an operation, connects that no event can
// wait for, many operations at once. Neighbours: engine/epoll_ring.hpp; what any ring must answer
// is in ring_conformance_test, which one is taken in ring_choice_test.
#include <pelton/engine/epoll_ring.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include <support/ring_stage.hpp>
#include <support/sockets.hpp>

using pelton::make_epoll_ring;
using pelton::OwnedFd;
using pelton::Ring;
using pelton::SocketAddress;
using pelton::test::collect;
using pelton::test::collect_now;
using pelton::test::FullListener;
using pelton::test::must;
using pelton::test::next_sqe;
using pelton::test::Stage;
using pelton::test::StreamEnds;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace sqe = pelton::sqe;

namespace {

using Trace = pelton::test::Trace;

Stage stage() { return Stage(make_epoll_ring({.sq_entries = 64, .cq_entries = 256})); }

/// CPU time of this thread in the kernel and out of it.
std::chrono::microseconds cpu_time() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  const auto time = [](const timeval& value) {
    return std::chrono::seconds(value.tv_sec) + std::chrono::microseconds(value.tv_usec);
  };
  return time(usage.ru_utime) + time(usage.ru_stime);
}

}  // namespace

TEST_CASE("epoll: a ring tells what it is and what it lacks") {
  const auto ring = make_epoll_ring({.sq_entries = 100, .cq_entries = 1000});
  const pelton::RingInfo& info = ring->info();
  CHECK(info.name == "epoll");
  CHECK(info.sq_entries == 128);
  CHECK(info.cq_entries == 1024);
  CHECK(info.recv_caps);
  CHECK_FALSE(info.taskrun_flag);
  CHECK_FALSE(info.bounded_batches);
  CHECK_FALSE(info.registered_ring_fd);
  REQUIRE(info.turned_down.size() == 1);
  CHECK(info.turned_down[0].starts_with("bounded_batches: "));
  CHECK(ring->ready() == 0);
  CHECK(ring->unsubmitted() == 0);
  CHECK_FALSE(ring->has_work());
  CHECK(make_epoll_ring({.sq_entries = 0, .cq_entries = 0})->info().sq_entries == 1);
  CHECK(make_epoll_ring({.sq_entries = 64, .cq_entries = 1})->info().cq_entries == 64);
}

TEST_CASE("epoll: a buffer group is registered once, with a size that is a power of two") {
  const auto ring = make_epoll_ring({});
  alignas(4096) static std::byte memory[4096];
  CHECK(ring->register_buffer_ring(1, memory, 3).error() == pelton::errno_code(EINVAL));
  CHECK(ring->register_buffer_ring(1, memory, 0).error() == pelton::errno_code(EINVAL));
  CHECK(ring->register_buffer_ring(1, memory, 65536).error() == pelton::errno_code(EINVAL));
  CHECK(ring->register_buffer_ring(1, memory, 4));
  CHECK(ring->register_buffer_ring(1, memory, 4).error() == pelton::errno_code(EEXIST));
  CHECK(ring->register_buffer_ring(2, memory, 4));
  ring->unregister_buffer_ring(1);
  CHECK(ring->register_buffer_ring(1, memory, 4));
}

TEST_CASE("epoll: there may be work while an operation is under way, and none without") {
  Stage on = stage();
  const StreamEnds ends = StreamEnds::unix_pair();
  sqe::poll(on.sqe(1), ends.ours.get(), POLLIN);
  on.hear_now();
  CHECK(on.ring->has_work());
  on.cancel(2, 1);
  on.hear(2);
  CHECK_FALSE(on.ring->has_work());
}

TEST_CASE("epoll: data that nobody receives wakes nobody, however much of it comes") {
  Stage on = stage();
  on.offer_buffers(8);
  const StreamEnds ends = StreamEnds::unix_pair();
  on.receive(1, ends.ours.get());
  on.hear_now();
  on.cancel(2, 1);
  on.hear(2);
  const auto before = cpu_time();
  for (int round = 0; round < 20; ++round) {
    ends.send("x");
    CHECK(on.is_quiet(milliseconds(5)));
  }
  CHECK(cpu_time() - before < milliseconds(50));
  on.trace.clear();
  on.receive(3, ends.ours.get());
  on.hear(1);
  CHECK(on.trace == Trace{"3:20+[" + std::string(20, 'x') + "]"});
}

TEST_CASE("epoll: data that comes while only a send waits is received once that is asked for") {
  Stage on = stage();
  on.offer_buffers(8);
  const StreamEnds ends = StreamEnds::unix_pair();
  const std::string large(1 << 20, 's');
  on.receive(1, ends.ours.get());
  sqe::send(on.sqe(2), ends.ours.get(), large.data(), 1 << 20);
  on.hear_now();
  on.cancel(3, 1);
  on.hear(2);
  ends.send("early");
  CHECK(on.is_quiet(milliseconds(5)));
  ends.send("early");
  CHECK(on.is_quiet(milliseconds(5)));
  on.trace.clear();
  on.receive(4, ends.ours.get());
  on.hear(1);
  ends.send("later");
  on.hear(1);
  CHECK(on.trace == Trace{"4:10+[earlyearly]", "4:5+[later]"});
  on.cancel(5, 2);
  on.hear(2);
}

TEST_CASE("epoll: a receive tells where it found more behind it") {
  Stage on = stage();
  on.offer_buffers(8);
  const StreamEnds ends = StreamEnds::unix_pair();
  ends.send(std::string(64 + 64 + 10, 'x'));
  on.receive(1, ends.ours.get());
  const auto got = collect(*on.ring, 3);
  REQUIRE(got.size() == 3);
  CHECK((got[0].flags & IORING_CQE_F_SOCK_NONEMPTY) != 0);
  CHECK((got[1].flags & IORING_CQE_F_SOCK_NONEMPTY) != 0);
  CHECK((got[2].flags & IORING_CQE_F_SOCK_NONEMPTY) == 0);
  for (const auto& each : got) {
    static_cast<void>(on.buffers->take(each.buffer_id(), static_cast<std::size_t>(each.res)));
  }
}

TEST_CASE("epoll: a receive into many buffers loses nothing where the completion queue is short") {
  Stage on(make_epoll_ring({.sq_entries = 4, .cq_entries = 4}));
  on.offer_buffers(16);
  const StreamEnds ends = StreamEnds::unix_pair();
  std::string sent;
  for (char letter = 'a'; letter < 'a' + 12; ++letter) sent += std::string(64, letter);
  ends.send(sent);
  std::string received;
  int shots = 0;
  while (received.size() < sent.size() && ++shots < 20) {
    on.receive(1, ends.ours.get());
    for (bool armed = true; armed && received.size() < sent.size();) {
      for (const auto& each : collect(*on.ring, 1)) {
        armed = each.more();
        REQUIRE(each.has_buffer());
        const auto lease = on.buffers->take(each.buffer_id(), static_cast<std::size_t>(each.res));
        received.append(reinterpret_cast<const char*>(lease.span().data()), lease.size());
      }
      on.buffers->commit();
    }
  }
  CHECK(received == sent);
  CHECK(shots > 1);  // the queue was too short for one
}

TEST_CASE("epoll: the end that came while nobody received is heard when somebody does") {
  Stage on = stage();
  on.offer_buffers(8);
  StreamEnds ends = StreamEnds::unix_pair();
  const std::string large(1 << 20, 's');
  sqe::send(on.sqe(1), ends.ours.get(), large.data(), 1 << 20);  // keeps it registered
  on.hear_now();
  ends.send("last");
  REQUIRE(shutdown(ends.theirs.get(), SHUT_WR) == 0);
  CHECK(on.is_quiet(milliseconds(5)));
  on.trace.clear();
  on.receive(2, ends.ours.get());
  on.hear(2);
  CHECK(on.trace == Trace{"2:4+[last]", "2:0"});
  on.cancel(3, 1);
  on.hear(2);
}

TEST_CASE("epoll: a connect that finds a full queue goes on when there is room") {
  Stage on = stage();
  const FullListener listener;
  const SocketAddress& address = listener.address;
  const OwnedFd socket = must(pelton::open_socket(AF_UNIX, SOCK_STREAM));
  sqe::connect(on.sqe(1), socket.get(), address.data(), address.size());
  CHECK(on.is_quiet(milliseconds(10)));
  const OwnedFd accepted(accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
  on.hear(1);
  const OwnedFd another = must(pelton::open_socket(AF_UNIX, SOCK_STREAM));
  sqe::connect(on.sqe(2), another.get(), address.data(), address.size());
  on.hear_now();
  on.cancel(3, 2);
  on.hear_in_any_order(2);
  CHECK(on.trace == Trace{"1:0", "-", "2:" + std::to_string(-ECANCELED), "3:0"});
  CHECK(on.is_quiet(milliseconds(10)));  // it is tried no more
}

TEST_CASE("epoll: connects that find a full queue rest between two attempts of a busy loop") {
  constexpr std::uint64_t rounds = 20;
  Stage on = stage();
  const FullListener listener;
  std::vector<OwnedFd> sockets;
  const auto connect_one = [&] {
    const OwnedFd& socket = sockets.emplace_back(must(pelton::open_socket(AF_UNIX, SOCK_STREAM)));
    sqe::connect(on.sqe(sockets.size()), socket.get(), listener.address.data(),
                 listener.address.size());
  };
  connect_one();  // two always wait
  unsigned at_once = 0;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    connect_one();
    const auto busy_until = steady_clock::now() + milliseconds(3);
    auto looked = steady_clock::now();
    for (; looked < busy_until; looked = steady_clock::now()) {
      CHECK(collect_now(*on.ring).empty());
    }
    const OwnedFd accepted(accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const bool heard = !collect_now(*on.ring).empty();
    if (!heard) on.hear(1);
    // An attempt may be due just then, and is after a while in which this thread did not run.
    if (heard && steady_clock::now() - looked < milliseconds(1)) ++at_once;
  }
  CHECK(at_once < rounds / 2);
}

TEST_CASE("epoll: thousands of operations are found by name and by event") {
  constexpr std::uint64_t pairs = 400;
  const auto ring = make_epoll_ring({.sq_entries = 4096, .cq_entries = 8192});
  std::vector<StreamEnds> ends;
  for (std::uint64_t index = 0; index < pairs; ++index) ends.push_back(StreamEnds::unix_pair());
  for (std::uint64_t index = 0; index < 5 * pairs; ++index) {
    sqe::poll(next_sqe(*ring, index), ends[index % pairs].ours.get(), POLLIN);
  }
  CHECK(collect_now(*ring).empty());
  for (std::uint64_t index = 0; index < pairs; ++index) {  // one of each five
    sqe::cancel(next_sqe(*ring, 1'000'000 + index), 2 * pairs + index);
  }
  std::vector<bool> seen(5 * pairs);
  for (const auto& each : collect(*ring, 2 * pairs)) {
    if (each.user_data >= 1'000'000) {
      CHECK(each.res == 0);
    } else {
      CHECK(each.res == -ECANCELED);
      CHECK(each.user_data / pairs == 2);
      seen[each.user_data] = true;
    }
  }
  for (const StreamEnds& each : ends) each.send("x");
  for (const auto& each : collect(*ring, 4 * pairs)) {
    CHECK((each.res & POLLIN) != 0);
    CHECK_FALSE(seen[each.user_data]);
    seen[each.user_data] = true;
  }
  CHECK(std::count(seen.begin(), seen.end(), true) == std::ptrdiff_t{5 * pairs});
}

TEST_CASE("epoll: a descriptor number that its owner closed early serves the next owner") {
  Stage on = stage();
  on.offer_buffers(8);
  // A copy keeps the old file alive, and epoll goes on telling of it under the old registration.
  StreamEnds old = StreamEnds::unix_pair();
  const int number = old.ours.get();
  on.receive(1, number);
  on.hear_now();
  const OwnedFd copy(fcntl(number, F_DUPFD_CLOEXEC, 100));
  on.cancel(2, 1);
  on.hear(2);
  old.ours.reset();
  const StreamEnds ends = StreamEnds::unix_pair();
  REQUIRE(ends.ours.get() == number);
  on.receive(3, number);
  on.hear_now();
  on.trace.clear();
  old.send("not for you");
  CHECK(on.is_quiet(milliseconds(5)));
  ends.send("for you");
  on.hear(1);
  CHECK(on.trace == Trace{"3:7+[for you]"});
}

TEST_CASE("epoll: a ring is neither inherited nor left behind") {
  const int before = dup(0);
  close(before);
  {
    const auto ring = make_epoll_ring({});
    CHECK((fcntl(before, F_GETFD) & FD_CLOEXEC) != 0);
  }
  const int after = dup(0);
  close(after);
  CHECK(before == after);
}

TEST_CASE("epoll: an enter serves a bounded number of sockets that have something left") {
  constexpr unsigned count = 100;
  constexpr unsigned served_most = 24 + 24;  // by events, and of those that have something left
  constexpr std::size_t pieces = 6;          // of 64 bytes, for each: several passes of one piece
  Stage on(make_epoll_ring({.sq_entries = 128, .cq_entries = 4096}));
  on.offer_buffers(1024);
  while (on.buffers->on_exhausted()) on.buffers->commit();
  std::vector<StreamEnds> all;
  for (unsigned index = 0; index < count; ++index) {
    all.push_back(StreamEnds::unix_pair());
    on.receive(index, all.back().ours.get(), 64);
  }
  REQUIRE(collect_now(*on.ring).empty());
  for (const StreamEnds& ends : all) ends.send(std::string(pieces * 64, 'x'));
  std::size_t received = 0;
  std::size_t most = 0;
  for (int enter = 0; enter < 1000 && received < count * pieces; ++enter) {
    const auto now = collect_now(*on.ring);
    received += now.size();
    most = std::max(most, now.size());
    for (const auto& each : now) {
      static_cast<void>(on.buffers->take(each.buffer_id(), static_cast<std::size_t>(each.res)));
    }
    on.buffers->commit();
  }
  CHECK(received == count * pieces);
  CHECK(most <= served_most);
}
