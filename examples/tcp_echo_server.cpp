// TCP echo server: asyncio's documented example, with pelton.
//
//   example_tcp_echo_server [HOST PORT]          (127.0.0.1 8888)
#include <cstdio>
#include <exception>
#include <string>

#include <pelton/stream.hpp>

namespace {

pelton::Task<> handle_echo(pelton::StreamReader reader, pelton::StreamWriter writer) {
  const pelton::Bytes data = co_await reader.read(100);
  const auto peer =
      std::get<pelton::SocketAddress>(writer.get_extra_info("peername", pelton::SocketAddress()));
  std::printf("Received '%s' from %s\n", data.to_string().c_str(), peer.to_string().c_str());

  std::printf("Send: '%s'\n", data.to_string().c_str());
  writer.write(data);
  co_await writer.drain();

  std::puts("Close the connection");
  std::fflush(stdout);
  writer.close();
  co_await writer.wait_closed();
}

pelton::Task<> serve(std::string host, std::uint16_t port) {
  pelton::Server server = pelton::start_server(handle_echo, host, port);
  for (const pelton::SocketAddress& address : server.addresses()) {
    std::printf("Serving on %s\n", address.to_string().c_str());
  }
  std::fflush(stdout);
  co_await server.serve_forever();
}

}  // namespace

int main(int count, char** arguments) {
  try {
    const std::string host = count > 1 ? arguments[1] : "127.0.0.1";
    const int port = count > 2 ? std::stoi(arguments[2]) : 8888;
    return pelton::run(serve(host, static_cast<std::uint16_t>(port)));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", arguments[0], error.what());
    return 1;
  }
}
