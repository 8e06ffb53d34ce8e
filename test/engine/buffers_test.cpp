// Provided buffers on a real ring: who owns each one, and who waits when none is left.
//
// Neighbours: engine/buffers.hpp; what receives do with a group is in uring_ring_test too.
#include <pelton/engine/buffers.hpp>

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <pelton/engine/socket.hpp>
#include <pelton/engine/sqe.hpp>
#include <pelton/engine/uring_ring.hpp>
#include <support/child.hpp>
#include <support/ring_script.hpp>

using pelton::BufferGroup;
using pelton::Bytes;
using pelton::Lease;
using pelton::OwnedFd;
using pelton::test::collect;
using pelton::test::Completion;
using pelton::test::next_sqe;
using pelton::test::run_in_child;

namespace {

/// A ring with a group of `count` buffers and a connected pair of sockets.
struct RingWithGroup {
  explicit RingWithGroup(unsigned count = 8, std::size_t buffer_bytes = 64)
      : ring(pelton::make_uring_ring({.sq_entries = 16, .cq_entries = 256})) {
    auto made = BufferGroup::make(*ring, {.id = 3, .count = count, .buffer_bytes = buffer_bytes});
    if (!made) throw pelton::OSError(made.error(), "no buffers");
    group = std::move(*made);
    auto pair = pelton::socket_pair();
    if (!pair) throw pelton::OSError(pair.error(), "no sockets");
    ours = std::move(pair->first);
    theirs = std::move(pair->second);
  }
  void send(std::string_view text) const {
    if (::send(theirs.get(), text.data(), text.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(text.size())) {
      throw pelton::OSError(pelton::errno_code(errno), "send");
    }
  }
  void arm() const {
    pelton::sqe::recv_multishot(next_sqe(*ring, 1), ours.get(), group->id(), 0, 0);
  }
  /// The lease of the next completion with a buffer. Others are noted in `last_result`.
  Lease receive() {
    for (;;) {
      const auto completions = collect(*ring, 1);
      if (completions.size() != 1) throw pelton::RuntimeError("one completion was expected");
      last_result = completions[0].res;
      if (!completions[0].more()) arm();
      if (completions[0].has_buffer()) {
        return group->take(completions[0].buffer_id(), static_cast<std::size_t>(last_result));
      }
      if (last_result == 0) return {};
    }
  }
  std::unique_ptr<pelton::Ring> ring;
  BufferGroup::Owner group;
  OwnedFd ours;
  OwnedFd theirs;
  int last_result = 0;
};

std::string_view text_of(const Lease& lease) {
  return {reinterpret_cast<const char*>(lease.span().data()), lease.size()};
}

struct Parked final : pelton::BufferWaiter {
  Parked(int parked_number, std::vector<int>& called) : number(parked_number), calls(called) {}
  void on_buffers_available() noexcept override { calls.push_back(number); }
  int number;
  std::vector<int>& calls;
};

bool is_mapped(const void* address) {
  std::ifstream maps("/proc/self/maps");
  const auto place = reinterpret_cast<std::uintptr_t>(address);
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) != 2) continue;
    if (begin <= place && place < end) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("a group offers all of its buffers to the kernel") {
  const RingWithGroup fixture(8, 128);
  CHECK(fixture.group->count() == 8);
  CHECK(fixture.group->available() == 8);
  CHECK(fixture.group->lent() == 0);
  CHECK(fixture.group->buffer_bytes() == 128);
  CHECK(fixture.group->id() == 3);
  CHECK_FALSE(fixture.group->under_pressure());
  CHECK_FALSE(fixture.group->has_parked());
}

TEST_CASE("received bytes are leased and the buffer is offered again when the lease dies") {
  RingWithGroup fixture;
  fixture.arm();
  for (int round = 0; round < 100; ++round) {  // many times around the table
    const std::string text = "message " + std::to_string(round);
    fixture.send(text);
    const Lease lease = fixture.receive();
    CHECK(text_of(lease) == text);
    CHECK(fixture.group->lent() == 1);
    CHECK(fixture.group->available() == 7);
    fixture.group->commit();
  }
  CHECK(fixture.group->lent() == 0);
  CHECK(fixture.group->available() == 8);
}

TEST_CASE("every buffer is used, and what is lent is never written to") {
  RingWithGroup fixture(4, 64);
  fixture.arm();
  std::vector<Bytes> held;
  std::set<const std::byte*> places;
  for (const char* text : {"first", "second", "third", "fourth"}) {
    fixture.send(text);
    held.push_back(fixture.receive().into_bytes());
    places.insert(held.back().data());
    fixture.group->commit();
  }
  CHECK(places.size() == 4);
  CHECK(fixture.group->available() == 0);
  CHECK(held[0] == "first");
  CHECK(held[3] == "fourth");
  for (const Bytes& bytes : held) CHECK(bytes.in_ring_buffer());
  const std::byte* const second = held[1].data();
  held[1] = Bytes();
  fixture.group->commit();
  fixture.send("fifth");
  const Lease fifth = fixture.receive();
  CHECK(fifth.span().data() == second);
  CHECK(text_of(fifth) == "fifth");
  CHECK(held[0] == "first");
  CHECK(held[2] == "third");
}

TEST_CASE("the kernel is offered a few buffers, those that came home last") {
  RingWithGroup fixture(512, 64);
  CHECK(fixture.group->available() == 512);
  CHECK(fixture.group->offered_most() == 64);
  fixture.arm();
  std::set<const std::byte*> places;
  for (int round = 0; round < 1'000; ++round) {
    fixture.send("round");
    const Lease lease = fixture.receive();
    CHECK(text_of(lease) == "round");
    places.insert(lease.span().data());
    fixture.group->commit();
  }
  CHECK(places.size() <= 65);  // what the kernel has, and the one that is lent meanwhile
  CHECK(fixture.group->available() == 512);
}

TEST_CASE("a kernel that ran out of offered buffers is offered twice as many, up to all") {
  RingWithGroup fixture(256, 64);
  CHECK(fixture.group->on_exhausted());
  CHECK(fixture.group->on_exhausted());  // another receive that met the same
  CHECK(fixture.group->offered_most() == 128);
  fixture.group->commit();
  CHECK(fixture.group->on_exhausted());
  CHECK(fixture.group->offered_most() == 256);
  fixture.group->commit();
  CHECK_FALSE(fixture.group->on_exhausted());  // the kernel has them all
  std::vector<Lease> leases;
  fixture.arm();
  for (int round = 0; round < 256; ++round) {  // every one of them is in the kernel's ring
    fixture.send("round");
    leases.push_back(fixture.receive());
  }
  CHECK(fixture.group->available() == 0);
}

TEST_CASE("slices keep a buffer lent, the last of them gives it back") {
  RingWithGroup fixture;
  fixture.arm();
  fixture.send("head body tail");
  Bytes slice;
  {
    const Bytes all = fixture.receive().into_bytes();
    slice = all.slice(5, 4);
  }
  CHECK(slice == "body");
  CHECK(fixture.group->lent() == 1);
  slice = Bytes();
  CHECK(fixture.group->lent() == 0);
}

TEST_CASE("an exhausted group answers ENOBUFS and serves again after buffers came back") {
  RingWithGroup fixture(2, 64);
  fixture.send(std::string(300, 'x'));
  std::size_t received = 0;
  int exhausted = 0;
  while (received < 300) {
    fixture.group->commit();
    fixture.arm();
    std::vector<Lease> leases;
    for (bool armed = true; armed && received < 300;) {
      for (const Completion& completion : collect(*fixture.ring, 1)) {
        armed = completion.more();
        if (completion.has_buffer()) {
          received += static_cast<std::size_t>(completion.res);
          leases.push_back(fixture.group->take(completion.buffer_id(),
                                               static_cast<std::size_t>(completion.res)));
          continue;
        }
        CHECK(completion.res == -ENOBUFS);
        CHECK_FALSE(completion.more());
        CHECK(fixture.group->available() == 0);
        CHECK(fixture.group->under_pressure());
        ++exhausted;
      }
    }
    CHECK(leases.size() <= 2);
  }
  CHECK(received == 300);
  CHECK(exhausted == 2);
  CHECK(fixture.group->available() == 2);
}

TEST_CASE("those who wait for buffers are called first come first served and once") {
  RingWithGroup fixture(4, 64);
  std::vector<int> called;
  Parked first(1, called);
  Parked second(2, called);
  Parked third(3, called);
  fixture.group->park(first);
  fixture.group->park(second);
  fixture.group->park(third);
  CHECK(fixture.group->has_parked());
  CHECK(fixture.group->wake_parked() == 3);
  CHECK(called == std::vector<int>{1, 2, 3});
  CHECK_FALSE(fixture.group->has_parked());
  CHECK(fixture.group->wake_parked() == 0);
  fixture.group->park(first);
  CHECK(fixture.group->wake_parked() == 1);
  CHECK(called == std::vector<int>{1, 2, 3, 1});
}

TEST_CASE("no more waiters are called than there are buffers, and one that died is not") {
  RingWithGroup fixture(2, 64);
  std::vector<int> called;
  std::vector<std::unique_ptr<Parked>> waiters;
  for (int number = 0; number < 6; ++number) {
    waiters.push_back(std::make_unique<Parked>(number, called));
    fixture.group->park(*waiters.back());
  }
  waiters[1].reset();
  CHECK(fixture.group->wake_parked() == 2);
  CHECK(called == std::vector<int>{0, 2});
  fixture.arm();
  fixture.send("x");
  const Lease lease = fixture.receive();
  CHECK(fixture.group->wake_parked() == 1);
  CHECK(called == std::vector<int>{0, 2, 3});
}

TEST_CASE("pressure begins while a few buffers are left and ends as they come back") {
  RingWithGroup fixture(8, 64);
  fixture.arm();
  std::vector<Lease> leases;
  while (!fixture.group->under_pressure()) {
    fixture.send("x");
    leases.push_back(fixture.receive());
    REQUIRE(leases.size() <= 8);
  }
  CHECK(fixture.group->available() >= 1);
  leases.pop_back();
  CHECK_FALSE(fixture.group->under_pressure());
}

TEST_CASE("even a group of one buffer is usable and its pressure ends") {
  RingWithGroup fixture(1, 64);
  CHECK_FALSE(fixture.group->under_pressure());
  fixture.arm();
  fixture.send("only");
  {
    const Lease lease = fixture.receive();
    CHECK(text_of(lease) == "only");
    CHECK(fixture.group->under_pressure());
  }
  CHECK_FALSE(fixture.group->under_pressure());
}

TEST_CASE("a group that is retired keeps its memory until the last lease is back") {
  RingWithGroup fixture;
  fixture.arm();
  fixture.send("kept alive");
  Bytes kept = fixture.receive().into_bytes();
  const std::byte* const place = kept.data();
  fixture.group.reset();
  fixture.ring.reset();
  CHECK(kept == "kept alive");
  CHECK(is_mapped(place));
  const Bytes slice = kept.slice(0, 4);
  kept = Bytes();
  CHECK(is_mapped(place));
  CHECK(slice == "kept");
}

TEST_CASE("the memory of a retired group is unmapped with the last lease") {
  const std::byte* place = nullptr;
  {
    RingWithGroup fixture(1024, 65536);  // large enough that nothing else takes its place
    fixture.arm();
    fixture.send("x");
    const Lease lease = fixture.receive();
    place = lease.span().data();
    fixture.group.reset();
    CHECK(is_mapped(place));
  }
  CHECK_FALSE(is_mapped(place));
}

TEST_CASE("waiters of a group that is retired are let go") {
  std::vector<int> called;
  Parked waiter(1, called);
  {
    RingWithGroup fixture;
    fixture.group->park(waiter);
  }
  CHECK_FALSE(waiter.linked());
  CHECK(called.empty());
}

TEST_CASE("a group id that is taken is an error and leaves the first group alone") {
  RingWithGroup fixture;
  const auto second = BufferGroup::make(*fixture.ring, {.id = 3, .count = 8, .buffer_bytes = 64});
  REQUIRE_FALSE(second);
  CHECK(second.error().value() == EEXIST);
  fixture.arm();
  fixture.send("fine");
  CHECK(text_of(fixture.receive()) == "fine");
}

TEST_CASE("the largest group of all can be made") {
  const auto ring = pelton::make_uring_ring({.sq_entries = 8, .cq_entries = 64});
  const auto group = BufferGroup::make(*ring, {.id = 0, .count = 32768, .buffer_bytes = 16384});
  REQUIRE(group);
  CHECK((*group)->available() == 32768);
}

TEST_CASE("a buffer that the kernel does not own cannot be taken in any build") {
  const auto take_twice = run_in_child([] {
    const RingWithGroup fixture;
    const Lease first = fixture.group->take(2, 1);
    const Lease second = fixture.group->take(2, 1);
    return 0;
  });
  CHECK(take_twice.signal == SIGABRT);
  CHECK(take_twice.output.find("slot.state == Slot::State::kernel") != std::string::npos);
  const auto no_such_id = run_in_child([] {
    const RingWithGroup fixture;
    return static_cast<int>(fixture.group->take(8, 1).size());
  });
  CHECK(no_such_id.signal == SIGABRT);
  const auto too_large = run_in_child([] {
    const RingWithGroup fixture;
    return static_cast<int>(fixture.group->take(2, 65).size());
  });
  CHECK(too_large.signal == SIGABRT);
}
