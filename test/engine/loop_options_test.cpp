// What is parsed and printed of a loop's options and counters.
//
// Neighbours: engine/loop_options.hpp; what busy polling does is in loop_wait_test.
#include <pelton/engine/loop_options.hpp>

#include <doctest/doctest.h>

#include <algorithm>

#include <pelton/engine/error.hpp>
#include <support/message_of.hpp>

using pelton::BatchWait;
using pelton::BusyPoll;
using pelton::Engine;
using pelton::LoopStats;
using std::chrono::microseconds;

TEST_CASE("an engine is read as auto, uring or epoll, and printed alike") {
  CHECK(Engine{}.kind == Engine::Kind::automatic);
  CHECK(Engine::parse("auto").kind == Engine::Kind::automatic);
  CHECK(Engine::parse("uring").kind == Engine::Kind::uring);
  CHECK(Engine::parse("epoll").kind == Engine::Kind::epoll);
  for (const char* text : {"auto", "uring", "epoll"}) {
    CHECK(Engine::parse(text).to_string() == text);
  }
}

TEST_CASE("what is no engine is refused with its text and what is accepted") {
  for (const char* text : {"", "io_uring", "Epoll", "epoll ", "select"}) {
    CAPTURE(text);
    CHECK(pelton::test::message_of<pelton::ValueError>([&] {
            static_cast<void>(Engine::parse(text));
          }) == "cannot read engine '" + std::string(text) + "': expected auto, uring or epoll");
  }
}

TEST_CASE("busy polling is read as auto, off or a number of microseconds, and printed alike") {
  CHECK(BusyPoll::parse("auto").mode == BusyPoll::Mode::automatic);
  CHECK(BusyPoll::parse("auto").window == microseconds(20));
  CHECK(BusyPoll::parse("off").mode == BusyPoll::Mode::off);
  CHECK(BusyPoll::parse("50").mode == BusyPoll::Mode::always);
  CHECK(BusyPoll::parse("50").window == microseconds(50));
  for (const char* text : {"auto", "off", "1", "20", "10000"}) {
    CHECK(BusyPoll::parse(text).to_string() == text);
  }
  CHECK(BusyPoll{}.to_string() == "auto");
}

TEST_CASE("what is no busy poll is refused with its text and what is accepted") {
  for (const char* text : {"", "0", "10001", "-1", "+5", "5 ", " 5", "5us", "Auto", "0x10", "1e3",
                           "99999999999999999999"}) {
    CAPTURE(text);
    std::string message;
    try {
      static_cast<void>(BusyPoll::parse(text));
    } catch (const pelton::ValueError& error) {
      message = error.what();
    }
    CHECK(message == "cannot read busy poll '" + std::string(text) +
                         "': expected auto, off, or 1 to 10000 (microseconds)");
  }
}

TEST_CASE("waiting for batches is read as auto or off, and printed alike") {
  CHECK(pelton::parse_batch_wait("auto") == BatchWait::automatic);
  CHECK(pelton::parse_batch_wait("off") == BatchWait::off);
  CHECK(pelton::to_string(BatchWait::automatic) == std::string("auto"));
  CHECK(pelton::to_string(BatchWait::off) == std::string("off"));
  for (const char* text : {"", "on", "AUTO", "50"}) {
    CHECK_THROWS_WITH_AS(
        static_cast<void>(pelton::parse_batch_wait(text)),
        ("cannot read batch wait '" + std::string(text) + "': expected auto or off").c_str(),
        pelton::ValueError);
  }
}

TEST_CASE("adding counters adds each of them") {
  LoopStats sum;
  sum.turns = 1;
  sum.spin_hits = 2;
  LoopStats other;
  other.turns = 10;
  other.enobufs = 5;
  other.spin_hits = 20;
  sum += other;
  sum += other;
  CHECK(sum.turns == 21);
  CHECK(sum.enobufs == 10);
  CHECK(sum.spin_hits == 42);
  CHECK(sum.enters == 0);
}

TEST_CASE("counters print as one line of names and values, every counter once") {
  LoopStats stats;
  stats.turns = 3;
  stats.bytes_spliced = 18'446'744'073'709'551'615U;
  const std::string text = stats.to_string();
  CHECK(text.starts_with("turns=3 enters=0 submitted=0 "));
  CHECK(text.ends_with(" splices=0 bytes_spliced=18446744073709551615"));
  CHECK(std::count(text.begin(), text.end(), '=') == sizeof(LoopStats) / sizeof(std::uint64_t));
  CHECK(text.find('\n') == std::string::npos);
}
