// TCP echo client: asyncio's documented example, with pelton.
//
//   example_tcp_echo_client HOST PORT [MESSAGE]
#include <cstdio>
#include <exception>
#include <string>

#include <pelton/stream.hpp>

namespace {

pelton::Task<> tcp_echo_client(std::string host, std::uint16_t port, std::string message) {
  auto [reader, writer] = co_await pelton::open_connection(host, port);

  std::printf("Send: '%s'\n", message.c_str());
  writer.write(message);
  co_await writer.drain();
  writer.write_eof();

  const pelton::Bytes data = co_await reader.read();
  std::printf("Received: '%s'\n", data.to_string().c_str());

  std::puts("Close the connection");
  writer.close();
  co_await writer.wait_closed();
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "usage: %s HOST PORT [MESSAGE]\n", arguments[0]);
    return 2;
  }
  try {
    const auto port = static_cast<std::uint16_t>(std::stoi(arguments[2]));
    return pelton::run(
        tcp_echo_client(arguments[1], port, count > 3 ? arguments[3] : "Hello World!"));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", arguments[0], error.what());
    return 1;
  }
}
