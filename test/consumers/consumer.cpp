// What each consumer project builds: a server and a client in one loop, one line echoed.
// It is compiled without warnings of pelton's own build, against nothing but <pelton/stream.hpp>.
#include <pelton/stream.hpp>

#include <cstdio>
#include <stdexcept>

namespace {

pelton::Task<> echo(pelton::StreamReader reader, pelton::StreamWriter writer) {
  auto line = co_await reader.readline();
  writer.write(std::move(line));
  co_await writer.drain();
  writer.close();
  co_await writer.wait_closed();
}

pelton::Task<> talk() {
  auto server = pelton::start_server(echo, "127.0.0.1", 0);
  const auto port = pelton::local_address(server.sockets().front()).value().port();
  auto [reader, writer] = co_await pelton::open_connection("127.0.0.1", port);
  writer.write("hello\n");
  const auto line = co_await reader.readline();
  writer.close();
  co_await writer.wait_closed();
  server.close();
  co_await server.wait_closed();
  if (line.view() != "hello\n") throw std::runtime_error("the line did not come back");
  std::puts("consumer ok");
}

}  // namespace

int main() { return pelton::run(talk()); }
