// SocketTransport: beginning, receiving, the end of the input, what it knows about itself, and
// callbacks that close or throw. Pausing, buffers, sending and closing have files of their own.
#include <pelton/proto/socket_transport.hpp>

#include <doctest/doctest.h>

#include <support/transports.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;
using Events = std::vector<std::string>;

TEST_CASE("connection_made comes before any data although data was there before") {
  Loop loop(small_options());
  auto sockets = unix_sockets();
  CHECK(write_available(sockets.second, "early") == 5);
  Connection one;
  one.open(loop, std::move(sockets));
  CHECK(one.protocol->story().empty());  // not before the loop runs
  CHECK(run_until(loop, [&] { return one.protocol->data == "early"; }));
  CHECK(one.protocol->story() == "made data");
  one.peer.reset();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->violations.empty());
}

TEST_CASE("a transport that is opened now is made before the call returns, and then reads") {
  Loop loop(small_options());
  auto sockets = unix_sockets();
  CHECK(write_available(sockets.second, "early") == 5);
  Connection one;
  one.open_now(loop, std::move(sockets));
  CHECK(one.protocol->story() == "made");
  CHECK(one.transport->is_reading());
  CHECK(loop.stats().recv_submitted == 1);
  CHECK(run_until(loop, [&] { return one.protocol->data == "early"; }));
  one.peer.reset();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->story() == "made data eof lost");
  CHECK(one.protocol->violations.empty());
  CHECK(one.transport->ref_count() == 1);  // ours alone
}

TEST_CASE("a transport that is opened now may be closed, aborted or failed by connection_made") {
  Loop loop(small_options());
  const Reports reports(loop);
  const std::vector<std::function<void(Transport&)>> ends{
      [](Transport& transport) { transport.close(); },
      [](Transport& transport) { transport.abort(); },
      [](Transport&) { throw ValueError("thrown by connection_made"); }};
  for (const auto& end : ends) {
    Connection one;
    one.protocol->on_made = end;
    one.open_now(loop);
    CHECK(one.protocol->story() == "made");  // the loss is told in a turn of its own
    CHECK(run_until(loop, [&] { return one.lost(); }));
    CHECK(one.protocol->violations.empty());
    CHECK(one.transport->ref_count() == 1);
  }
  CHECK(loop.stats().recv_submitted == 0);
  CHECK(reports.messages() == Events{"Fatal error: protocol callback failed"});
  run_turns(loop, 5);
  CHECK(loop.operations_in_flight() == idle_operations);
}

TEST_CASE("bytes arrive in order, over TCP as over unix sockets") {
  Loop loop(small_options());
  for (const bool tcp : {false, true}) {
    Connection one;
    one.open(loop, tcp ? tcp_sockets() : unix_sockets());
    const std::string text = pattern(0, 3'000'000);
    std::size_t sent = 0;
    CHECK(run_until(loop, [&] {
      sent += write_available(one.peer, std::string_view(text).substr(sent));
      return one.protocol->received == text.size();
    }));
    CHECK(one.protocol->data == text);
    one.peer.reset();
    CHECK(run_until(loop, [&] { return one.lost(); }));
    CHECK(one.protocol->story() == "made data eof lost");
    CHECK(one.protocol->violations.empty());
    CHECK_FALSE(one.protocol->failure);
  }
}

TEST_CASE("eof_received that answers false closes the transport") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, tcp_sockets());
  must(shutdown_socket(one.peer.get(), SHUT_WR));
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->story() == "made eof lost");
  CHECK_FALSE(one.protocol->failure);
  CHECK_FALSE(is_open(one.protocol->fd));
  CHECK(peek(one.peer) == 0);
}

TEST_CASE("eof_received that answers true keeps the writing side open") {
  Loop loop(small_options());
  Connection one;
  one.protocol->keep_open = true;
  one.open(loop, tcp_sockets());
  CHECK(write_available(one.peer, "question") == 8);
  must(shutdown_socket(one.peer.get(), SHUT_WR));
  CHECK(run_until(loop, [&] { return one.protocol->count("eof") == 1; }));
  CHECK_FALSE(one.transport->is_closing());
  const std::uint64_t turns = loop.stats().turns;
  run_for(loop, std::chrono::milliseconds(20));
  CHECK(loop.stats().turns - turns < 1000);  // an ended input is not asked again and again
  one.transport->write(Bytes::copy(std::string_view("answer")));
  std::string answer;
  CHECK(run_until(loop, [&] { return (answer += read_available(one.peer)) == "answer"; }));
  one.transport->close();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->story() == "made data eof lost");
  CHECK(peek(one.peer) == 0);
  CHECK(loop.operations_in_flight() == idle_operations);
}

TEST_CASE(
    "a transport tells its socket and its addresses until it is closed, and the peer for ever") {
  Loop loop(small_options());
  auto sockets = tcp_sockets();
  const SocketAddress local = must(local_address(sockets.first.get()));
  const SocketAddress remote = must(local_address(sockets.second.get()));
  const int fd = sockets.first.get();
  Connection one;
  one.open(loop, std::move(sockets));
  CHECK(std::get<int>(one.transport->get_extra_info("socket", {})) == fd);
  CHECK(std::get<SocketAddress>(one.transport->get_extra_info("sockname", {})) == local);
  CHECK(std::get<SocketAddress>(one.transport->get_extra_info("peername", {})) == remote);
  CHECK(std::get<int>(one.transport->get_extra_info("cipher", 3)) == 3);
  CHECK(one.transport->get_protocol() == one.protocol.get());
  CHECK(one.transport->can_write_eof());
  CHECK(one.transport->can_pause_reading());
  one.transport->abort();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(std::get<int>(one.transport->get_extra_info("socket", -1)) == -1);
  CHECK(std::get<SocketAddress>(one.transport->get_extra_info("peername", {})) == remote);
  CHECK(one.transport->get_protocol() == nullptr);
}

