// What any ring must answer, II: sending, accepting, connecting, and TCP's own ways.
//
// Each case is a script that runs on every ring, with one expectation. Neighbours:
// support/ring_stage.hpp tells how completions are written down; ring_conformance_test is part I.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/un.h>

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

namespace sqe = pelton::sqe;

namespace {

constexpr std::size_t large = 1 << 20;

/// "file" for a descriptor, which is closed.
std::string tell_descriptor(int res) {
  if (res < 0) return std::to_string(res);
  const OwnedFd file(res);
  const bool as_asked = fcntl(res, F_GETFD) == FD_CLOEXEC && (fcntl(res, F_GETFL) & O_NONBLOCK);
  return as_asked ? "file" : "another kind of file";
}

/// "part" for a send that did not finish.
std::string tell_part(int res) {
  return res > 0 && static_cast<std::size_t>(res) < large ? "part" : std::to_string(res);
}

struct TcpListener {
  TcpListener() {
    auto made = pelton::open_socket(AF_INET, SOCK_STREAM);
    REQUIRE(made);
    socket = std::move(*made);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(bind(socket.get(), name(), size) == 0);
    REQUIRE(getsockname(socket.get(), name(), &size) == 0);
  }
  void listen(int backlog = 16) const { REQUIRE(::listen(socket.get(), backlog) == 0); }
  [[nodiscard]] OwnedFd client() {
    OwnedFd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(made.get(), name(), size) == 0);
    return made;
  }
  /// A connection: the ring's end was accepted.
  [[nodiscard]] StreamEnds connection() {
    listen();
    StreamEnds ends;
    ends.theirs = client();
    ends.ours = OwnedFd(accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    REQUIRE(ends.ours);
    return ends;
  }
  [[nodiscard]] sockaddr* name() { return reinterpret_cast<sockaddr*>(&address); }
  OwnedFd socket;
  sockaddr_in address{};
  socklen_t size = sizeof address;
};

void reset(OwnedFd& socket) {
  const linger now{1, 0};
  REQUIRE(setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
  socket.reset();
}

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t index = 0; index < size; ++index) text[index] = static_cast<char>(index % 251);
  return text;
}

/// Reads at the world's end until one completion is there, and writes that down.
std::string drain_until_sent(Stage& stage, const StreamEnds& ends) {
  std::string received;
  for (int round = 0; round < 100'000 && stage.ring->ready() == 0; ++round) {
    received += ends.receive();
    static_cast<void>(stage.ring->enter(1, milliseconds(1)));
  }
  stage.hear(1);
  return received + ends.receive();
}

}  // namespace

// --- Sending ---

TEST_CASE("ring: a send that fits is done at once") {
  agree(
      [](Stage& stage) {
        const StreamEnds ends = StreamEnds::unix_pair();
        sqe::send(stage.sqe(1), ends.ours.get(), "hello", 5);
        CHECK(stage.ring->submit() == 0);
        stage.say(ends.receive());
        stage.hear(1);
      },
      {"hello", "1:5"});
}

TEST_CASE("ring: a large send ends when all of it is sent") {
  const std::string text = pattern(large);
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    agree(
        [&](Stage& stage) {
          TcpListener listener;
          const StreamEnds ends = tcp ? listener.connection() : StreamEnds::unix_pair();
          sqe::send(stage.sqe(1), ends.ours.get(), text.data(), large);
          CHECK(drain_until_sent(stage, ends) == text);
        },
        {"1:" + std::to_string(large)});
  }
}

TEST_CASE("ring: pieces are sent in their order, however the socket takes them") {
  const std::string text = pattern(large);
  agree(
      [&](Stage& stage) {
        const StreamEnds ends = StreamEnds::unix_pair();
        std::array<iovec, 5> pieces{};
        std::size_t from = 0;
        for (std::size_t index = 0; index < pieces.size(); ++index) {
          const std::size_t size = index == 4 ? large - from : index * 100'001;  // one is empty
          pieces[index] = {const_cast<char*>(text.data()) + from, size};
          from += size;
        }
        msghdr message{};
        message.msg_iov = pieces.data();
        message.msg_iovlen = pieces.size();
        sqe::sendmsg(stage.sqe(1), ends.ours.get(), &message);
        CHECK(drain_until_sent(stage, ends) == text);
      },
      {"1:" + std::to_string(large)});
}

TEST_CASE("ring: a send to nobody is a broken pipe and no signal") {
  agree(
      [](Stage& stage) {
        StreamEnds ends = StreamEnds::unix_pair();
        ends.theirs.reset();
        sqe::send(stage.sqe(1), ends.ours.get(), "x", 1);
        stage.hear(1);
        iovec piece{const_cast<char*>("x"), 1};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        sqe::sendmsg(stage.sqe(2), ends.ours.get(), &message);
        stage.hear(1);
      },
      {code(1, EPIPE), code(2, EPIPE)});
}

