// The ring against the kernel: what the engine relies on, asked of the kernel that is there.
//
// Scripts of SQEs and the CQEs they must yield: queues that are full, waiting, overflow, the
// semantics of multishot receives and accepts. Neighbours: engine/uring_ring.hpp; refusals are in
// uring_refusal_test, buffers in buffers_test.
#include <pelton/engine/uring_ring.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include <pelton/engine/buffers.hpp>
#include <pelton/engine/socket.hpp>
#include <pelton/engine/sqe.hpp>
#include <support/child.hpp>
#include <support/ring_script.hpp>

using pelton::BufferGroup;
using pelton::make_uring_ring;
using pelton::OwnedFd;
using pelton::Ring;
using pelton::test::collect;
using pelton::test::collect_now;
using pelton::test::Completion;
using pelton::test::Completions;
using pelton::test::next_sqe;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

namespace sqe = pelton::sqe;

namespace {

constexpr std::uint16_t group_id = 1;

std::unique_ptr<Ring> small_ring() { return make_uring_ring({.sq_entries = 8, .cq_entries = 64}); }

struct SocketPair {
  SocketPair() {
    auto made = pelton::socket_pair();
    REQUIRE(made);
    ours = std::move(made->first);
    theirs = std::move(made->second);
  }
  void send(std::string_view text) const {
    REQUIRE(::send(theirs.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(text.size()));
  }
  OwnedFd ours;
  OwnedFd theirs;
};

BufferGroup::Owner make_group(Ring& ring, unsigned count, std::size_t buffer_bytes) {
  auto group =
      BufferGroup::make(ring, {.id = group_id, .count = count, .buffer_bytes = buffer_bytes});
  REQUIRE(group);
  return std::move(*group);
}

void nop(Ring& ring, std::uint64_t user_data) { next_sqe(ring, user_data).opcode = IORING_OP_NOP; }

/// What a receive's completions delivered, in order; each buffer is given back.
std::string text_of(const Completions& completions, BufferGroup& group) {
  std::string text;
  for (const Completion& completion : completions) {
    if (!completion.has_buffer()) continue;
    const auto lease = group.take(completion.buffer_id(), static_cast<std::size_t>(completion.res));
    text += std::string_view(reinterpret_cast<const char*>(lease.span().data()), lease.size());
  }
  return text;
}

}  // namespace

TEST_CASE("a ring tells what it is") {
  const auto ring = make_uring_ring({.sq_entries = 100, .cq_entries = 1000});
  const pelton::RingInfo& info = ring->info();
  CHECK(info.name == "io_uring");
  CHECK(info.sq_entries == 128);
  CHECK(info.cq_entries == 1024);
  CHECK(info.taskrun_flag);
  CHECK(ring->ready() == 0);
  CHECK(ring->unsubmitted() == 0);
  CHECK_FALSE(ring->overflowed());
  for (const std::string& reason : info.turned_down) CHECK(reason.find(": ") != std::string::npos);
}

TEST_CASE("sizes out of range are brought into it") {
  CHECK(make_uring_ring({.sq_entries = 0, .cq_entries = 0})->info().sq_entries >= 1);
  const auto ring = make_uring_ring({.sq_entries = 64, .cq_entries = 1});
  CHECK(ring->info().cq_entries >= 64);
}

TEST_CASE("a full submission queue gives no slot until an enter has made room") {
  const auto ring = small_ring();
  for (std::uint64_t index = 0; index < 8; ++index) nop(*ring, index);
  CHECK(ring->unsubmitted() == 8);
  CHECK(ring->get_sqe() == nullptr);
  CHECK(ring->get_sqe() == nullptr);
  CHECK(ring->unsubmitted() == 8);
  CHECK(ring->enter(0, nanoseconds::zero()) == 0);
  CHECK(ring->unsubmitted() == 0);
  CHECK(ring->get_sqe() != nullptr);
}

TEST_CASE("slots are reused and zeroed around the queue many times") {
  const auto ring = small_ring();
  std::uint64_t next = 0;
  std::set<std::uint64_t> seen;
  for (int round = 0; round < 50; ++round) {
    for (int slot = 0; slot < 1 + round % 8; ++slot) {
      io_uring_sqe& sqe = next_sqe(*ring, next++);
      CHECK(sqe.opcode == 0);
      CHECK(sqe.flags == 0);
      CHECK(std::uint64_t{sqe.off} == 0);
      CHECK(std::uint16_t{sqe.buf_group} == 0);
      sqe.opcode = IORING_OP_NOP;
      sqe.off = 77;  // must not be seen by the slot's next user
    }
    for (const Completion& completion : collect(*ring, 1U + static_cast<unsigned>(round % 8))) {
      CHECK(completion.res == 0);
      CHECK(seen.insert(completion.user_data).second);
    }
  }
  CHECK(seen.size() == next);
}

TEST_CASE("a wait for a batch ends with the batch, or after its bound with one completion") {
  const auto ring = small_ring();
  if (!ring->info().bounded_batches) return;
  const auto patience = std::chrono::seconds(5);
  const auto time_of = [&](auto gather) {
    const auto begun = steady_clock::now();
    CHECK(ring->enter(3, patience, gather) == 0);
    return steady_clock::now() - begun;
  };
  SUBCASE("the batch is there") {
    for (std::uint64_t index = 0; index < 3; ++index) nop(*ring, index);
    CHECK(time_of(milliseconds(2000)) < milliseconds(2000));
    CHECK(ring->ready() == 3);
  }
  SUBCASE("one completion is there") {
    nop(*ring, 1);
    const auto time = time_of(milliseconds(20));
    CHECK(time >= milliseconds(20));
    CHECK(time < patience);
    CHECK(ring->ready() == 1);
  }
  SUBCASE("nothing comes for a while, and there is no time limit") {
    const SocketPair pair;
    io_uring_sqe& sqe = next_sqe(*ring, 1);
    pelton::sqe::poll(sqe, pair.ours.get(), POLLIN);
    std::thread writer([&] {
      std::this_thread::sleep_for(milliseconds(50));
      pair.send("x");
    });
    CHECK(ring->enter(3, nanoseconds(-1), milliseconds(5)) == 0);
    CHECK(ring->ready() == 1);
    writer.join();
  }
  SUBCASE("nothing comes, and the time limit is the shorter") {
    const auto begun = steady_clock::now();
    CHECK(ring->enter(3, milliseconds(10), patience) == -ETIME);
    CHECK(steady_clock::now() - begun < patience);
  }
}

TEST_CASE("waiting ends with ETIME when nothing comes and at once when something is there") {
  const auto ring = small_ring();
  const auto begin = steady_clock::now();
  CHECK(ring->enter(1, milliseconds(20)) == -ETIME);
  CHECK(steady_clock::now() - begin >= milliseconds(20));
  CHECK(ring->enter(1, nanoseconds::zero()) == -ETIME);
  CHECK(ring->enter(0, milliseconds(500'000)) == 0);  // waits for nothing: the limit is void
  nop(*ring, 1);
  CHECK(ring->enter(1, nanoseconds(-1)) == 0);
  CHECK(ring->enter(1, nanoseconds(-1)) == 0);  // still unread
  CHECK(ring->ready() == 1);
}

TEST_CASE("a signal ends the wait with EINTR and loses nothing") {
  struct sigaction action {};
  struct sigaction previous {};
  action.sa_handler = [](int) {};
  sigaction(SIGALRM, &action, &previous);
  const auto ring = small_ring();
  const itimerval soon{{0, 0}, {0, 20'000}};
  setitimer(ITIMER_REAL, &soon, nullptr);
  CHECK(ring->enter(1, std::chrono::seconds(10)) == -EINTR);
  nop(*ring, 5);
  const Completions after = collect(*ring, 1);
  CHECK(after.size() == 1);
  CHECK(after.at(0).user_data == 5);
  sigaction(SIGALRM, &previous, nullptr);
}

TEST_CASE("spinning notices work that enter will find and gives up at its deadline") {
  const auto ring = small_ring();
  CHECK_FALSE(ring->has_work());
  const auto begin = steady_clock::now();
  CHECK_FALSE(ring->spin_until(begin + milliseconds(5)));
  CHECK(steady_clock::now() - begin >= milliseconds(5));

  const SocketPair pair;
  char byte = 0;
  sqe::read(next_sqe(*ring, 3), pair.ours.get(), &byte, 1);
  CHECK(collect_now(*ring).empty());
  CHECK_FALSE(ring->has_work());
  pair.send("x");
  CHECK(ring->spin_until(steady_clock::now() + std::chrono::seconds(10)));
  CHECK(ring->ready() == 0);  // deferred: the work is done by enter
  CHECK(ring->enter(0, nanoseconds::zero()) == 0);
  CHECK(ring->ready() == 1);
  CHECK(ring->has_work());
  CHECK(ring->peek(0).res == 1);
}

TEST_CASE("a completion queue that overflows loses nothing and says so") {
  const auto ring = make_uring_ring({.sq_entries = 8, .cq_entries = 8});
  REQUIRE(ring->info().cq_entries == 8);
  for (std::uint64_t index = 0; index < 40; ++index) {
    nop(*ring, index);
    if (index % 8 == 7) CHECK(ring->enter(0, nanoseconds::zero()) <= 0);
  }
  while (ring->unsubmitted() > 0) {
    Completions some;
    pelton::test::take_ready(*ring, some);
    REQUIRE(ring->enter(0, nanoseconds::zero()) <= 0);
  }
  CHECK(ring->ready() == 8);
  CHECK(ring->overflowed());
  CHECK(ring->has_work());
  std::vector<std::uint64_t> order;
  for (const Completion& completion : collect(*ring, 40)) order.push_back(completion.user_data);
  CHECK(order.size() == 40);
  CHECK(std::is_sorted(order.begin(), order.end()));
  CHECK(collect_now(*ring).empty());
  CHECK_FALSE(ring->overflowed());
}

TEST_CASE("a multishot receive fills buffer after buffer and ends with EOF without a buffer") {
  const auto ring = small_ring();
  const auto group = make_group(*ring, 8, 64);
  SocketPair pair;
  sqe::recv_multishot(next_sqe(*ring, 7), pair.ours.get(), group_id, 0, 0);
  CHECK(collect_now(*ring).empty());
  for (const std::string_view text : {"one", "two", "three"}) {
    pair.send(text);
    const Completions got = collect(*ring, 1);
    REQUIRE(got.size() == 1);
    CHECK(got[0].user_data == 7);
    CHECK(got[0].more());
    CHECK(text_of(got, *group) == text);
    group->commit();
  }
  pair.theirs.reset();
  const Completions end = collect(*ring, 1);
  REQUIRE(end.size() == 1);
  CHECK(end[0].res == 0);
  CHECK_FALSE(end[0].more());
  CHECK_FALSE(end[0].has_buffer());
}

TEST_CASE("a receive armed on an empty buffer group fails at once although no data is there") {
  const auto ring = small_ring();
  const auto group = make_group(*ring, 1, 64);
  const SocketPair pair;
  sqe::recv_multishot(next_sqe(*ring, 1), pair.ours.get(), group_id, 0, 0);
  pair.send("takes the buffer");
  const Completions first = collect(*ring, 1);
  REQUIRE(!first.empty());
  REQUIRE(first[0].has_buffer());
  const auto lease = group->take(first[0].buffer_id(), static_cast<std::size_t>(first[0].res));
  if (first.size() == 1 && first[0].more()) {  // still armed: the next data ends it
    pair.send("none left");
    const Completions ended = collect(*ring, 1);
    REQUIRE(ended.size() == 1);
    CHECK(ended[0].res == -ENOBUFS);
    CHECK_FALSE(ended[0].more());
  }
  const SocketPair silent;
  sqe::recv_multishot(next_sqe(*ring, 2), silent.ours.get(), group_id, 0, 0);
  const Completions failed = collect(*ring, 1);
  REQUIRE(failed.size() == 1);
  CHECK(failed[0].user_data == 2);
  CHECK(failed[0].res == -ENOBUFS);
  CHECK_FALSE(failed[0].more());
  CHECK_FALSE(failed[0].has_buffer());
}

TEST_CASE("data completions precede the ENOBUFS that ends a receive and the rest stays queued") {
  const auto ring = small_ring();
  const auto group = make_group(*ring, 2, 64);
  const SocketPair pair;
  const std::string text = std::string(100, 'a') + std::string(200, 'b');
  pair.send(text);
  sqe::recv_multishot(next_sqe(*ring, 1), pair.ours.get(), group_id, 0, 0);
  Completions all = collect(*ring, 3);
  REQUIRE(all.size() == 3);
  CHECK(all[0].has_buffer());
  CHECK(all[0].more());
  CHECK(all[1].has_buffer());
  CHECK(all[1].more());
  CHECK(all[2].res == -ENOBUFS);
  CHECK_FALSE(all[2].more());
  std::string received = text_of(all, *group);
  CHECK(received == text.substr(0, 128));
  while (received.size() < text.size()) {
    group->commit();
    sqe::recv_multishot(next_sqe(*ring, 1), pair.ours.get(), group_id, 0, 0);
    all = collect(*ring, 1);
    REQUIRE(!all.empty());
    received += text_of(all, *group);
    if (all.back().more()) break;
  }
  CHECK(received == text);
}

TEST_CASE("cancelling a receive keeps the data that came before and ends it once") {
  const auto ring = small_ring();
  const auto group = make_group(*ring, 8, 64);
  const SocketPair pair;
  sqe::recv_multishot(next_sqe(*ring, 1), pair.ours.get(), group_id, 0, 0);
  CHECK(collect_now(*ring).empty());
  pair.send("not lost");
  sqe::cancel(next_sqe(*ring, 2), 1);
  std::string received;
  int finals = 0;
  int cancels = 0;
  const auto deadline = steady_clock::now() + std::chrono::seconds(10);
  while ((finals == 0 || cancels == 0) && steady_clock::now() < deadline) {
    const Completions some = collect(*ring, 1);
    received += text_of(some, *group);
    for (const Completion& completion : some) {
      cancels += completion.user_data == 2 ? 1 : 0;
      finals += completion.user_data == 1 && !completion.more() ? 1 : 0;
    }
  }
  CHECK(cancels == 1);
  CHECK(finals == 1);
  char rest[64] = {};  // what the receive did not deliver is in the socket still
  const ssize_t left = ::recv(pair.ours.get(), rest, sizeof rest, MSG_DONTWAIT);
  if (left > 0) received.append(rest, static_cast<std::size_t>(left));
  CHECK(received == "not lost");
}

TEST_CASE("closing a descriptor does not end the receive that is armed on it") {
  const auto ring = small_ring();
  const auto group = make_group(*ring, 8, 64);
  SocketPair pair;
  sqe::recv_multishot(next_sqe(*ring, 1), pair.ours.get(), group_id, 0, 0);
  CHECK(collect_now(*ring).empty());
  pair.ours.reset();
  pair.send("still heard");
  const Completions heard = collect(*ring, 1);
  REQUIRE(heard.size() == 1);
  CHECK(text_of(heard, *group) == "still heard");
  sqe::cancel(next_sqe(*ring, 2), 1);
  const Completions ended = collect(*ring, 2);
  REQUIRE(ended.size() == 2);
  const Completion& final = ended[0].user_data == 1 ? ended[0] : ended[1];
  CHECK(final.res == -ECANCELED);
  CHECK_FALSE(final.more());
}

TEST_CASE("a multishot accept that meets a full completion queue ends with a valid connection") {
  const auto ring = make_uring_ring({.sq_entries = 4, .cq_entries = 4});
  REQUIRE(ring->info().cq_entries == 4);
  auto listener = pelton::open_socket(AF_INET, SOCK_STREAM);
  REQUIRE(listener);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  REQUIRE(bind(listener->get(), name, size) == 0);
  REQUIRE(listen(listener->get(), 64) == 0);
  REQUIRE(getsockname(listener->get(), name, &size) == 0);
  std::vector<OwnedFd> clients;
  for (int index = 0; index < 10; ++index) {
    clients.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(connect(clients.back().get(), name, size) == 0);
  }
  std::vector<OwnedFd> accepted;
  int shots = 0;
  const auto deadline = steady_clock::now() + std::chrono::seconds(10);
  while (accepted.size() < 10 && steady_clock::now() < deadline) {
    ++shots;
    sqe::accept_multishot(next_sqe(*ring, 1), listener->get());
    for (bool armed = true; armed && accepted.size() < 10;) {
      for (const Completion& completion : collect(*ring, 1)) {
        REQUIRE(completion.res >= 0);  // a final completion carries a connection all the same
        accepted.emplace_back(completion.res);
        CHECK(fcntl(completion.res, F_GETFD) == FD_CLOEXEC);
        CHECK((fcntl(completion.res, F_GETFL) & O_NONBLOCK) != 0);
        if (!completion.more()) armed = false;
      }
    }
  }
  CHECK(accepted.size() == 10);
  MESSAGE("accepts armed: " << shots);
}

TEST_CASE("the verdict on capped receives is what a capped receive shows") {
  const auto ring = small_ring();
  const auto group = make_group(*ring, 8, 64);
  const SocketPair pair;
  const std::string sent(40, 'x');
  pair.send(sent);
  sqe::recv_multishot(next_sqe(*ring, 1), pair.ours.get(), group_id, 16, 32);
  Completions some = collect(*ring, 1);
  REQUIRE(!some.empty());
  CHECK(ring->info().recv_caps == (some[0].res == 16));
  const auto& turned_down = ring->info().turned_down;
  const bool told = std::any_of(turned_down.begin(), turned_down.end(),
                                [](const auto& text) { return text.starts_with("recv_caps: "); });
  CHECK(told == !ring->info().recv_caps);
  if (!ring->info().recv_caps) {
    CHECK(some[0].res == -EINVAL);
    return;
  }
  // It is multishot still, with at most 16 bytes at a time, and ends by itself after 32.
  std::string received;
  bool armed = true;
  while (!some.empty()) {
    for (const Completion& completion : some) {
      CHECK(completion.res <= 16);
      armed = completion.more();
    }
    received += text_of(some, *group);
    some = armed ? collect(*ring, 1) : Completions();
  }
  CHECK_FALSE(armed);
  CHECK(received.size() == 32);
  group->commit();
  sqe::recv_multishot(next_sqe(*ring, 1), pair.ours.get(), group_id, 16, 32);
  received += text_of(collect(*ring, 1), *group);
  CHECK(received == sent);
}

TEST_CASE("a restricted ring takes what pelton asks for, and nothing else") {
  const auto ring = make_uring_ring({.sq_entries = 8, .cq_entries = 64, .restricted = true});
  CHECK(ring->info().restricted);
  const auto group = make_group(*ring, 8, 64);
  const SocketPair pair;
  sqe::recv_multishot(next_sqe(*ring, 1), pair.ours.get(), group_id, 0, 0);
  CHECK(pelton::test::collect_now(*ring).empty());
  pair.send("allowed");
  CHECK(text_of(collect(*ring, 1), *group) == "allowed");
  for (const auto operation : {IORING_OP_NOP, IORING_OP_OPENAT, IORING_OP_SOCKET}) {
    io_uring_sqe& sqe = next_sqe(*ring, 2);
    sqe.opcode = operation;
    sqe.fd = AT_FDCWD;
    const Completions refused = collect(*ring, 1);
    REQUIRE(refused.size() == 1);
    CHECK(refused[0].res == -EACCES);
  }
  sqe::send(next_sqe(*ring, 3), pair.ours.get(), "x", 1);
  ring->get_sqe()->flags = IOSQE_IO_LINK;  // a flag that pelton never sets
  Completions both = collect(*ring, 2);
  REQUIRE(both.size() == 2);
  CHECK(both[0].res == 1);
  CHECK(both[1].res == -EACCES);
  shutdown(pair.ours.get(), SHUT_RDWR);
  CHECK(collect(*ring, 1).size() == 1);
}

TEST_CASE("restricted rings come and go, and leave no slot of the thread taken") {
  for (int round = 0; round < 40; ++round) {
    const auto ring = make_uring_ring({.sq_entries = 8, .cq_entries = 16, .restricted = true});
    const auto group = make_group(*ring, 8, 64);
    CHECK(ring->info().registered_ring_fd);
  }
}

TEST_CASE("a forked child has neither the ring's memory nor its buffers") {
  const auto ring = small_ring();
  const auto group = make_group(*ring, 8, 4096);
  const auto count_rings = [] {
    std::ifstream maps("/proc/self/maps");
    int count = 0;
    for (std::string line; std::getline(maps, line);) count += line.contains("[io_uring]") ? 1 : 0;
    return count;
  };
  CHECK(count_rings() > 0);
  const auto end = pelton::test::run_in_child([&] { return count_rings(); });
  CHECK(end.exit_status == 0);
  nop(*ring, 1);  // the parent's goes on
  CHECK(collect(*ring, 1).size() == 1);
}

TEST_CASE("hundreds of rings come and go") {
  for (int round = 0; round < 200; ++round) {
    const auto ring = small_ring();
    nop(*ring, 1);
    REQUIRE(collect(*ring, 1).size() == 1);
  }
}
