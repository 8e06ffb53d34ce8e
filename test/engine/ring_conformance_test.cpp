// What any ring must answer, I: the queues, cancelling, receiving, files and polling.
//
// Each case is a script that runs on every ring, with one expectation. Neighbours:
// support/ring_stage.hpp tells how completions are written down; sending, accepting and connecting
// are in ring_conformance_sockets_test; what is io_uring's alone is in uring_ring_test.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include <support/ring_stage.hpp>

using pelton::OwnedFd;
using pelton::test::agree;
using pelton::test::code;
using pelton::test::NotSimulated;
using pelton::test::Stage;
using pelton::test::StreamEnds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

namespace sqe = pelton::sqe;

namespace {

void nop(Stage& stage, std::uint64_t user_data) { stage.sqe(user_data).opcode = IORING_OP_NOP; }

struct Pipe {
  Pipe() {
    std::array<int, 2> fds{-1, -1};
    REQUIRE(pipe2(fds.data(), O_CLOEXEC | O_NONBLOCK) == 0);
    out = OwnedFd(fds[0]);
    in = OwnedFd(fds[1]);
  }
  void write(std::string_view text) const {
    REQUIRE(::write(in.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  OwnedFd out;
  OwnedFd in;
};

/// "in", "out", "end": those of the polled events that a test is about.
std::string told_events(int events) {
  if (events < 0) return std::to_string(events);
  std::string text;
  if (events & POLLIN) text += "in ";
  if (events & POLLOUT) text += "out ";
  if (events & (POLLRDHUP | POLLHUP)) text += "end ";
  return text;
}

}  // namespace

// --- The queues ---

TEST_CASE("ring: what does nothing is answered in the order of submission") {
  agree(
      [](Stage& stage) {
        for (std::uint64_t index = 0; index < 5; ++index) nop(stage, index);
        stage.hear(5);
      },
      {"0:0", "1:0", "2:0", "3:0", "4:0"});
}

TEST_CASE("ring: nothing completes before it is submitted") {
  agree(
      [](Stage& stage) {
        nop(stage, 1);
        stage.say(std::to_string(stage.ring->ready()));
        CHECK(stage.ring->submit() == 0);
        stage.say(std::to_string(stage.ring->unsubmitted()));
        stage.hear(1);
      },
      {"0", "0", "1:0"});
}

TEST_CASE("ring: an operation that nobody knows is invalid and harms no other") {
  agree(
      [](Stage& stage) {
        stage.sqe(1).opcode = 250;
        nop(stage, 2);
        stage.hear_in_any_order(2);
      },
      {code(1, EINVAL), "2:0"});
}

TEST_CASE("ring: waiting has a limit, and none for what is there") {
  agree(
      [](Stage& stage) {
        const auto begin = std::chrono::steady_clock::now();
        CHECK(stage.is_quiet(milliseconds(10)));
        CHECK(std::chrono::steady_clock::now() - begin >= milliseconds(10));
        stage.say(std::to_string(stage.ring->enter(1, nanoseconds::zero())));
        stage.say(std::to_string(stage.ring->enter(0, std::chrono::hours(1))));
        nop(stage, 1);
        stage.say(std::to_string(stage.ring->enter(1, nanoseconds(-1))));
        stage.say(std::to_string(stage.ring->enter(1, nanoseconds(-1))));
        stage.hear_now();
      },
      {std::to_string(-ETIME), "0", "0", "0", "1:0"});
}

TEST_CASE("ring: a wait shorter than a millisecond is one") {
  agree(
      [](Stage& stage) {
        const auto begin = std::chrono::steady_clock::now();
        for (int round = 0; round < 10; ++round) {
          CHECK(stage.is_quiet(std::chrono::microseconds(100)));
        }
        const auto time = std::chrono::steady_clock::now() - begin;
        CHECK(time >= milliseconds(1));
        CHECK(time < milliseconds(500));
      },
      {});
}

TEST_CASE("ring: a full submission queue gives no slot until it is submitted") {
  agree(
      [](Stage& stage) {
        for (std::uint64_t index = 0; index < 4; ++index) nop(stage, index);
        stage.say(stage.ring->get_sqe() ? "slot" : "full");
        stage.hear(4);
        stage.say(stage.ring->get_sqe() ? "slot" : "full");
      },
      {"full", "0:0", "1:0", "2:0", "3:0", "slot"}, {.sq_entries = 4, .cq_entries = 8});
}

TEST_CASE("ring: a completion queue that overflows loses nothing, keeps the order and says so") {
  pelton::test::Trace expected{"overflown"};
  for (int index = 0; index < 40; ++index) expected.push_back(std::to_string(index) + ":0");
  expected.emplace_back("-");
  expected.emplace_back("whole");
  agree(
      [](Stage& stage) {
        for (std::uint64_t index = 0; index < 40; ++index) {
          nop(stage, index);
          if (index % 8 == 7) CHECK(stage.ring->enter(0, nanoseconds::zero()) == 0);
        }
        CHECK(stage.ring->ready() == 8);
        CHECK(stage.ring->has_work());
        stage.say(stage.ring->overflowed() ? "overflown" : "whole");
        stage.hear(40);
        stage.hear_now();
        stage.say(stage.ring->overflowed() ? "overflown" : "whole");
      },
      expected, {.sq_entries = 8, .cq_entries = 8});
}

TEST_CASE("ring: spinning notices what arrives and gives up in time") {
  agree(
      [](Stage& stage) {
        using std::chrono::steady_clock;
        const StreamEnds ends = StreamEnds::unix_pair();
        char byte = 0;
        sqe::read(stage.sqe(1), ends.ours.get(), &byte, 1);
        stage.hear_now();
        const auto begin = steady_clock::now();
        stage.say(stage.ring->spin_until(begin + milliseconds(5)) ? "work" : "nothing");
        CHECK(steady_clock::now() - begin >= milliseconds(5));
        ends.send("x");
        const bool seen = stage.ring->spin_until(steady_clock::now() + std::chrono::seconds(10));
        stage.say(seen ? "work" : "nothing");
        stage.say(std::to_string(stage.ring->ready()));
        stage.hear_now();
      },
      {"-", "nothing", "work", "0", "1:1"});
}

// --- Receiving ---

TEST_CASE("ring: a receive goes on from message to message and ends at the end of the stream") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(8);
        StreamEnds ends = StreamEnds::unix_pair();
        stage.receive(7, ends.ours.get());
        stage.hear_now();
        for (const char* text : {"one", "two", "three"}) {
          ends.send(text);
          stage.hear(1);
        }
        ends.theirs.reset();
        stage.hear(1);
      },
      {"-", "7:3+[one]", "7:3+[two]", "7:5+[three]", "7:0"});
}

