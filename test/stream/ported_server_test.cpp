// CPython's test_server.py. Each case has its name there.
//
// Neighbours: stream/server.hpp; support/peer.hpp; PORTED.md.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include <support/peer.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

const std::string long_line = std::string(5 * 1024, '1') + "\n";

/// Reads up to the end, then closes.
Task<> read_to_end(StreamReader reader, StreamWriter writer) {
  static_cast<void>(co_await reader.read());
  co_await close(writer);
}
Task<> do_nothing(StreamReader, StreamWriter) { co_return; }

/// Serves one line, which ends the server.
struct LastLine {
  TaskHandle<>* main;
  Task<> operator()(StreamReader reader, StreamWriter writer) const {
    return serve(main, std::move(reader), std::move(writer));
  }
  static Task<> serve(TaskHandle<>* main, StreamReader reader, StreamWriter writer) {
    static_cast<void>(co_await reader.readline());
    main->cancel();
    writer.write("1");
    co_await close(writer);
  }
};

/// Serves until a client's line has cancelled that; then the server is closed for good.
void check_cancelled_server(StreamLoop& loop, Server& server, TaskHandle<>& main) {
  CHECK_FALSE(server.is_serving());
  const SocketAddress address = server.addresses().front();
  main = loop.loop().create_task(serve_for_ever(server));
  std::atomic<bool> serving = false;
  loop.loop().call_soon([&] {
    serving = server.is_serving();  // the task that serves ran before
    serving.notify_one();
  });
  std::jthread client([address, &serving] {
    serving.wait(false);
    const Peer peer = Peer::connect(address);
    peer.send(long_line);
    CHECK(peer.receive_exactly(1) == "1");
  });
  const auto error = thrown_by([&] { loop.run(main); });
  client.join();
  CHECK(is_a<Cancelled>(error));
  CHECK(server.sockets().empty());
  CHECK_FALSE(server.is_serving());
  const auto again = thrown_by([&] { loop.run(serve_for_ever(server)); });
  CHECK(is_a<RuntimeError>(again));
  CHECK(describe(again).ends_with("is closed"));
}

void set_buffer(int fd, int option, int bytes) {
  setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof bytes);
}

}  // namespace

TEST_CASE("start_server_1: serve_forever serves until it is cancelled, which closes") {
  StreamLoop loop;
  TaskHandle<> main;
  const auto start = [&]() -> Task<Server> {
    co_return start_server(LastLine{&main}, "127.0.0.1", 0, {.start_serving = false});
  };
  Server server = loop.run(start());
  check_cancelled_server(loop, server, main);
}

TEST_CASE("start_unix_server_1: start_serving, then serve_forever until it is cancelled") {
  const TemporaryDirectory directory;
  StreamLoop loop;
  TaskHandle<> main;
  const auto start = [&]() -> Task<Server> {
    Server server =
        start_unix_server(LastLine{&main}, directory.file("s"), {.start_serving = false});
    CHECK_FALSE(server.is_serving());
    co_return server;
  };
  Server server = loop.run(start());
  check_cancelled_server(loop, server, main);
}

TEST_CASE("wait_closed_basic: returns when the server is closed and its clients have gone") {
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    Server server = start_server(read_to_end, "127.0.0.1", 0);
    const auto first = loop.loop().create_task(wait_closed(server));
    co_await turns(1);
    CHECK_FALSE(first.done());  // no clients, but open
    StreamPair pair = co_await dial(server.addresses().front());
    const auto second = loop.loop().create_task(wait_closed(server));
    co_await until([&] { return server.connection_count() == 1; });
    CHECK_FALSE(first.done());
    CHECK_FALSE(second.done());
    server.close();
    co_await turns(1);
    const auto third = loop.loop().create_task(wait_closed(server));
    co_await turns(1);
    CHECK_FALSE(first.done());  // closed, but a client is left
    CHECK_FALSE(second.done());
    CHECK_FALSE(third.done());
    co_await close(pair.writer);
    co_await first;
    co_await second;
    co_await third;
    co_await server.wait_closed();
  };
  loop.run(main());
  CHECK(loop.messages().empty());
}