TEST_CASE("ring: a send after the end was sent is a broken pipe") {
  agree(
      [](Stage& stage) {
        const StreamEnds ends = StreamEnds::unix_pair();
        REQUIRE(shutdown(ends.ours.get(), SHUT_WR) == 0);
        sqe::send(stage.sqe(1), ends.ours.get(), "x", 1);
        stage.hear(1);
        sqe::send(stage.sqe(2), -1, "x", 1);
        stage.hear(1);
      },
      {code(1, EPIPE), code(2, EBADF)});
}

TEST_CASE("ring: a peer that leaves midway cuts a send short, and the next one is refused") {
  const std::string text = pattern(large);
  agree(
      [&](Stage& stage) {
        stage.tell = tell_part;
        StreamEnds ends = StreamEnds::unix_pair();
        sqe::send(stage.sqe(1), ends.ours.get(), text.data(), large);
        stage.hear_now();
        ends.theirs.reset();
        stage.hear(1);
        sqe::send(stage.sqe(2), ends.ours.get(), text.data(), large);
        stage.hear(1);
      },
      {"-", "1:part", code(2, EPIPE)});
}

TEST_CASE("ring: a send that is cancelled tells what was sent") {
  const std::string text = pattern(large);
  agree(
      [&](Stage& stage) {
        stage.tell = tell_part;
        const StreamEnds ends = StreamEnds::unix_pair();
        sqe::send(stage.sqe(1), ends.ours.get(), text.data(), large);
        stage.hear_now();
        stage.cancel(2, 1);
        stage.hear_in_any_order(2);
      },
      {"-", "1:part", "2:0"});
}

TEST_CASE("ring: a socket is received from while a send waits for room") {
  const std::string text = pattern(large);
  agree(
      [&](Stage& stage) {
        stage.offer_buffers(8);
        const StreamEnds ends = StreamEnds::unix_pair();
        stage.receive(1, ends.ours.get());
        sqe::send(stage.sqe(2), ends.ours.get(), text.data(), large);
        stage.hear_now();
        ends.send("in between");
        stage.hear(1);
        CHECK(drain_until_sent(stage, ends) == text);
        ends.send("after");
        stage.hear(1);
      },
      {"-", "1:10+[in between]", "2:" + std::to_string(large), "1:5+[after]"});
}

// --- Accepting ---

TEST_CASE("ring: an accept takes those who wait and those who come") {
  agree(
      [](Stage& stage) {
        stage.tell = tell_descriptor;
        TcpListener listener;
        listener.listen();
        const OwnedFd first = listener.client();
        const OwnedFd second = listener.client();
        sqe::accept_multishot(stage.sqe(1), listener.socket.get());
        stage.hear(2);
        const OwnedFd third = listener.client();
        stage.hear(1);
        stage.cancel(2, 1);
        stage.tell = [](int res) { return std::to_string(res); };
        stage.hear_in_any_order(2);
      },
      {"1:file+", "1:file+", "1:file+", code(1, ECANCELED), "2:0"});
}

TEST_CASE("ring: an accept ends with the listener, and where there is none") {
  agree(
      [](Stage& stage) {
        TcpListener listener;
        sqe::accept_multishot(stage.sqe(1), listener.socket.get());
        stage.hear(1);
        listener.listen();
        sqe::accept_multishot(stage.sqe(2), listener.socket.get());
        stage.hear_now();
        REQUIRE(shutdown(listener.socket.get(), SHUT_RDWR) == 0);
        stage.hear(1);
        sqe::accept_multishot(stage.sqe(3), -1);
        stage.hear(1);
      },
      {code(1, EINVAL), "-", code(2, EINVAL), code(3, EBADF)});
}

TEST_CASE("ring: without a descriptor an accept ends, and leaves the connection in the queue") {
  agree(
      [](Stage& stage) {
        stage.tell = tell_descriptor;
        TcpListener listener;
        listener.listen();
        const OwnedFd client = listener.client();
        rlimit before{};
        REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
        const rlimit none{3, before.rlim_max};
        REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
        sqe::accept_multishot(stage.sqe(1), listener.socket.get());
        stage.hear(1);
        REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
        sqe::accept_multishot(stage.sqe(2), listener.socket.get());
        stage.hear(1);
      },
      {code(1, EMFILE), "2:file+"});
}

TEST_CASE("ring: an accept that meets a full completion queue ends with a connection") {
  agree(
      [](Stage& stage) {
        stage.tell = tell_descriptor;
        TcpListener listener;
        listener.listen();
        std::vector<OwnedFd> clients;
        for (int index = 0; index < 8; ++index) clients.push_back(listener.client());
        sqe::accept_multishot(stage.sqe(1), listener.socket.get());
        stage.hear(5);
      },
      {"1:file+", "1:file+", "1:file+", "1:file+", "1:file"}, {.sq_entries = 4, .cq_entries = 4});
}

// --- Connecting ---

