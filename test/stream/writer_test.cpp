// StreamWriter on sockets: what can be written, flow control, closing, and writers that die open.
//
// Neighbours: stream/writer.hpp; reader_protocol_test.cpp has drain() and wait_closed() in full.
#include <pelton/stream/writer.hpp>

#include <doctest/doctest.h>

#include <list>
#include <span>
#include <thread>

#include <support/log_capture.hpp>
#include <support/peer.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

struct Sockets {
  Sockets() : Sockets(*socket_pair()) {}
  explicit Sockets(std::pair<OwnedFd, OwnedFd> pair)
      : ours(std::move(pair.first)), peer(std::move(pair.second)) {}
  OwnedFd ours;
  Peer peer;
};

/// A stream on one end of a socket pair; the test has the other end.
struct Wired {
  Wired() : pair(loop.run(open_connection(std::move(sockets.ours)))) {}
  ~Wired() {
    if (pair.writer.valid()) pair.writer.transport().abort();
    loop.run_briefly();
  }
  Wired(const Wired&) = delete;
  Wired& operator=(const Wired&) = delete;

  /// Closes, and returns all that the peer received.
  std::string close_and_collect() {
    loop.run(close(pair.writer));
    return sockets.peer.receive_all();
  }

  StreamLoop loop;
  Sockets sockets;
  StreamPair pair;
  Peer& peer = sockets.peer;
};

}  // namespace

TEST_CASE("whatever holds bytes can be written, in order") {
  Wired wired;
  StreamWriter& writer = wired.pair.writer;
  const std::string text = "string,";
  const std::vector<std::byte> bytes(3, std::byte{'x'});
  writer.write("literal,");
  writer.write(text);
  writer.write(std::string("moved,"));
  writer.write(std::string_view("view,"));
  writer.write(Bytes::copy("Bytes,"));
  writer.write(std::span<const std::byte>(bytes));
  writer.write(std::vector<std::byte>(bytes));
  writer.write("");
  writer.write(Bytes());
  const std::list<std::string> lines{"one\n", "two\n"};
  writer.writelines(lines);
  writer.writelines(std::vector<Bytes>{Bytes::copy("three\n"), Bytes::copy("four\n")});
  writer.writelines(std::vector<const char*>{});
  CHECK(text == "string,");
  CHECK(wired.close_and_collect() ==
        "literal,string,moved,view,Bytes,xxxxxxone\ntwo\nthree\nfour\n");
}

TEST_CASE("a view is copied: its memory may change after write") {
  Wired wired;
  std::string memory = "before";
  wired.pair.writer.write(std::string_view(memory));
  memory = "after!";
  CHECK(wired.close_and_collect() == "before");
}

TEST_CASE("all that a turn writes leaves in one send") {
  Wired wired;
  const auto main = [&]() -> Task<> {
    for (int count = 0; count < 10; ++count) wired.pair.writer.write("message ");
    co_await wired.pair.writer.drain();
    co_await sleep(std::chrono::milliseconds(5));
  };
  const auto before = wired.loop.stats().send_submitted;
  wired.loop.run(main());
  CHECK(wired.loop.stats().send_submitted == before + 1);
  CHECK(wired.peer.receive(1000).size() == 80);
}