TEST_CASE("wait_closed_race: server and client close in the same turn") {
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    Server server = start_server(read_to_end, "127.0.0.1", 0);
    const auto task = loop.loop().create_task(wait_closed(server));
    co_await turns(1);
    CHECK_FALSE(task.done());
    StreamPair pair = co_await dial(server.addresses().front());
    loop.loop().call_soon([&] { server.close(); });
    loop.loop().call_soon([&] { pair.writer.close(); });
    co_await server.wait_closed();
    co_await task;
  };
  loop.run(main());
}

TEST_CASE("close_clients: ends the connections, and so the wait") {
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    Server server = start_server(read_to_end, "127.0.0.1", 0);
    StreamPair pair = co_await dial(server.addresses().front());
    co_await until([&] { return server.connection_count() == 1; });
    const auto task = loop.loop().create_task(wait_closed(server));
    co_await turns(1);
    CHECK_FALSE(task.done());
    server.close();
    server.close_clients();
    co_await task;
    CHECK(server.connection_count() == 0);
    CHECK((co_await pair.reader.read()).empty());
    co_await close(pair.writer);
  };
  loop.run(main());
}

TEST_CASE("abort_clients: ends connections whose data nobody takes") {
  StreamLoop loop;
  std::optional<StreamPair> served;
  const auto handler = [&](StreamReader reader, StreamWriter writer) {
    served.emplace(std::move(reader), std::move(writer));
  };
  const auto main = [&]() -> Task<> {
    Server server = start_server(handler, "127.0.0.1", 0);
    const ConnectOptions options{.limit = 4096};
    StreamPair pair = co_await dial(server.addresses().front(), options);
    co_await until([&] { return served.has_value(); });
    set_buffer(std::get<int>(served->writer.get_extra_info("socket")), SO_SNDBUF, 65536);
    set_buffer(std::get<int>(pair.writer.get_extra_info("socket")), SO_RCVBUF, 65536);
    for (int piece = 0; piece < 3; ++piece) served->writer.write(std::string(4096, 'a'));
    co_await until([&] { return !pair.writer.transport().is_reading(); });
    // Nobody reads: what is written fills the kernel's buffers, then the transport's.
    served->writer.write(std::string(16 << 20, 'a'));
    co_await sleep(std::chrono::milliseconds(50));
    CHECK(served->writer.transport().get_write_buffer_size() > 0);
    const auto task = loop.loop().create_task(wait_closed(server));
    co_await turns(1);
    CHECK_FALSE(task.done());
    server.close();
    server.abort_clients();
    co_await task;
    CHECK(served->writer.transport().get_write_buffer_size() == 0);
    co_await close(pair.writer);
  };
  loop.run(main());
}

TEST_CASE("unix_server_addr_cleanup: close() removes the file of a path") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("s");
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    Server server = start_unix_server(do_nothing, path);
    CHECK(std::filesystem::exists(path));
    server.close();
    CHECK_FALSE(std::filesystem::exists(path));
    co_return;
  };
  loop.run(main());
}

TEST_CASE("unix_server_sock_cleanup: close() removes the file of a socket that was bound") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("s");
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    Acceptor socket(path);
    Server server = start_unix_server(do_nothing, socket.release());
    server.close();
    CHECK_FALSE(std::filesystem::exists(path));
    co_return;
  };
  loop.run(main());
}

TEST_CASE("unix_server_cleanup_gone: a file that somebody else removed is no error") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("s");
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    Acceptor socket(path);
    Server server = start_unix_server(do_nothing, socket.release());
    CHECK(unlink(path.c_str()) == 0);
    server.close();
    co_return;
  };
  loop.run(main());
  CHECK(loop.messages().empty());
}

TEST_CASE("unix_server_cleanup_replaced: a file that somebody else put there stays") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("s");
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    Server server = start_unix_server(do_nothing, path);
    CHECK(unlink(path.c_str()) == 0);
    const Acceptor other(path);
    server.close();
    CHECK(std::filesystem::exists(path));
    co_return;
  };
  loop.run(main());
}

TEST_CASE("unix_server_cleanup_prevented: cleanup_socket = false leaves the file") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("s");
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    Server server = start_unix_server(do_nothing, path, {.cleanup_socket = false});
    server.close();
    CHECK(std::filesystem::exists(path));
    co_return;
  };
  loop.run(main());
}
