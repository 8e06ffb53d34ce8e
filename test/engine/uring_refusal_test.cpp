// Hosts that refuse io_uring: what is said, and what is still possible with little locked memory.
//
// Refusals are real ones, in forked children: a seccomp filter, a user without locked memory. All
// ask for io_uring by name; what is taken instead is in ring_choice_test.
// Neighbours: engine/uring_ring.hpp, engine/uring_refusal.cpp.
#include <doctest/doctest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/sqe.hpp>
#include <pelton/engine/uring_ring.hpp>
#include <support/child.hpp>
#include <support/refuse_io_uring.hpp>
#include <support/ring_script.hpp>

using pelton::explain_ring_refusal;
using pelton::make_uring_ring;
using pelton::RingUnavailable;
using pelton::test::become_nobody;
using pelton::test::ChildEnd;
using pelton::test::refuse_io_uring;
using pelton::test::run_in_child;
using std::chrono::milliseconds;

namespace {

constexpr int skipped_here = 77;
constexpr pelton::Engine by_name{pelton::Engine::Kind::uring};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Makes a ring; prints what() and returns the errno of the refusal, or 0.
int errno_of_ring(const pelton::RingOptions& options) {
  try {
    static_cast<void>(make_uring_ring(options));
    return 0;
  } catch (const RingUnavailable& error) {
    std::puts(error.what());
    return error.code().value();
  }
}

/// True if the child could not be made into a user without privileges.
bool skipped(const ChildEnd& end) {
  if (end.exit_status != skipped_here) return false;
  MESSAGE("skipped: needs root, to become somebody else");
  return true;
}

bool works(pelton::Ring& ring) {
  pelton::test::next_sqe(ring, 42).opcode = IORING_OP_NOP;
  const auto completions = pelton::test::collect(ring, 1);
  return completions.size() == 1 && completions[0].user_data == 42;
}

}  // namespace

TEST_CASE("a refusal names the errno and every fact of this host and a remedy") {
  const std::pair<int, const char*> known[] = {
      {EPERM, "EPERM"},   {ENOSYS, "ENOSYS"}, {ENOMEM, "ENOMEM"}, {EINVAL, "EINVAL"},
      {EMFILE, "EMFILE"}, {ENFILE, "ENFILE"}, {EACCES, "EACCES"}, {EAGAIN, "EAGAIN"},
      {EBUSY, "EBUSY"},   {EINTR, "EINTR"}};
  for (const auto& [value, name] : known) {
    CAPTURE(name);
    const std::string text = explain_ring_refusal(value);
    CHECK(text.starts_with("io_uring is refused on this host: io_uring_setup failed with "));
    CHECK(contains(text, std::string("failed with ") + name + " (" + std::to_string(value) + ", "));
    CHECK(contains(text, "kernel.io_uring_disabled="));
    CHECK(contains(text, "seccomp mode "));
    CHECK(contains(text, "memlock limit "));
    CHECK(contains(text, "\n  remedy: "));
  }
}

TEST_CASE("each refusal has the remedy that fits it") {
  CHECK(contains(explain_ring_refusal(ENOMEM), "ulimit -l"));
  CHECK(contains(explain_ring_refusal(EMFILE), "RLIMIT_NOFILE"));
  CHECK(contains(explain_ring_refusal(EINVAL), "Linux 6.1"));
  CHECK(contains(explain_ring_refusal(ENOSYS), "CONFIG_IO_URING"));
  CHECK(contains(explain_ring_refusal(EOPNOTSUPP, "a trial"), "a kernel without this fault"));
}

TEST_CASE("an errno that nobody expects is still told with its number and its text") {
  const std::string text = explain_ring_refusal(EXDEV);
  CHECK(contains(text, "(" + std::to_string(EXDEV) + ", "));
  CHECK(contains(text, std::system_category().message(EXDEV)));
  CHECK(contains(text, "kernel.io_uring_disabled="));
}

TEST_CASE("a ring under a seccomp filter is refused, and the text says what to allow") {
  for (const int error : {EPERM, ENOSYS}) {
    const ChildEnd end = run_in_child([error] {
      refuse_io_uring(error);
      return errno_of_ring({});
    });
    CAPTURE(end.output);
    CHECK(end.exit_status == error);
    CHECK(contains(end.output, error == EPERM ? "EPERM" : "ENOSYS"));
    CHECK(contains(end.output, "seccomp mode 2"));
    CHECK(contains(end.output, "a seccomp filter is active"));
  }
}

TEST_CASE("a filter that refuses only io_uring_enter is found out when the ring is made") {
  for (const int error : {EPERM, ENOSYS}) {
    const ChildEnd end = run_in_child([error] {
      refuse_io_uring(error, __NR_io_uring_enter);
      return errno_of_ring({});
    });
    CAPTURE(end.output);
    CHECK(end.exit_status == error);
    CHECK(contains(end.output, "refused on this host: io_uring_enter failed with E"));
    CHECK(contains(end.output, "a seccomp filter is active"));
  }
}

TEST_CASE("a ring that may not be entered any more ends its loop soon, with the reason") {
  const ChildEnd end = run_in_child([] {
    const auto begin = std::chrono::steady_clock::now();
    try {
      pelton::Loop loop({.engine = by_name});
      loop.call_soon([] { refuse_io_uring(EPERM, __NR_io_uring_enter); });
      loop.run_forever();
      return 1;
    } catch (const pelton::OSError& error) {
      std::puts(error.what());
    }
    return std::chrono::steady_clock::now() - begin < std::chrono::seconds(5) ? 0 : 2;
  });
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
  CHECK(contains(end.output, "enter of io_uring"));
}