TEST_CASE("write_eof ends the writing side behind what was written, reading goes on") {
  Wired wired;
  StreamWriter& writer = wired.pair.writer;
  CHECK(writer.can_write_eof());
  const std::string data = pattern(300'000);
  writer.write(data);
  writer.write_eof();
  writer.write_eof();
  CHECK_THROWS_WITH_AS(writer.write("more"), "Cannot call write() after write_eof()", RuntimeError);
  CHECK_THROWS_WITH_AS(writer.write(Bytes::copy("more")), "Cannot call write() after write_eof()",
                       RuntimeError);
  CHECK_THROWS_WITH_AS(writer.writelines(std::vector<const char*>{}),
                       "Cannot call writelines() after write_eof()", RuntimeError);
  std::string received;
  std::jthread reader([&] {
    received = wired.peer.receive_all();
    wired.peer.send("answer");
  });
  CHECK(wired.loop.run(readexactly(wired.pair.reader, 6)) == "answer");
  reader.join();
  CHECK(received == data);
  CHECK_FALSE(writer.is_closing());
}

TEST_CASE("drain waits from above high water until low water, not until empty") {
  Wired wired;
  StreamWriter& writer = wired.pair.writer;
  writer.transport().set_write_buffer_limits(100'000, 50'000);
  std::string received;
  const auto main = [&]() -> Task<> {
    writer.write(std::string(100'000, 'x'));
    co_await writer.drain();  // not strictly above
    CHECK(writer.transport().get_write_buffer_size() == 100'000);
    writer.write(std::string(4'000'000, 'x'));
    const auto task = Loop::running().create_task(drain(writer));
    co_await sleep(std::chrono::milliseconds(10));
    CHECK_FALSE(task.done());
    CHECK(writer.transport().get_write_buffer_size() > 50'000);
    std::jthread reader([&] { received = wired.peer.receive_exactly(4'100'000); });
    co_await task;
    CHECK(writer.transport().get_write_buffer_size() <= 50'000);
    reader.join();
  };
  wired.loop.run(main());
  CHECK(received.size() == 4'100'000);
}

TEST_CASE("writes to a lost connection are dropped, and from the fifth on it is logged") {
  Wired wired;
  StreamWriter& writer = wired.pair.writer;
  wired.peer.close();
  wired.loop.run(close(writer));
  const LogCapture log;
  for (int count = 0; count < 5; ++count) writer.write("lost");
  const std::size_t before = log.lines().size();
  writer.write("lost");
  CHECK(log.has("socket.send() raised exception."));
  CHECK(before <= 1);
  CHECK(writer.transport().get_write_buffer_size() == 0);
}

TEST_CASE("close sends what was written first, however much it is") {
  Wired wired;
  const std::string data = pattern(3'000'000);
  wired.pair.writer.write(data);
  wired.pair.writer.close();
  wired.pair.writer.close();
  CHECK(wired.pair.writer.is_closing());
  std::string received;
  std::jthread reader([&] { received = wired.peer.receive_all(); });
  wired.loop.run(wait_closed(wired.pair.writer));
  reader.join();
  CHECK(received == data);
}

TEST_CASE("abort drops what was written, and drain and wait_closed do not hang") {
  Wired wired;
  StreamWriter& writer = wired.pair.writer;
  const auto main = [&]() -> Task<> {
    writer.write(std::string(4'000'000, 'x'));
    const auto draining = Loop::running().create_task(drain(writer));
    const auto closing = Loop::running().create_task(wait_closed(writer));
    co_await sleep(std::chrono::milliseconds(5));
    CHECK_FALSE(draining.done());
    writer.transport().abort();
    co_await draining;
    co_await closing;
    CHECK(writer.transport().get_write_buffer_size() == 0);
    CHECK(wired.pair.reader.at_eof());
  };
  wired.loop.run(main());
}

TEST_CASE("get_extra_info knows the socket and both addresses, else answers the fallback") {
  const Acceptor acceptor;
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await dial(acceptor.address());
    StreamWriter& writer = pair.writer;
    CHECK(std::get<SocketAddress>(writer.get_extra_info("peername")) == acceptor.address());
    const auto name = std::get<SocketAddress>(writer.get_extra_info("sockname"));
    CHECK(name.host() == "127.0.0.1");
    const int fd = std::get<int>(writer.get_extra_info("socket"));
    CHECK(*local_address(fd) == name);
    CHECK(std::holds_alternative<std::monostate>(writer.get_extra_info("sslcontext")));
    CHECK(std::get<int>(writer.get_extra_info("cipher", ExtraInfo(5))) == 5);
    co_await close(writer);
    CHECK(std::get<int>(writer.get_extra_info("socket", ExtraInfo(-1))) == -1);
  };
  loop.run(main());
}

TEST_CASE("a writer that is assigned to or dies open closes its connection, with a warning") {
  Wired wired;
  const LogCapture log;
  const auto before = resource_warning_count();
  StreamWriter writer = std::move(wired.pair.writer);
  CHECK_FALSE(wired.pair.writer.valid());  // NOLINT: moved-from on purpose
  CHECK(resource_warning_count() == before);
  Sockets other;
  StreamPair second = wired.loop.run(open_connection(std::move(other.ours)));
  writer = std::move(second.writer);
  CHECK(resource_warning_count() == before + 1);
  CHECK(wired.loop.run(read(wired.pair.reader)).empty());  // closed
  wired.loop.run(close(writer));
  { const StreamWriter closed = std::move(writer); }
  CHECK(resource_warning_count() == before + 1);
  CHECK(log.lines() == std::vector<std::string>{"ResourceWarning: unclosed <StreamWriter>"});
}

TEST_CASE("the text of a writer shows its transport and its reader") {
  Wired wired;
  CHECK(wired.pair.writer.to_string() ==
        "<StreamWriter transport=<Transport> "
        "reader=<StreamReader transport=<Transport>>>");
}

TEST_CASE("a connection lives as long as its writer: the reader alone does not hold it open") {
  Wired wired;
  const LogCapture log;
  const StreamReader reader = wired.pair.reader;
  { const StreamWriter dying = std::move(wired.pair.writer); }
  CHECK(wired.loop.run(read(reader)).empty());
  CHECK(wired.peer.receive().empty());
  CHECK(wired.loop.stats().connections_closed == 1);
}