TEST_CASE("ring: what came before the receive is received first, then the end") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(8);
        StreamEnds ends = StreamEnds::unix_pair();
        ends.send("early");
        REQUIRE(shutdown(ends.theirs.get(), SHUT_WR) == 0);
        stage.receive(1, ends.ours.get());
        stage.hear(2);
        stage.receive(2, ends.ours.get());  // the end is there still
        stage.hear(1);
      },
      {"1:5+[early]", "1:0", "2:0"});
}

TEST_CASE("ring: a message and the end that come at once are two completions") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(8);
        StreamEnds ends = StreamEnds::unix_pair();
        stage.receive(1, ends.ours.get());
        stage.hear_now();
        ends.send("last");
        ends.theirs.reset();
        stage.hear(2);
      },
      {"-", "1:4+[last]", "1:0"});
}

TEST_CASE("ring: a long message takes as many buffers as it fills") {
  const std::string full(64, 'a');
  const std::string rest(22, 'b');
  agree(
      [&](Stage& stage) {
        stage.offer_buffers(8);
        const StreamEnds ends = StreamEnds::unix_pair();
        ends.send(full + full + rest);
        stage.receive(1, ends.ours.get());
        stage.hear(3);
        ends.send("next");
        stage.hear(1);
      },
      {"1:64+[" + full + "]", "1:64+[" + full + "]", "1:22+[" + rest + "]", "1:4+[next]"});
}

