// Operations of a loop: more of them than fit the queues, cancels in every state, budgets.
//
// Neighbours: engine/loop.hpp, engine/op.hpp.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <pelton/engine/loop.hpp>
#include <support/child.hpp>
#include <support/loops.hpp>
#include <support/pipe_read.hpp>

using pelton::Loop;
using pelton::Op;
using pelton::test::PipeRead;
using pelton::test::run_once;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

using Results = std::vector<int>;
using Reads = std::vector<std::unique_ptr<PipeRead>>;

pelton::LoopOptions tiny() {
  return {.sq_entries = 8, .cq_entries = 16, .buffer_count = 4, .busy_poll = {}};
}

Reads make_reads(Loop& loop, int count) {
  Reads reads;
  for (int index = 0; index < count; ++index) reads.push_back(std::make_unique<PipeRead>(loop));
  return reads;
}

/// Runs until no operation but the mailbox's is in flight; false after ten seconds.
bool run_until_idle(Loop& loop) {
  const auto deadline = Loop::time() + seconds(10);
  std::function<void()> look = [&] {
    if (loop.operations_in_flight() <= 1 || Loop::time() > deadline) return loop.stop();
    loop.call_later(milliseconds(1), look);
  };
  loop.call_soon(look);
  loop.run_forever();
  return loop.operations_in_flight() <= 1;
}

int completed_once(const Reads& reads, int result) {
  return static_cast<int>(std::count_if(reads.begin(), reads.end(), [&](const auto& read) {
    return read->results() == Results{result};
  }));
}

/// The descriptor of this process's only ring.
int ring_fd() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const auto target = std::filesystem::read_symlink(entry.path(), error);
    if (target == "anon_inode:[io_uring]") return std::stoi(entry.path().filename());
  }
  return -1;
}

/// Posts a CQE with `user_data` to the loop's own ring.
struct Forged {
  Forged(Loop& of, std::uint64_t forged_user_data) : loop(of), user_data(forged_user_data) {}
  void start() noexcept { loop.start(op); }
  static void prepare(Op& self, io_uring_sqe& sqe) noexcept {
    sqe.opcode = IORING_OP_MSG_RING;
    sqe.fd = ring_fd();
    sqe.len = 5;
    sqe.off = self.owner<Forged>().user_data;
  }
  static void complete(Op& self, int res, std::uint32_t) noexcept {
    self.owner<Forged>().result = res;
  }
  static constexpr pelton::OpKind kind{"forged", prepare, complete};
  Loop& loop;
  std::uint64_t user_data;
  int result = -1;
  Op op{kind, this};
};

}  // namespace

TEST_CASE("an operation completes in the loop and may be started anew in its completion") {
  Loop loop(tiny());
  PipeRead read(loop);
  read.on_complete = [&] {
    CHECK_FALSE(read.in_flight());
    if (read.results().size() < 3) {
      read.start();
      CHECK(read.in_flight());
      read.feed("next");
    } else {
      loop.stop();
    }
  };
  read.start();
  read.feed("first");
  loop.run_forever();
  CHECK(read.results() == Results{5, 4, 4});
}

TEST_CASE("a thousand operations share a submission queue of eight and all complete") {
  Loop loop(tiny());
  Reads reads = make_reads(loop, 1000);
  for (const auto& read : reads) read->start();
  CHECK(loop.stats().sq_full >= 900);
  CHECK(loop.operations_in_flight() >= 1000);
  for (const auto& read : reads) read->feed("data");
  CHECK(run_until_idle(loop));
  CHECK(completed_once(reads, 4) == 1000);
  CHECK(loop.stats().impossible == 0);
}

TEST_CASE("a thousand operations on a queue of eight are all cancelled in one turn") {
  Loop loop(tiny());
  Reads reads = make_reads(loop, 1000);
  loop.call_soon([&] {
    for (const auto& read : reads) read->start();
  });
  loop.call_later(milliseconds(5), [&] {
    for (const auto& read : reads) {
      read->cancel();
      read->cancel();  // asked for twice, sent once
    }
  });
  run_once(loop);
  std::this_thread::sleep_for(milliseconds(6));
  CHECK(run_until_idle(loop));
  CHECK(completed_once(reads, -ECANCELED) == 1000);
  CHECK(loop.stats().cancel_submitted <= 1000);
  CHECK(loop.stats().impossible == 0);
}

