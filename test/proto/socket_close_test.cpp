// SocketTransport: close, abort and reset, in every state of reading and sending.
#include <pelton/proto/socket_transport.hpp>

#include <doctest/doctest.h>

#include <support/transports.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;

Bytes bytes_of(std::size_t size) { return Bytes::adopt(pattern(0, size)); }

/// Everything that `peer` gets until its input ends, while the loop runs.
std::string read_to_end(Loop& loop, const OwnedFd& peer, std::size_t at_once) {
  std::string got;
  CHECK(run_until(loop, [&] {
    got += read_available(peer, at_once);
    return peek(peer) == 0;
  }));
  return got;
}

TEST_CASE("close sends the whole queue to a slow reader before the connection is lost") {
  for (const bool tcp : {false, true}) {
    Loop loop(small_options());
    Connection one;
    one.open(loop, tcp ? small_tcp_sockets() : small_unix_sockets());
    run_turns(loop, 2);
    for (int index = 0; index < 3; ++index) one.transport->write(bytes_of(100'000));
    one.transport->close();
    CHECK(one.transport->is_closing());
    run_for(loop, std::chrono::milliseconds(10));
    CHECK_FALSE(one.lost());
    const std::string one_part = pattern(0, 100'000);
    CHECK(read_to_end(loop, one.peer, 3'000) == one_part + one_part + one_part);
    CHECK(run_until(loop, [&] { return one.lost(); }));
    CHECK_FALSE(one.protocol->failure);
    CHECK_FALSE(is_open(one.protocol->fd));
    CHECK(one.protocol->violations.empty());
  }
}

TEST_CASE("a closing transport reads no more") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, small_unix_sockets());
  run_turns(loop, 2);
  one.transport->write(bytes_of(200'000));
  run_turns(loop, 2);
  one.transport->close();
  write_available(one.peer, "unheard");
  run_turns(loop, 5);
  write_available(one.peer, "unheard");
  run_turns(loop, 5);
  CHECK(one.protocol->count("data") == 0);
  CHECK(read_to_end(loop, one.peer, 1 << 20).size() == 200'000);
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->count("data") == 0);
}

TEST_CASE("close is idempotent and calls nothing by itself") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 2);
  one.transport->close();
  one.transport->close();
  CHECK_FALSE(one.lost());
  CHECK(run_until(loop, [&] { return one.lost(); }));
  one.transport->close();
  one.transport->abort();
  one.transport->write_eof();
  run_turns(loop, 5);
  CHECK(one.protocol->story() == "made lost");
  CHECK(one.transport->ref_count() == 1);  // ours alone
}

TEST_CASE("close and abort before the beginning still tell of it") {
  Loop loop(small_options());
  Connection closed;
  closed.open(loop);
  closed.transport->close();
  Connection aborted;
  aborted.open(loop);
  aborted.transport->abort();
  CHECK(run_until(loop, [&] { return closed.lost() && aborted.lost(); }));
  CHECK(closed.protocol->story() == "made lost");
  CHECK(aborted.protocol->story() == "made lost");
  CHECK(loop.stats().recv_submitted == 0);
}

TEST_CASE("abort drops the queue, what is with the kernel and what is not") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, small_unix_sockets());
  run_turns(loop, 2);
  one.transport->write(bytes_of(500'000));
  run_turns(loop, 3);  // the send is in flight and cannot end
  one.transport->write(bytes_of(1'000));
  CHECK(loop.operations_in_flight() == idle_operations + 2);
  one.transport->abort();
  CHECK(one.transport->is_closing());
  CHECK_FALSE(one.lost());
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK_FALSE(one.protocol->failure);
  CHECK(one.transport->get_write_buffer_size() == 0);
  CHECK(loop.operations_in_flight() == idle_operations);
  CHECK(read_to_end(loop, one.peer, 1 << 20).size() < 500'000);
}

TEST_CASE("abort ends a close that waits for a peer who reads nothing") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, small_tcp_sockets());
  run_turns(loop, 2);
  one.transport->write(bytes_of(8 << 20));
  one.transport->close();
  run_for(loop, std::chrono::milliseconds(5));
  CHECK_FALSE(one.lost());
  one.transport->abort();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK_FALSE(one.protocol->failure);
  CHECK(one.protocol->count("lost") == 1);
}

TEST_CASE("abort in the turn of a write sends nothing") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 2);
  one.transport->write(bytes_of(100));
  one.transport->abort();
  CHECK(one.transport->get_write_buffer_size() == 0);
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(loop.stats().send_submitted == 0);
  CHECK(peek(one.peer) == 0);
}

TEST_CASE("a connection whose peer ended first is closed without a cancel") {
  Loop loop(small_options());
  Connection one;
  one.protocol->on_data = [&](const Bytes& data) { one.transport->write(data); };
  one.protocol->on_eof = [&] {
    one.transport->close();
    return true;
  };
  one.open(loop, tcp_sockets());
  CHECK(write_available(one.peer, "the only message") == 16);
  CHECK(run_until(loop, [&] { return loop.stats().bytes_sent == 16; }));
  CHECK(shutdown_socket(one.peer.get(), SHUT_WR).has_value());
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->story() == "made data eof lost");
  CHECK(loop.stats().cancel_submitted == 0);
  CHECK(read_available(one.peer, 16) == "the only message");
  CHECK(peek(one.peer) == 0);  // an end, not a reset
}

TEST_CASE("close resets a peer whose bytes were not read, and only such a peer") {
  for (const bool unread : {false, true}) {
    Loop loop(small_options());
    Connection one;
    one.protocol->on_made = [](Transport& transport) { transport.pause_reading(); };
    one.open(loop, tcp_sockets());
    run_turns(loop, 2);
    if (unread) CHECK(write_available(one.peer, "nobody reads this") == 17);
    one.transport->close();
    CHECK(run_until(loop, [&] { return one.lost(); }));
    CHECK_FALSE(one.protocol->failure);
    CHECK(peek(one.peer) == (unread ? -ECONNRESET : 0));
  }
}

TEST_CASE("a reset by the peer is what the connection is lost to") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, tcp_sockets());
  run_turns(loop, 3);
  reset_connection(one.peer);
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->failure.code() == errno_code(ECONNRESET));
  CHECK(is_a<ConnectionResetError>(one.protocol->failure.exception()));
  CHECK(one.protocol->story() == "made lost");
  CHECK(loop.operations_in_flight() == idle_operations);
}