TEST_CASE("a loop under a seccomp filter is refused alike and leaves no descriptor open") {
  const ChildEnd end = run_in_child([] {
    refuse_io_uring(EPERM);
    const int before = dup(0);
    close(before);
    try {
      const pelton::Loop loop({.engine = by_name});
      return 1;
    } catch (const RingUnavailable& error) {
      std::puts(error.what());
    }
    const int after = dup(0);
    return before == after ? 0 : 2;
  });
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
  CHECK(contains(end.output, "seccomp"));
}

TEST_CASE("a user who may lock no memory gets ENOMEM and is told how to raise the limit") {
  const ChildEnd end = run_in_child([] {
    if (!become_nobody(0)) return skipped_here;
    return errno_of_ring({.memory_patience = milliseconds(20)});
  });
  if (skipped(end)) return;
  CAPTURE(end.output);
  CHECK(end.exit_status == ENOMEM);
  CHECK(contains(end.output, "memlock limit 0 KiB (hard 0 KiB)"));
  CHECK(contains(end.output, "remedy: rings are charged to the user's locked memory"));
}

TEST_CASE("with little locked memory the ring is shrunk and works and says so") {
  const ChildEnd end = run_in_child([] {
    if (!become_nobody(64 * 1024)) return skipped_here;
    const auto ring = make_uring_ring({.memory_patience = milliseconds(20)});
    for (const std::string& reason : ring->info().turned_down) std::puts(reason.c_str());
    std::printf("sq_entries=%u cq_entries=%u\n", ring->info().sq_entries, ring->info().cq_entries);
    return works(*ring) && ring->info().sq_entries < 512 ? 0 : 1;
  });
  if (skipped(end)) return;
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
  CHECK(contains(end.output, "sq_entries 512: not enough locked memory, raise RLIMIT_MEMLOCK"));
}

TEST_CASE("what the kernel can do does not depend on the memory that a user may lock") {
  const auto verdict = [] {
    const auto ring = make_uring_ring({.memory_patience = milliseconds(20)});
    const auto& info = ring->info();
    return (info.recv_caps ? 1 : 0) + (info.recv_multishot ? 2 : 0) +
           (info.accept_multishot ? 4 : 0) + (info.bounded_batches ? 8 : 0);
  };
  const ChildEnd as_root = run_in_child(verdict);
  for (const unsigned kib : {32U, 48U, 64U, 128U, 1024U}) {
    CAPTURE(kib);
    const ChildEnd as_nobody = run_in_child([&] {
      if (!become_nobody(std::size_t{kib} * 1024)) return skipped_here;
      return verdict();
    });
    if (skipped(as_nobody)) return;
    CAPTURE(as_nobody.output);
    CHECK(as_nobody.exit_status == as_root.exit_status);
  }
}

TEST_CASE("a feature that there was no memory to probe is told as such") {
  const ChildEnd end = run_in_child([] {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    if (!become_nobody(2 * page)) return skipped_here;
    const auto ring = make_uring_ring({.sq_entries = 8, .cq_entries = 16});
    for (const std::string& reason : ring->info().turned_down) std::puts(reason.c_str());
    // Where another test has probed already, its verdict holds.
    return works(*ring) && (ring->info().recv_caps || !ring->info().turned_down.empty()) ? 0 : 1;
  });
  if (skipped(end)) return;
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
  if (!end.output.empty()) CHECK(contains(end.output, "recv_caps: not probed"));
}

TEST_CASE("a size that can never fit the limit is shrunk without patience") {
  const ChildEnd end = run_in_child([] {
    if (!become_nobody(64 * 1024)) return skipped_here;
    const auto begin = std::chrono::steady_clock::now();
    const auto ring = make_uring_ring({.memory_patience = std::chrono::seconds(20)});
    return std::chrono::steady_clock::now() - begin < std::chrono::seconds(10) ? 0 : 1;
  });
  if (skipped(end)) return;
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
}

TEST_CASE("the charge of rings that are gone is waited for") {
  const ChildEnd end = run_in_child([] {
    if (!become_nobody(64 * 1024)) return skipped_here;
    for (int round = 0; round < 20; ++round) {
      const auto ring = make_uring_ring({.sq_entries = 128, .cq_entries = 1024});
      if (ring->info().sq_entries != 128 || !works(*ring)) return 1;
    }
    return 0;
  });
  if (skipped(end)) return;
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
}

TEST_CASE("a whole loop runs in 64 KiB of locked memory") {
  const ChildEnd end = run_in_child([] {
    if (!become_nobody(64 * 1024)) return skipped_here;
    pelton::Loop loop({.engine = by_name});
    int ran = 0;
    loop.call_soon([&] { ++ran; });
    loop.call_later(milliseconds(1), [&] { loop.stop(); });
    loop.run_forever();
    return ran == 1 ? 0 : 1;
  });
  if (skipped(end)) return;
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
}

TEST_CASE("receive buffers that cannot be registered are told as such") {
  const ChildEnd end = run_in_child([] {
    if (!become_nobody(64 * 1024)) return skipped_here;
    try {
      const pelton::Loop loop({.sq_entries = 8,
                               .cq_entries = 16,
                               .buffer_count = 32768,
                               .buffer_bytes = 64,
                               .engine = by_name});
      return 1;
    } catch (const RingUnavailable& error) {
      std::puts(error.what());
      return error.code().value();
    }
  });
  if (skipped(end)) return;
  CAPTURE(end.output);
  CHECK(end.exit_status == ENOMEM);
  CHECK(contains(end.output, "32768 receive buffers cannot be registered"));
  CHECK_FALSE(contains(end.output, "io_uring_setup failed"));
  CHECK(contains(end.output, "ulimit -l"));
}