TEST_CASE("operations that are cancelled before they were submitted end all the same") {
  Loop loop(tiny());
  Reads reads = make_reads(loop, 100);
  for (const auto& read : reads) read->start();
  for (const auto& read : reads) read->cancel();
  for (const auto& read : reads) CHECK(read->in_flight());  // never from within cancel()
  CHECK(run_until_idle(loop));
  CHECK(completed_once(reads, -ECANCELED) == 100);
}

TEST_CASE("an operation that was cancelled while it waited for a slot can be started again") {
  Loop loop(tiny());
  Reads reads = make_reads(loop, 30);
  PipeRead& last = *reads.back();
  for (const auto& read : reads) read->start();
  last.cancel();
  last.on_complete = [&] {
    if (last.results().size() == 1) last.start();
  };
  for (const auto& read : reads) read->feed("x");
  CHECK(run_until_idle(loop));
  CHECK(last.results() == Results{-ECANCELED, 1});
  CHECK(completed_once(reads, 1) == 29);
}

TEST_CASE("cancelling what is done or idle has no effect") {
  Loop loop(tiny());
  PipeRead read(loop);
  read.cancel();
  CHECK_FALSE(read.in_flight());
  read.start();
  read.feed("x");
  CHECK(run_until_idle(loop));
  read.cancel();
  CHECK(run_until_idle(loop));
  CHECK(read.results() == Results{1});
  CHECK(loop.stats().cancel_submitted == 0);
}

TEST_CASE("cancels race with data and every operation ends exactly once") {
  Loop loop(tiny());
  Reads reads = make_reads(loop, 200);
  std::mt19937 random(11);
  std::size_t started = 0;
  for (int round = 0; round < 20; ++round) {
    loop.call_soon([&] {
      for (const auto& read : reads) {
        if (read->in_flight()) continue;
        read->start();
        ++started;
      }
      for (const auto& read : reads) {
        if (random() % 2 == 0) read->feed("x");
        if (random() % 2 == 0) read->cancel();
      }
    });
    for (int turn = 0; turn < 1 + round % 4; ++turn) run_once(loop);
  }
  for (const auto& read : reads) read->cancel();
  CHECK(run_until_idle(loop));
  std::map<int, int> results;
  std::size_t ended = 0;
  for (const auto& read : reads) {
    ended += read->results().size();
    for (const int result : read->results()) ++results[result > 0 ? 1 : result];
  }
  CHECK(ended == started);
  CHECK(results[1] + results[-ECANCELED] == static_cast<int>(started));
  CHECK(loop.stats().impossible == 0);
}

TEST_CASE("a turn completes no more than its budget") {
  pelton::LoopOptions options = tiny();
  options.sq_entries = 256;
  options.cq_entries = 512;
  options.completions_per_turn = 4;
  Loop loop(options);
  Reads reads = make_reads(loop, 100);
  std::map<std::uint64_t, int> per_turn;
  for (const auto& read : reads) {
    read->feed("x");
    read->on_complete = [&] { ++per_turn[loop.stats().turns]; };
    read->start();
  }
  CHECK(run_until_idle(loop));
  CHECK(completed_once(reads, 1) == 100);
  for (const auto& [turn, count] : per_turn) CHECK(count <= 4);
  CHECK(per_turn.size() >= 25);
}

TEST_CASE("a budget of nothing still completes something") {
  pelton::LoopOptions options = tiny();
  options.completions_per_turn = 0;
  Loop loop(options);
  PipeRead read(loop);
  read.start();
  read.feed("x");
  CHECK(run_until_idle(loop));
  CHECK(read.results() == Results{1});
}

TEST_CASE("completions beyond the completion queue are counted and not lost") {
  pelton::LoopOptions options = tiny();
  options.cq_entries = 8;
  Loop loop(options);
  Reads reads = make_reads(loop, 300);
  for (const auto& read : reads) {
    read->feed("x");
    read->start();
  }
  CHECK(run_until_idle(loop));
  CHECK(completed_once(reads, 1) == 300);
  MESSAGE("overflows: " << loop.stats().cq_overflows);
}