TEST_CASE("a reset before the beginning is told after it") {
  Loop loop(small_options());
  Connection one;
  auto sockets = tcp_sockets();
  write_available(sockets.second, "lost with it");
  reset_connection(sockets.second);
  one.open(loop, std::move(sockets));
  one.transport->write(bytes_of(10));
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->failure);
  CHECK(one.protocol->violations.empty());
}

TEST_CASE("a reset during a send is never taken for the end of the input") {
  Loop loop(small_options());
  for (int round = 0; round < 20; ++round) {
    Connection one;
    one.open(loop, small_tcp_sockets());
    run_turns(loop, 2);
    one.transport->write(bytes_of(4 << 20));
    run_for(loop, std::chrono::milliseconds(2));
    if (round % 2 == 0) read_available(one.peer, 10'000);
    one.transport->write(bytes_of(100));
    reset_connection(one.peer);
    CHECK(run_until(loop, [&] { return one.lost(); }));
    const std::error_code code = one.protocol->failure.code();
    CHECK((code == errno_code(ECONNRESET) || code == errno_code(EPIPE)));
    CHECK(one.protocol->story() == "made pause lost");
    CHECK(loop.operations_in_flight() == idle_operations);
  }
}

TEST_CASE("the end of a unix peer that left bytes unread is not taken for the end of the input") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, small_unix_sockets());
  run_turns(loop, 2);
  one.transport->write(bytes_of(4 << 20));
  run_for(loop, std::chrono::milliseconds(2));
  one.peer.reset();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->story() == "made pause lost");
  CHECK(one.protocol->failure);
}

TEST_CASE("the end of the input during a send is one although the send is slow") {
  Loop loop(small_options());
  Connection one;
  one.protocol->keep_open = true;
  one.open(loop, small_tcp_sockets());
  run_turns(loop, 2);
  one.transport->write(bytes_of(1 << 20));
  run_for(loop, std::chrono::milliseconds(2));
  must(shutdown_socket(one.peer.get(), SHUT_WR));
  CHECK(run_until(loop, [&] { return one.protocol->count("eof") == 1; }));
  one.transport->close();
  CHECK(read_to_end(loop, one.peer, 1 << 20) == pattern(0, 1 << 20));
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK_FALSE(one.protocol->failure);
}

TEST_CASE("a reset during a close that waits for its queue is what the connection is lost to") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, small_tcp_sockets());
  run_turns(loop, 2);
  one.transport->write(bytes_of(4 << 20));
  one.transport->close();
  run_for(loop, std::chrono::milliseconds(5));
  reset_connection(one.peer);
  CHECK(run_until(loop, [&] { return one.lost(); }));
  const std::error_code code = one.protocol->failure.code();
  CHECK((code == errno_code(ECONNRESET) || code == errno_code(EPIPE)));
  CHECK(one.protocol->count("lost") == 1);
}

TEST_CASE("a transport that does not read learns of a reset when it writes") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, tcp_sockets());
  one.transport->pause_reading();
  run_turns(loop, 3);
  reset_connection(one.peer);
  run_turns(loop, 3);
  CHECK_FALSE(one.lost());
  one.transport->write(bytes_of(10));
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->failure);
}

TEST_CASE("a write to a peer who closed is lost to a broken pipe") {
  Loop loop(small_options());
  Connection one;
  one.protocol->keep_open = true;
  one.open(loop);
  one.peer.reset();
  CHECK(run_until(loop, [&] { return one.protocol->count("eof") == 1; }));
  one.transport->write(bytes_of(10));
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->failure.code() == errno_code(EPIPE));
  CHECK(is_a<BrokenPipeError>(one.protocol->failure.exception()));
}

TEST_CASE("the end of the input with a queue sends the queue before it closes") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, small_unix_sockets());
  run_turns(loop, 2);
  one.transport->write(bytes_of(200'000));
  must(shutdown_socket(one.peer.get(), SHUT_WR));
  CHECK(run_until(loop, [&] { return one.protocol->count("eof") == 1; }));
  CHECK(read_to_end(loop, one.peer, 1 << 20) == pattern(0, 200'000));
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK_FALSE(one.protocol->failure);
}

TEST_CASE("a transport that nobody holds lives until its connection is lost") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  one.transport.reset();
  write_available(one.peer, "x");
  CHECK(run_until(loop, [&] { return one.protocol->data == "x"; }));
  one.protocol->transport->write(bytes_of(3));
  one.protocol->transport->close();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->ref_count() == 1);
  CHECK(read_available(one.peer) == pattern(0, 3));
}

}  // namespace
