// What any ring must answer, III: receives and accepts that are not multishot, for kernels whose
// multishot has failed the start-up probe.
//
// Each case is a script that runs on every ring. Neighbours: ring_conformance_test is part I.
#include <doctest/doctest.h>

#include <cerrno>
#include <string>

#include <support/ring_stage.hpp>

using pelton::OwnedFd;
using pelton::test::agree;
using pelton::test::Stage;
using pelton::test::StreamEnds;

namespace sqe = pelton::sqe;

namespace {

void receive_once(Stage& stage, std::uint64_t user_data, int fd) {
  sqe::recv_once(stage.sqe(user_data), fd, Stage::group_id);
}

}  // namespace

TEST_CASE("ring: a receive that is not multishot ends with one buffer") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(4);
        const StreamEnds ends = StreamEnds::unix_pair();
        receive_once(stage, 1, ends.ours.get());
        stage.hear_now();
        ends.send("one");
        stage.hear(1);
        ends.send(std::string(70, 'x'));
        stage.hear_now();
        receive_once(stage, 2, ends.ours.get());
        stage.hear(1);
        receive_once(stage, 3, ends.ours.get());
        stage.hear(1);
      },
      {"-", "1:3[one]", "-", "2:64[" + std::string(64, 'x') + "]", "3:6[xxxxxx]"});
}

TEST_CASE("ring: a receive that is not multishot tells the end, and a cancel") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(4);
        const StreamEnds ends = StreamEnds::unix_pair();
        receive_once(stage, 1, ends.ours.get());
        stage.hear_now();
        stage.cancel(2, 1);
        stage.hear_in_any_order(2);
        ends.send("last");
        REQUIRE(shutdown(ends.theirs.get(), SHUT_WR) == 0);
        receive_once(stage, 3, ends.ours.get());
        stage.hear(1);
        receive_once(stage, 4, ends.ours.get());
        stage.hear(1);
      },
      {"-", "1:" + std::to_string(-ECANCELED), "2:0", "3:4[last]", "4:0"});
}

TEST_CASE("ring: a receive that is not multishot finds no buffer for what is there") {
  agree(
      [](Stage& stage) {
        stage.offer_buffers(1);
        const StreamEnds ends = StreamEnds::unix_pair();
        ends.send(std::string(64, 'x') + "left");
        receive_once(stage, 1, ends.ours.get());
        receive_once(stage, 2, ends.ours.get());
        stage.hear(2);
        receive_once(stage, 3, ends.ours.get());
        stage.hear(1);
      },
      {"1:64[" + std::string(64, 'x') + "]", "2:" + std::to_string(-ENOBUFS), "3:4[left]"});
}

TEST_CASE("ring: an accept that is not multishot ends with one connection") {
  agree(
      [](Stage& stage) {
        stage.tell = [](int res) {
          const OwnedFd file(res);
          return res < 0 ? std::to_string(res) : "file";
        };
        auto listener = pelton::open_socket(AF_INET, SOCK_STREAM);
        REQUIRE(listener);
        REQUIRE(pelton::bind_socket(listener->get(),
                                    *pelton::SocketAddress::parse_numeric("127.0.0.1", 0)));
        REQUIRE(pelton::listen_socket(listener->get(), 8));
        const auto address = pelton::local_address(listener->get());
        const auto dial = [&] {
          OwnedFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
          REQUIRE(::connect(client.get(), address->data(), address->size()) == 0);
          return client;
        };
        sqe::accept_once(stage.sqe(1), listener->get());
        stage.hear_now();
        const OwnedFd first = dial();
        stage.hear(1);
        const OwnedFd second = dial();
        stage.hear_now();
        sqe::accept_once(stage.sqe(2), listener->get());
        stage.hear(1);
      },
      {"-", "1:file", "-", "2:file"});
}