TEST_CASE("ring: a connect succeeds, or tells why not") {
  agree(
      [](Stage& stage) {
        TcpListener listener;
        const auto fresh = [] { return std::move(*pelton::open_socket(AF_INET, SOCK_STREAM)); };
        const OwnedFd refused = fresh();
        sqe::connect(stage.sqe(1), refused.get(), listener.name(), listener.size);
        stage.hear(1);
        listener.listen();
        const OwnedFd connected = fresh();
        sqe::connect(stage.sqe(2), connected.get(), listener.name(), listener.size);
        stage.hear(1);
        sqe::connect(stage.sqe(3), connected.get(), listener.name(), listener.size);
        stage.hear(1);
        sqe::connect(stage.sqe(4), -1, listener.name(), listener.size);
        stage.hear(1);
      },
      {code(1, ECONNREFUSED), "2:0", code(3, EISCONN), code(4, EBADF)});
}

TEST_CASE("ring: a blocking socket connects and is blocking still") {
  agree(
      [](Stage& stage) {
        TcpListener listener;
        listener.listen();
        const OwnedFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sqe::connect(stage.sqe(1), socket.get(), listener.name(), listener.size);
        stage.hear(1);
        stage.say(fcntl(socket.get(), F_GETFL) & O_NONBLOCK ? "changed" : "blocking");
      },
      {"1:0", "blocking"});
}

TEST_CASE("ring: a connect to a path without a listener is told as such") {
  agree(
      [](Stage& stage) {
        const auto socket = pelton::open_socket(AF_UNIX, SOCK_STREAM);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::string("/nonexistent/pelton").copy(address.sun_path, sizeof address.sun_path - 1);
        sqe::connect(stage.sqe(1), socket->get(), reinterpret_cast<sockaddr*>(&address),
                     sizeof address);
        stage.hear(1);
      },
      {code(1, ENOENT)});
}

TEST_CASE("ring: a connect sends and receives on the number that it connected") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(4);
        TcpListener listener;
        listener.listen();
        StreamEnds ends;
        ends.ours = std::move(*pelton::open_socket(AF_INET, SOCK_STREAM));
        sqe::connect(stage.sqe(1), ends.ours.get(), listener.name(), listener.size);
        stage.hear(1);
        ends.theirs = OwnedFd(accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
        stage.receive(2, ends.ours.get());
        sqe::send(stage.sqe(3), ends.ours.get(), "there", 5);
        stage.hear(1);
        ends.send("back");
        stage.hear(1);
      },
      {"1:0", "3:5", "2:4+[back]"});
}

// --- TCP ---

TEST_CASE("ring: a reset ends a receive with its error") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(4);
        TcpListener listener;
        StreamEnds ends = listener.connection();
        stage.receive(1, ends.ours.get());
        stage.hear_now();
        reset(ends.theirs);
        stage.hear(1);
        sqe::send(stage.sqe(2), ends.ours.get(), "x", 1);
        stage.hear(1);
      },
      {"-", code(1, ECONNRESET), code(2, EPIPE)});
}

TEST_CASE("ring: a reset is told also where the data before it took the last buffer") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(1);
        TcpListener listener;
        StreamEnds ends = listener.connection();
        stage.receive(1, ends.ours.get());
        stage.hear_now();
        ends.send("data");
        reset(ends.theirs);
        stage.hear(2);
        if (stage.trace.back() != code(1, ENOBUFS)) return;  // a ring may look for more at once
        stage.trace.pop_back();
        stage.receive(1, ends.ours.get());
        stage.hear(1);
      },
      {"-", "1:4+[data]", code(1, ECONNRESET)});
}

TEST_CASE("ring: what follows urgent data is received without more being sent") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(8);
        TcpListener listener;
        const StreamEnds ends = listener.connection();
        stage.receive(1, ends.ours.get());
        stage.hear_now();
        ends.send("before");
        ends.send("!", MSG_OOB);
        ends.send("after");
        stage.hear(2);
      },
      {"-", "1:6+[before]", "1:5+[after]"}, NotSimulated{"urgent data"});
}

TEST_CASE("ring: a half-closed connection ends one direction") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(4);
        TcpListener listener;
        const StreamEnds ends = listener.connection();
        stage.receive(1, ends.ours.get());
        ends.send("request");
        stage.hear(1);
        REQUIRE(shutdown(ends.theirs.get(), SHUT_WR) == 0);
        stage.hear(1);
        sqe::send(stage.sqe(2), ends.ours.get(), "answer", 6);
        stage.hear(1);
        pollfd readable{ends.theirs.get(), POLLIN, 0};
        REQUIRE(poll(&readable, 1, 5'000) == 1);
        stage.say(ends.receive());
      },
      {"1:7+[request]", "1:0", "2:6", "answer"});
}

TEST_CASE("ring: a poll respects the low-water mark, and hears of its lowering") {
  agree(
      [](Stage& stage) {
        TcpListener listener;
        const StreamEnds ends = listener.connection();
        const auto low_water = [&](int bytes) {
          REQUIRE(setsockopt(ends.ours.get(), SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) == 0);
        };
        low_water(1000);
        sqe::poll(stage.sqe(1), ends.ours.get(), POLLIN | POLLRDHUP);
        stage.hear_now();
        ends.send("little");
        CHECK(stage.is_quiet(milliseconds(20)));
        low_water(1);
        stage.tell = [](int res) { return std::string(res & POLLIN ? "in" : "nothing"); };
        stage.hear(1);
      },
      {"-", "1:in"});
}
