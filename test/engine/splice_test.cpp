// Pipes and splice(2): bytes through, would-block, the end, the low-water mark, no descriptors.
//
// Neighbours: engine/splice.hpp.
#include <pelton/engine/splice.hpp>

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>

#include <support/sockets.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

constexpr std::size_t pipe_bytes = 1024 * 1024;

}  // namespace

TEST_CASE("bytes go from a socket through a pipe into another, in order") {
  auto from = tcp_sockets();
  auto to = tcp_sockets();
  const SplicePipe pipe = must(SplicePipe::open(pipe_bytes));
  const std::string data = test::pattern(0, 100'000);
  REQUIRE(write_available(from.second, data) == data.size());
  std::string received;
  while (received.size() < data.size()) {
    wait_ready(from.first.get(), POLLIN);
    std::size_t held = must(splice_from(from.first.get(), pipe, pipe_bytes));
    REQUIRE(held > 0);
    while (held > 0) held -= must(splice_to(to.first.get(), pipe, held));
    wait_ready(to.second.get(), POLLIN);
    received += read_available(to.second);
    if (received.size() == data.size()) break;
  }
  CHECK(is_pattern(received, 0));
  CHECK(splice_from(from.first.get(), pipe, pipe_bytes).error() == errno_code(EAGAIN));
  from.second.reset();
  wait_ready(from.first.get(), POLLIN);
  CHECK(must(splice_from(from.first.get(), pipe, pipe_bytes)) == 0);
  CHECK(must(splice_from(from.first.get(), pipe, pipe_bytes)) == 0);  // however often it is asked
}

TEST_CASE("a reset is an error, and writing to it too") {
  auto from = tcp_sockets();
  auto to = tcp_sockets();
  std::signal(SIGPIPE, SIG_IGN);
  CHECK(broken_pipe_ignored());
  const SplicePipe pipe = must(SplicePipe::open(pipe_bytes));
  REQUIRE(write_available(from.second, "bytes") == 5);
  wait_ready(from.first.get(), POLLIN);
  REQUIRE(must(splice_from(from.first.get(), pipe, pipe_bytes)) == 5);
  reset_connection(to.second);
  wait_ready(to.first.get(), POLLIN);
  CHECK_FALSE(splice_to(to.first.get(), pipe, 5).has_value());
  reset_connection(from.second);
  wait_ready(from.first.get(), POLLIN);
  CHECK(splice_from(from.first.get(), pipe, pipe_bytes).error() == errno_code(ECONNRESET));
}

TEST_CASE("below the low-water mark a socket is not readable, at its end it is") {
  auto sockets = tcp_sockets();
  const auto readable = [&](int timeout_ms) {
    pollfd one{sockets.first.get(), POLLIN, 0};
    return ::poll(&one, 1, timeout_ms) == 1;
  };
  CHECK(must(set_receive_low_water(sockets.first.get(), 16 * 1024)) == 16 * 1024);
  REQUIRE(write_available(sockets.second, "little") == 6);
  CHECK_FALSE(readable(20));
  CHECK(must(set_receive_low_water(sockets.first.get(), 1)) == 1);
  CHECK(readable(0));
  CHECK(must(set_receive_low_water(sockets.first.get(), 16 * 1024)) == 16 * 1024);
  CHECK_FALSE(readable(0));
  REQUIRE(write_available(sockets.second, std::string(16 * 1024, 'x')) == 16 * 1024);
  CHECK(readable(1000));
  CHECK(read_available(sockets.first).size() == 16 * 1024 + 6);
  sockets.second.reset();
  CHECK(readable(1000));
}

TEST_CASE("what is in a pipe can be read as well") {
  auto from = tcp_sockets();
  const SplicePipe pipe = must(SplicePipe::open(pipe_bytes));
  REQUIRE(write_available(from.second, "into memory") == 11);
  wait_ready(from.first.get(), POLLIN);
  REQUIRE(must(splice_from(from.first.get(), pipe, pipe_bytes)) == 11);
  std::string text(11, ' ');
  must(read_from(pipe, reinterpret_cast<std::byte*>(text.data()), 4));
  must(read_from(pipe, reinterpret_cast<std::byte*>(text.data()) + 4, 7));
  CHECK(text == "into memory");
  CHECK(read_from(pipe, reinterpret_cast<std::byte*>(text.data()), 1).error() ==
        errno_code(EAGAIN));
}

TEST_CASE("the low-water mark does not make the receive buffer grow") {
  auto sockets = tcp_sockets();
  const auto room = [&] {
    int bytes = 0;
    socklen_t size = sizeof bytes;
    REQUIRE(::getsockopt(sockets.first.get(), SOL_SOCKET, SO_RCVBUF, &bytes, &size) == 0);
    return bytes;
  };
  const int before = room();
  const std::size_t set = must(set_receive_low_water(sockets.first.get(), std::size_t{1} << 30));
  CHECK(set == static_cast<std::size_t>(before) / 4);
  CHECK(room() == before);
}

TEST_CASE("no pipe without descriptors, nor of a size that the system does not allow") {
  const int before = open_descriptors();
  CHECK_FALSE(SplicePipe::open(std::size_t{1} << 31).has_value());
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit none{0, limit.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const auto refused = SplicePipe::open(pipe_bytes);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error() == errno_code(EMFILE));
  CHECK(open_descriptors() == before);
}