TEST_CASE("ring: data precede the ENOBUFS that ends a receive, and the rest stays in the socket") {
  const std::string text(128, 'a');
  agree(
      [&](Stage& stage) {
        stage.offer_buffers(2);
        const StreamEnds ends = StreamEnds::unix_pair();
        ends.send(text + "rest");
        stage.receive(1, ends.ours.get());
        stage.hear(3);
        stage.receive(2, ends.ours.get());
        stage.hear(1);
      },
      {"1:64+[" + text.substr(64) + "]", "1:64+[" + text.substr(64) + "]", code(1, ENOBUFS),
       "2:4+[rest]"});
}

TEST_CASE("ring: without a free buffer a receive fails at once, data or not") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(1);
        const StreamEnds ends = StreamEnds::unix_pair();
        ends.send(std::string(64, 'x'));
        stage.receive(1, ends.ours.get());
        const auto taken = pelton::test::collect(*stage.ring, 1);  // and perhaps an ENOBUFS at once
        REQUIRE(taken.at(0).has_buffer());
        const StreamEnds silent = StreamEnds::unix_pair();
        stage.receive(2, silent.ours.get());
        stage.hear(1);
        if (stage.trace[0] == code(1, ENOBUFS)) stage.trace.erase(stage.trace.begin());
      },
      {code(2, ENOBUFS)});
}

TEST_CASE("ring: a group that was never offered has no buffers") {
  agree(
      [](Stage& stage) {
        const StreamEnds ends = StreamEnds::unix_pair();
        ends.send("x");
        stage.receive(1, ends.ours.get());
        stage.hear(1);
      },
      {code(1, ENOBUFS)});
}

TEST_CASE("ring: what is no socket, or nothing at all, cannot be received from") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(4);
        const Pipe pipe;
        stage.receive(1, pipe.out.get());
        stage.hear(1);
        stage.receive(2, -1);
        stage.hear(1);
        stage.receive(3, 9'999);
        stage.hear(1);
      },
      {code(1, ENOTSOCK), code(2, EBADF), code(3, EBADF)});
}

TEST_CASE("ring: the cap of a pass cuts it, and that of the shot ends it") {
  const pelton::test::Trace expected{"1:4+[0123]", "1:4[4567]",  "-",
                                     "2:4+[89ab]", "2:4+[cdef]", "2:2+[gh]"};
  agree(
      [&](Stage& stage) {
        if (!stage.ring->info().recv_caps) {  // an older kernel
          stage.trace = expected;
          return;
        }
        stage.offer_buffers(8);
        const StreamEnds ends = StreamEnds::unix_pair();
        ends.send("0123456789abcdefgh");
        stage.receive(1, ends.ours.get(), 4, 8);
        stage.hear(2);
        stage.hear_now();
        stage.receive(2, ends.ours.get(), 4, 100);
        stage.hear(3);
      },
      expected);
}

TEST_CASE("ring: a flooded socket does not keep another from being heard") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(512);
        const StreamEnds flooded = StreamEnds::unix_pair();
        const StreamEnds other = StreamEnds::unix_pair();
        for (int piece = 0; piece < 100; ++piece) flooded.send(std::string(640, 'f'));
        other.send("me");
        const bool caps = stage.ring->info().recv_caps;
        stage.receive(1, flooded.ours.get(), caps ? 640 : 0);
        stage.receive(2, other.ours.get());
        for (int round = 0; round < 20; ++round) {
          static_cast<void>(stage.ring->enter(1, milliseconds(100)));
          pelton::test::Completions some;
          pelton::test::take_ready(*stage.ring, some);
          for (const auto& each : some) {
            static_cast<void>(
                stage.buffers->take(each.buffer_id(), static_cast<std::size_t>(each.res)));
            if (each.user_data == 2) return stage.say("heard");
          }
          stage.buffers->commit();
        }
      },
      {"heard"});
}

