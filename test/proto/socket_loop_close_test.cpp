// SocketTransport: a loop that closes under transports in every state, and handles that outlive it.
#include <pelton/proto/socket_transport.hpp>

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <optional>

#include <support/log_capture.hpp>
#include <support/transports.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;

Bytes pattern_bytes(std::size_t size) { return Bytes::adopt(pattern(0, size)); }

using Act = std::function<void(Loop&, Connection&)>;

/// These bring a connection, which was not opened yet, into the states of their names.
void reach_reading(Loop& loop, Connection& one) {
  one.open(loop, tcp_sockets());
  run_turns(loop, 3);
}

void reach_held_data(Loop& loop, Connection& one) {
  one.open(loop);
  run_turns(loop, 3);
  one.protocol->on_data = [&](const Bytes&) { one.transport->pause_reading(); };
  write_available(one.peer, pattern(0, 3'000));
  CHECK(run_until(loop, [&] { return one.protocol->received > 0; }));
  run_turns(loop, 3);
}

void reach_send_in_flight(Loop& loop, Connection& one) {
  one.open(loop, small_unix_sockets());
  one.transport->write(pattern_bytes(300'000));
  run_turns(loop, 3);
}

void reach_message_in_flight(Loop& loop, Connection& one) {
  one.open(loop, small_unix_sockets());
  for (int index = 0; index < 100; ++index) one.transport->write(pattern_bytes(5'000));
  run_turns(loop, 3);
}

void reach_half_closed(Loop& loop, Connection& one) {
  one.protocol->keep_open = true;
  reach_reading(loop, one);
  must(shutdown_socket(one.peer.get(), SHUT_WR));
  CHECK(run_until(loop, [&] { return one.protocol->count("eof") == 1; }));
}

/// A state that is reached from another one by what is done in the turn in which the loop closes.
Act then(const Act& before, const std::function<void(Connection&)>& last) {
  return [=](Loop& loop, Connection& one) {
    before(loop, one);
    last(one);
  };
}

const std::map<std::string, Act>& states() {
  const Act open = [](Loop& loop, Connection& one) { one.open(loop); };
  const Act close_queue = [](Loop& loop, Connection& one) {
    reach_send_in_flight(loop, one);
    one.transport->close();
    run_turns(loop, 3);
  };
  const auto abort = [](Connection& one) { one.transport->abort(); };
  const auto close = [](Connection& one) { one.transport->close(); };
  const auto pause = [](Connection& one) { one.transport->pause_reading(); };
  const auto resume = [](Connection& one) { one.transport->resume_reading(); };
  const auto write = [](Connection& one) { one.transport->write(pattern_bytes(10)); };
  const auto send = [](Connection& one) { write_available(one.peer, "unheard"); };
  const auto reset = [](Connection& one) { reset_connection(one.peer); };
  static const std::map<std::string, Act> all{
      {"starting", open},
      {"starting and aborted", then(open, abort)},
      {"reading", reach_reading},
      {"reading what has come", then(reach_reading, send)},
      {"pausing", then(reach_reading, pause)},
      {"paused with held data", reach_held_data},
      {"about to deliver held data", then(reach_held_data, resume)},
      {"with a send in flight", reach_send_in_flight},
      {"with a send of many pieces in flight", reach_message_in_flight},
      {"with an unsent queue", then(reach_reading, write)},
      {"closing with a queue", close_queue},
      {"closed in the last turn", then(reach_reading, close)},
      {"aborted in the last turn", then(reach_send_in_flight, abort)},
      {"half closed by the peer", reach_half_closed},
      {"reset by the peer", then(reach_reading, reset)},
  };
  return all;
}

/// Everything that a handle allows once its loop is gone.
void use_after_the_end(Transport& transport) {
  const LogCapture log;
  CHECK(transport.is_closing());
  CHECK_FALSE(transport.is_reading());
  for (int index = 0; index < 6; ++index) {
    transport.write(pattern_bytes(100'000));
    transport.write_copy(pattern_bytes(100).span());
  }
  CHECK(log.has("socket.send() raised exception."));
  transport.set_write_buffer_limits(0, 0);
  transport.pause_reading();
  transport.resume_reading();
  transport.write_eof();
  transport.close();
  transport.abort();
  transport.set_protocol(make_ref<RecordingProtocol>());
  CHECK(transport.get_write_buffer_size() == 0);
  CHECK(std::get<int>(transport.get_extra_info("socket", -1)) == -1);
  CHECK(std::get<int>(transport.get_extra_info("peername", -1)) == -1);
}

TEST_CASE("a loop that closes ends a transport in any state without another call to it") {
  for (const auto& [name, reach] : states()) {
    CAPTURE(name);
    const int descriptors = open_descriptors();
    Connection one;
    std::optional<Loop> loop(std::in_place, small_options());
    reach(*loop, one);
    const std::string story = one.protocol->story();
    const LogCapture log;
    const bool closing = one.transport->is_closing();
    loop->close();
    CHECK(log.has("ResourceWarning: loop is closed") == !closing);
    CHECK(loop->operations_in_flight() == 0);
    CHECK(loop->stats().connections_opened == loop->stats().connections_closed);
    CHECK(one.transport->ref_count() == 1);  // ours
    CHECK(one.protocol->ref_count() == 1);
    loop.reset();
    CHECK(one.protocol->story() == story);
    CHECK_FALSE(one.lost());
    use_after_the_end(*one.transport);
    CHECK(one.protocol->violations.empty());
    one.peer.reset();
    one.transport.reset();
    CHECK(open_descriptors() == descriptors);
  }
}

TEST_CASE("a loop that closes ends transports in all states together") {
  const LogCapture log;
  const int descriptors = open_descriptors();
  {
    std::vector<std::unique_ptr<Connection>> all;
    Loop loop(small_options(2, 512));
    for (int round = 0; round < 4; ++round) {
      for (const auto& [name, reach] : states()) {
        all.push_back(std::make_unique<Connection>());
        reach(loop, *all.back());
      }
    }
    loop.close();
    CHECK(loop.operations_in_flight() == 0);
    CHECK(loop.stats().connections_opened == loop.stats().connections_closed);
    CHECK(loop.stats().connections_opened == all.size());
    CHECK(loop.stats().impossible == 0);
    for (const auto& one : all) {
      CHECK(one->protocol->violations.empty());
      CHECK(one->transport->ref_count() == 1);
    }
  }
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a loop that closes ends transports that wait for a buffer") {
  const LogCapture log;
  for (const int turns_before : {0, 1, 2, 3, 5, 8}) {
    CAPTURE(turns_before);
    std::vector<std::unique_ptr<Connection>> all;
    Loop loop(small_options(1, 64));
    for (int index = 0; index < 20; ++index) {
      all.push_back(std::make_unique<Connection>());
      all.back()->open(loop);
      write_available(all.back()->peer, pattern(0, 5'000));
    }
    run_turns(loop, 2 + turns_before);
    loop.close();
    CHECK(loop.operations_in_flight() == 0);
    CHECK(loop.stats().connections_closed == all.size());
    for (const auto& one : all) CHECK(one->protocol->violations.empty());
  }
}

TEST_CASE("bytes that were received outlive the transport and the loop") {
  Connection one;
  one.protocol->keep_buffers = true;
  {
    const LogCapture log;
    Loop loop(small_options());
    one.open(loop);
    write_available(one.peer, pattern(0, 10'000));
    CHECK(run_until(loop, [&] { return one.protocol->received == 10'000; }));
    CHECK(loop.buffers().lent() > 0);
  }
  one.transport.reset();
  std::string kept;
  for (const Bytes& bytes : one.protocol->buffers) kept += bytes.view();
  CHECK(kept == pattern(0, 10'000));
}

TEST_CASE("transports whose protocols hold each other end with their loop") {
  const LogCapture log;
  Loop loop(small_options());
  auto sockets = unix_sockets();
  Connection left;
  Connection right;
  left.transport = SocketTransport::open(loop, std::move(sockets.first), left.protocol);
  right.transport = SocketTransport::open(loop, std::move(sockets.second), right.protocol);
  left.protocol->on_data = [other = right.transport](const Bytes& data) { other->write(data); };
  right.protocol->on_data = [other = left.transport](const Bytes& data) { other->write(data); };
  left.transport->write(pattern_bytes(1'000));  // goes round for ever
  CHECK(run_until(loop, [&] { return right.protocol->received > 50'000; }));
  left = Connection();
  right = Connection();
  loop.close();
  CHECK(loop.operations_in_flight() == 0);
  CHECK(loop.stats().connections_closed == 2);
}

}  // namespace
