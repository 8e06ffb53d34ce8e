// Wait for data on an open socket: asyncio's documented example, with pelton.
//
//   example_open_socket
#include <cstdio>
#include <exception>
#include <string_view>

#include <sys/socket.h>
#include <sys/types.h>

#include <pelton/stream.hpp>

namespace {

pelton::Task<> wait_for_data() {
  // A pair of connected sockets: one end becomes a stream, the other plays the network.
  auto sockets = pelton::socket_pair();
  if (!sockets) pelton::throw_os_error(sockets.error(), "socketpair");
  const pelton::OwnedFd peer = std::move(sockets->second);

  auto [reader, writer] = co_await pelton::open_connection(std::move(sockets->first));

  // The data arrives later, while the coroutine waits.
  pelton::Loop::running().call_soon([&peer] {
    constexpr std::string_view data = "abc";
    if (send(peer.get(), data.data(), data.size(), 0) < 0) std::perror("send");
  });
  const pelton::Bytes data = co_await reader.read(100);

  std::printf("Received: %s\n", data.to_string().c_str());
  writer.close();
  co_await writer.wait_closed();
}

}  // namespace

int main(int, char** arguments) {
  try {
    return pelton::run(wait_for_data());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", arguments[0], error.what());
    return 1;
  }
}