TEST_CASE("ring: messages with passed descriptors do not hide what comes after them") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(8);
        const StreamEnds ends = StreamEnds::unix_pair();
        stage.receive(1, ends.ours.get());
        stage.hear_now();
        std::array<char, CMSG_SPACE(sizeof(int))> control{};
        char letter = 'a';
        iovec piece{&letter, 1};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* const header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        const int passed = ends.theirs.get();
        std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
        REQUIRE(sendmsg(ends.theirs.get(), &message, 0) == 1);
        letter = 'b';
        REQUIRE(sendmsg(ends.theirs.get(), &message, 0) == 1);
        ends.send("c");
        stage.hear(3);
      },
      {"-", "1:1+[a]", "1:1+[b]", "1:1+[c]"}, NotSimulated{"descriptors that are passed"});
}

// --- Cancelling ---

TEST_CASE("ring: a receive that is cancelled ends once and takes no data with it") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(4);
        const StreamEnds ends = StreamEnds::unix_pair();
        stage.receive(1, ends.ours.get());
        stage.hear_now();
        stage.cancel(2, 1);
        stage.hear_in_any_order(2);
        ends.send("kept");
        stage.hear_now();
        stage.receive(3, ends.ours.get());
        stage.hear(1);
      },
      {"-", code(1, ECANCELED), "2:0", "-", "3:4+[kept]"});
}

TEST_CASE("ring: what is unknown, or over, cannot be cancelled") {
  agree(
      [](Stage& stage) {
        stage.cancel(1, 77);
        stage.hear(1);
        nop(stage, 2);
        stage.hear(1);
        stage.cancel(3, 2);
        stage.hear(1);
        const StreamEnds ends = StreamEnds::unix_pair();
        sqe::poll(stage.sqe(4), ends.ours.get(), POLLIN);
        stage.hear_now();
        stage.cancel(5, 4);
        stage.hear_in_any_order(2);
        stage.cancel(6, 4);
        stage.hear(1);
      },
      {code(1, ENOENT), "2:0", code(3, ENOENT), "-", code(4, ECANCELED), "5:0", code(6, ENOENT)});
}

TEST_CASE("ring: a cancel may follow its target in one submission") {
  agree(
      [](Stage& stage) {
        const StreamEnds ends = StreamEnds::unix_pair();
        sqe::poll(stage.sqe(1), ends.ours.get(), POLLIN);
        stage.cancel(2, 1);
        stage.hear_in_any_order(2);
      },
      {code(1, ECANCELED), "2:0"});
}

TEST_CASE("ring: of several operations on one socket the one that is named is cancelled") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(4);
        const StreamEnds ends = StreamEnds::unix_pair();
        sqe::poll(stage.sqe(1), ends.ours.get(), POLLIN);
        stage.receive(2, ends.ours.get());
        sqe::poll(stage.sqe(3), ends.ours.get(), POLLRDHUP);
        stage.hear_now();
        stage.cancel(4, 2);
        stage.hear_in_any_order(2);
        ends.send("x");
        stage.tell = told_events;
        stage.hear(1);
        stage.cancel(5, 3);
        stage.hear_in_any_order(2);
      },
      {"-", code(2, ECANCELED), "4:0", "1:in ", code(3, ECANCELED), "5:"});
}

TEST_CASE("ring: a descriptor that was closed after a cancel is free for its next owner at once") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(4);
        StreamEnds old = StreamEnds::unix_pair();
        const int number = old.ours.get();
        sqe::poll(stage.sqe(1), number, POLLIN);
        stage.hear_now();
        stage.cancel(2, 1);
        old.ours.reset();
        const StreamEnds ends = StreamEnds::unix_pair();  // both ends of the new pair fit
        REQUIRE(ends.ours.get() == number);
        stage.receive(3, number);
        stage.hear_in_any_order(2);
        ends.send("new");
        stage.hear(1);
      },
      {"-", code(1, ECANCELED), "2:0", "3:3+[new]"});
}

TEST_CASE("ring: a number that is used again and again is heard each time") {
  pelton::test::Trace expected;
  for (int round = 0; round < 50; ++round) {
    expected.emplace_back("1:1+[x]");
    expected.emplace_back("1:0");
  }
  agree(
      [](Stage& stage) {
        stage.offer_buffers(4);
        for (int round = 0; round < 50; ++round) {
          StreamEnds ends = StreamEnds::unix_pair();
          stage.receive(1, ends.ours.get());
          ends.send("x");
          stage.hear(1);
          ends.theirs.reset();
          stage.hear(1);
        }
      },
      expected);
}