TEST_CASE("everyone who waits for a buffer is called although few buffers are there") {
  struct Parked final : pelton::BufferWaiter {
    void on_buffers_available() noexcept override { called = true; }
    bool called = false;
  };
  pelton::LoopOptions options = tiny();
  options.buffer_count = 1;
  Loop loop(options);
  Parked waiters[5];
  for (Parked& waiter : waiters) loop.buffers().park(waiter);
  // Nothing else happens in this loop: the second turn must come by itself.
  const std::uint64_t turns = loop.stats().turns;
  loop.call_later(milliseconds(50), [&] { loop.stop(); });
  loop.run_forever();
  for (const Parked& waiter : waiters) CHECK(waiter.called);
  CHECK(loop.stats().turns - turns < 50);
}

TEST_CASE("end-of-turn work runs once per request, before the loop waits") {
  struct Work final : pelton::LoopResource {
    explicit Work(std::vector<int>& steps) : order(steps) {}
    void on_loop_close() noexcept override {}
    void on_end_of_turn() noexcept override { order.push_back(9); }
    std::vector<int>& order;
  };
  Loop loop(tiny());
  std::vector<int> order;
  Work work(order);
  loop.call_soon([&] {
    loop.at_end_of_turn(work);
    loop.at_end_of_turn(work);
    order.push_back(1);
  });
  loop.call_soon([&] { order.push_back(2); });
  loop.call_later(milliseconds(5), [&] { loop.stop(); });
  loop.run_forever();
  CHECK(order == std::vector<int>{1, 2, 9});
}

TEST_CASE("end-of-turn work may ask for more of it, again and again within the turn") {
  struct Work final : pelton::LoopResource {
    Work(Loop& of, std::vector<int>& steps, int own) : loop(of), order(steps), number(own) {}
    void on_loop_close() noexcept override {}
    void on_end_of_turn() noexcept override {
      order.push_back(number);
      if (order.size() < 9'000) loop.at_end_of_turn(*this);
    }
    Loop& loop;
    std::vector<int>& order;
    int number;
  };
  Loop loop(tiny());
  std::vector<int> order;
  order.reserve(9'003);
  Work works[] = {{loop, order, 0}, {loop, order, 1}, {loop, order, 2}};
  loop.reserve_operations(6);
  loop.call_soon([&] {
    for (Work& work : works) loop.at_end_of_turn(work);
    loop.call_later(milliseconds(5), [&] { loop.stop(); });
  });
  const std::uint64_t turns = loop.stats().turns;
  const std::size_t before = pelton::test::heap_bytes();
  loop.run_forever();
  CHECK(pelton::test::heap_bytes() < before + 9'000);  // the room of those served is used again
  REQUIRE(order.size() >= 9'000);
  for (std::size_t index = 0; index < order.size(); ++index) {
    if (order[index] != static_cast<int>(index % 3)) FAIL("out of turn at " << index);
  }
  CHECK(loop.stats().turns - turns < 10);
  loop.release_operations(6);
}

TEST_CASE("an operation that dies in flight aborts in every build") {
  const auto end = pelton::test::run_in_child([] {
    Loop loop(tiny());
    {
      PipeRead read(loop);
      read.start();
    }
    return 0;
  });
  CHECK(end.signal == SIGABRT);
  CHECK(end.output.find("!in_flight()") != std::string::npos);
}

TEST_CASE("a completion that fits no operation is counted, and aborts builds with assertions") {
  const auto end = pelton::test::run_in_child([] {
    pelton::LoopOptions options = tiny();
    options.engine.kind = pelton::Engine::Kind::uring;  // whose own operation forges the completion
    Loop loop(options);
    Forged stale(loop, std::uint64_t{77} << 32);  // a generation that slot 0 never had
    Forged nobody(loop, 12345);                   // a slot that does not exist
    stale.start();
    nobody.start();
    PipeRead read(loop);
    read.start();
    read.feed("x");
    run_until_idle(loop);
    const bool fine = stale.result == 0 && nobody.result == 0 && read.results() == Results{1};
    return fine && loop.stats().impossible == 2 ? 0 : 1;
  });
  CAPTURE(end.output);
#ifdef NDEBUG
  CHECK(end.exit_status == 0);
#else
  CHECK(end.signal == SIGABRT);
  CHECK(end.output.find("assertion failed: fits") != std::string::npos);
#endif
}