TEST_CASE("set_protocol hands what follows to another protocol") {
  Loop loop(small_options());
  Connection one;
  const Ref<RecordingProtocol> second = make_ref<RecordingProtocol>();
  one.protocol->on_data = [&](const Bytes&) {
    second->transport = one.transport.get();
    one.transport->set_protocol(second);
  };
  one.open(loop);
  CHECK(write_available(one.peer, "first") == 5);
  CHECK(run_until(loop, [&] { return one.protocol->data == "first"; }));
  CHECK(write_available(one.peer, "second") == 6);
  one.peer.reset();
  CHECK(run_until(loop, [&] { return second->lost(); }));
  CHECK(one.protocol->story() == "made data");
  CHECK(second->story() == "data eof lost");
  CHECK(one.protocol->ref_count() == 1);  // let go of
}

/// Opens a connection whose every callback is made to happen, `act` in the one of this name.
struct Situation {
  Loop loop{small_options()};
  Connection one;

  void in(std::string_view callback, const std::function<void()>& act) {
    RecordingProtocol& protocol = *one.protocol;
    protocol.on_made = [=](Transport& transport) {
      transport.set_write_buffer_limits(10, 0);
      if (callback == "connection_made") return act();
      transport.write(Bytes::copy(std::string_view("more than ten bytes")));
    };
    protocol.on_pause = [=] { callback == "pause_writing" ? act() : void(); };
    protocol.on_resume = [=] { callback == "resume_writing" ? act() : void(); };
    protocol.on_data = [=](const Bytes&) { callback == "data_received" ? act() : void(); };
    protocol.on_eof = [=] { return callback == "eof_received" ? (act(), true) : true; };
    protocol.on_lost = [=] { callback == "connection_lost" ? act() : void(); };
    one.open(loop);
    run_turns(loop, 5);
    write_available(one.peer, "ping");
    run_turns(loop, 5);
    if (callback == "connection_lost") return one.transport->abort();
    static_cast<void>(shutdown_socket(one.peer.get(), SHUT_WR));
  }
};

const Events callbacks{"connection_made", "pause_writing", "resume_writing", "data_received",
                       "eof_received"};

TEST_CASE("close inside any callback ends the connection once and regularly") {
  for (const std::string& callback : callbacks) {
    CAPTURE(callback);
    Situation now;
    now.in(callback, [&] { now.one.protocol->transport->close(); });
    CHECK(run_until(now.loop, [&] { return now.one.lost(); }));
    run_turns(now.loop, 10);
    CHECK(now.one.protocol->violations.empty());
    CHECK_FALSE(now.one.protocol->failure);
    CHECK(now.loop.operations_in_flight() == idle_operations);
    // What was queued before the close is sent in spite of it.
    const std::string sent = callback == "connection_made" ? "" : "more than ten bytes";
    CHECK(read_available(now.one.peer) == sent);
    CHECK(peek(now.one.peer) == 0);
  }
}

TEST_CASE("abort inside any callback ends the connection once and regularly") {
  for (const std::string& callback : callbacks) {
    CAPTURE(callback);
    Situation now;
    now.in(callback, [&] { now.one.protocol->transport->abort(); });
    CHECK(run_until(now.loop, [&] { return now.one.lost(); }));
    run_turns(now.loop, 10);
    CHECK(now.one.protocol->violations.empty());
    CHECK_FALSE(now.one.protocol->failure);
    CHECK(now.loop.operations_in_flight() == idle_operations);
  }
}

TEST_CASE("an exception of any callback is reported and is what the connection is lost to") {
  for (const std::string& callback : callbacks) {
    CAPTURE(callback);
    Situation now;
    const Reports reports(now.loop);
    now.in(callback, [] { throw ValueError("thrown by a callback"); });
    CHECK(run_until(now.loop, [&] { return now.one.lost(); }));
    run_turns(now.loop, 10);
    CHECK(reports.messages() == Events{"Fatal error: protocol callback failed"});
    CHECK(is_a<ValueError>(reports.exceptions().at(0)));
    CHECK(now.one.protocol->failure.message() == "thrown by a callback");
    CHECK(now.one.protocol->violations.empty());
    CHECK(now.loop.operations_in_flight() == idle_operations);
  }
}

TEST_CASE("an exception of connection_lost is reported and changes nothing") {
  Situation now;
  const Reports reports(now.loop);
  now.in("connection_lost", [] { throw ValueError("too late"); });
  CHECK(run_until(now.loop, [&] { return now.one.lost(); }));
  run_turns(now.loop, 10);
  CHECK(reports.messages() == Events{"Fatal error: protocol callback failed"});
  CHECK_FALSE(now.one.protocol->failure);
  CHECK(now.one.protocol->violations.empty());
  CHECK(now.one.transport->ref_count() == 1);
}

TEST_CASE("an exception that is no std::exception ends the connection as well") {
  Situation now;
  const Reports reports(now.loop);
  now.in("data_received", [] { throw 42; });
  CHECK(run_until(now.loop, [&] { return now.one.lost(); }));
  CHECK(now.one.protocol->failure.message() == "unknown exception");
}

}  // namespace