// --- Files and polling ---

TEST_CASE("ring: a read of a pipe waits for data and meets its end") {
  agree(
      [](Stage& stage) {
        Pipe pipe;
        std::array<char, 8> data{};
        sqe::read(stage.sqe(1), pipe.out.get(), data.data(), data.size());
        stage.hear_now();
        pipe.write("four");
        stage.hear(1);
        stage.say(std::string(data.data(), 4));
        pipe.in.reset();
        sqe::read(stage.sqe(2), pipe.out.get(), data.data(), data.size());
        stage.hear(1);
      },
      {"-", "1:4", "four", "2:0"});
}

TEST_CASE("ring: a read of an eventfd takes its count, each time that it has one") {
  agree(
      [](Stage& stage) {
        const OwnedFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        std::uint64_t count = 0;
        for (std::uint64_t round = 1; round <= 3; ++round) {
          sqe::read(stage.sqe(round), event.get(), &count, sizeof count);
          stage.hear_now();
          REQUIRE(::write(event.get(), &round, sizeof round) == sizeof round);
          stage.hear(1);
          stage.say(std::to_string(count));
        }
      },
      {"-", "1:8", "1", "-", "2:8", "2", "-", "3:8", "3"});
}

TEST_CASE("ring: a read of a blocking descriptor does not block") {
  agree(
      [](Stage& stage) {
        const OwnedFd event(eventfd(0, EFD_CLOEXEC));
        std::uint64_t count = 0;
        sqe::read(stage.sqe(1), event.get(), &count, sizeof count);
        stage.hear_now();
        stage.cancel(2, 1);
        const auto ended = pelton::test::collect(*stage.ring, 2);
        stage.say(std::to_string(ended.size()));
      },
      {"-", "2"});
}

TEST_CASE("ring: a regular file is read and polled at once") {
  agree(
      [](Stage& stage) {
        const OwnedFd file(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
        std::array<char, 5> data{};
        sqe::read(stage.sqe(1), file.get(), data.data(), data.size());
        stage.hear(1);
        stage.say(std::string(data.data(), data.size()));
        io_uring_sqe& at_offset = stage.sqe(2);
        sqe::read(at_offset, file.get(), data.data(), 3);
        at_offset.off = 1;
        stage.hear(1);
        stage.say(std::string(data.data(), data.size()));
        sqe::poll(stage.sqe(3), file.get(), POLLIN);
        stage.tell = told_events;
        stage.hear(1);
      },
      {"1:5", "Name:", "2:3", "amee:", "3:in "}, NotSimulated{"regular files"});
}

TEST_CASE("ring: reads and polls of nothing are told as such") {
  agree(
      [](Stage& stage) {
        char byte = 0;
        sqe::read(stage.sqe(1), -1, &byte, 1);
        stage.hear(1);
        sqe::poll(stage.sqe(2), -1, POLLIN);
        stage.hear(1);
        sqe::poll(stage.sqe(3), 9'999, POLLIN);
        stage.hear(1);
      },
      {code(1, EBADF), code(2, EBADF), code(3, EBADF)});
}

TEST_CASE("ring: a poll tells what it was asked for, once") {
  agree(
      [](Stage& stage) {
        stage.tell = told_events;
        StreamEnds ends = StreamEnds::unix_pair();
        sqe::poll(stage.sqe(1), ends.ours.get(), POLLOUT);
        stage.hear(1);
        sqe::poll(stage.sqe(2), ends.ours.get(), POLLIN | POLLRDHUP);
        stage.hear_now();
        ends.send("x");
        stage.hear(1);
        ends.send("y");
        stage.hear_now();
        sqe::poll(stage.sqe(3), ends.ours.get(), POLLRDHUP);
        stage.hear_now();
        ends.theirs.reset();
        stage.hear(1);
      },
      {"1:out ", "-", "2:in ", "-", "-", "3:end "});
}
