// Which ring a loop gets: by option, by environment, and where io_uring is refused.
//
// Neighbours: engine/ring_choice.hpp; the texts of refusals are in uring_refusal_test. What changes
// the process (a filter, the environment) happens in forked children.
#include <pelton/engine/ring_choice.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/uring_ring.hpp>
#include <support/child.hpp>
#include <support/message_of.hpp>
#include <support/refuse_io_uring.hpp>

using pelton::Engine;
using pelton::Loop;
using pelton::LoopOptions;
using pelton::RingInfo;
using pelton::RingUnavailable;
using pelton::test::become_nobody;
using pelton::test::message_of;
using pelton::test::refuse_io_uring;
using pelton::test::run_in_child;

namespace {

constexpr Engine automatic{Engine::Kind::automatic};
constexpr Engine uring{Engine::Kind::uring};
constexpr Engine epoll{Engine::Kind::epoll};
constexpr int impossible_here = 77;

void environment(const char* value) { setenv("PELTON_ENGINE", value, 1); }

std::string ring_of(Engine engine) { return Loop({.engine = engine}).engine_info().name; }

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++found;
  return found;
}

/// True if a loop on this engine runs.
bool works(Engine engine) {
  Loop loop({.engine = engine});
  int ran = 0;
  loop.call_soon([&] { ++ran; });
  loop.call_later(std::chrono::milliseconds(1), [&] { loop.stop(); });
  loop.run_forever();
  return ran == 1;
}

}  // namespace

TEST_CASE("a loop gets the ring that it asks for by name") {
  CHECK(ring_of(epoll) == "epoll");
  CHECK(ring_of(uring) == "io_uring");
  CHECK(works(epoll));
}

TEST_CASE("an engine tells its sizes and its features in words") {
  RingInfo info;
  info.sq_entries = 8;
  info.cq_entries = 16;
  info.recv_caps = true;
  CHECK(info.features() ==
        "sq=8 cq=16 registered_ring_fd=no restricted=no taskrun_flag=no recv_multishot=no "
        "recv_multishot_unix=no recv_caps=yes accept_multishot=no bounded_batches=no");
  info.turn_down(&RingInfo::recv_caps, "recv_caps: not this time");
  CHECK(info.features().find("recv_caps=no") != std::string::npos);
}

TEST_CASE("the environment says what auto means, and changes nothing else") {
  const auto end = run_in_child([] {
    environment("epoll");
    if (ring_of(automatic) != "epoll" || ring_of(uring) != "io_uring") return 1;
    environment("uring");
    if (ring_of(automatic) != "io_uring" || ring_of(epoll) != "epoll") return 2;
    for (const char* text : {"auto", ""}) {
      environment(text);
      if (resolve_engine(automatic).kind != Engine::Kind::automatic) return 3;
    }
    unsetenv("PELTON_ENGINE");
    return ring_of(automatic) == "io_uring" ? 0 : 4;
  });
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
}

TEST_CASE("an environment that cannot be read is refused with its name and its text") {
  const auto end = run_in_child([] {
    environment("kqueue");
    std::puts(
        message_of<pelton::ValueError>([] { static_cast<void>(ring_of(automatic)); }).c_str());
    return ring_of(epoll) == "epoll" ? 0 : 1;  // what was asked for by name does not depend on it
  });
  CHECK(end.exit_status == 0);
  CHECK(end.output ==
        "environment variable PELTON_ENGINE: cannot read engine 'kqueue': expected auto, uring or "
        "epoll\n");
}

TEST_CASE("where io_uring is refused auto takes epoll, works, and warns once in one line") {
  const auto end = run_in_child([] {
    environment("auto");
    refuse_io_uring(EPERM);
    if (!works(automatic) || !works(automatic)) return 1;
    const auto refusals = Loop({.engine = automatic}).engine_info().turned_down;
    const bool told = std::ranges::any_of(refusals, [](const std::string& each) {
      return each.starts_with("io_uring: ") && each.find("EPERM") != std::string::npos;
    });
    return told ? 0 : 2;
  });
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
  CHECK(count(end.output, "epoll is used instead of io_uring: ") == 1);
  CHECK(count(end.output, "\n") == 1);
  CHECK(count(end.output, "EPERM") == 1);
  CHECK(count(end.output, "kernel.io_uring_disabled=") >= 1);
  CHECK(count(end.output, "remedy: ") >= 1);
  CHECK(count(end.output, "[warn]") == 1);
}

TEST_CASE("where io_uring is refused it is no use to ask for it by name") {
  const auto end = run_in_child([] {
    refuse_io_uring(ENOSYS);
    environment("uring");
    for (const Engine engine : {uring, automatic}) {
      if (message_of<RingUnavailable>([&] { static_cast<void>(ring_of(engine)); }).find("ENOSYS") ==
          std::string::npos) {
        return 1;
      }
    }
    return works(epoll) ? 0 : 2;
  });
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
  CHECK(end.output.empty());
}

TEST_CASE("receive buffers that io_uring may not lock are registered with epoll") {
  const auto end = run_in_child([] {
    if (!become_nobody(64 * 1024)) return impossible_here;
    environment("auto");
    LoopOptions options;
    options.sq_entries = 8;
    options.cq_entries = 16;
    options.buffer_count = 32768;
    options.buffer_bytes = 64;
    return Loop(options).engine_info().name == "epoll" ? 0 : 1;
  });
  if (end.exit_status == impossible_here) {
    MESSAGE("skipped: needs root, to become somebody else");
    return;
  }
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
  CHECK(count(end.output, "32768 receive buffers cannot be registered") == 1);
}

TEST_CASE("epoll needs no locked memory") {
  const auto end = run_in_child([] {
    if (!become_nobody(0)) return impossible_here;
    environment("auto");
    return works(automatic) ? 0 : 1;
  });
  if (end.exit_status == impossible_here) {
    MESSAGE("skipped: needs root, to become somebody else");
    return;
  }
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
  CHECK(count(end.output, "ulimit -l") == 1);
}
