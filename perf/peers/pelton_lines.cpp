// pelton_lines.cpp: a server of lines on pelton, as a user of the library writes it.
//
// Each line that comes is answered by a line of the same bytes. What is under test is readline():
// the lines go back out by reference, and all that a turn of the loop wrote to a connection leaves
// in one send.
//
// Neighbours: peer_common.c (command line, announcement); asio_peer.cpp and the peers in other
// languages answer the same lines.
// Ownership: reader and writer belong to their connection's task.
#include <csignal>
#include <cstdio>
#include <exception>

#include <pelton/engine/sync.hpp>
#include <pelton/stream.hpp>

#include "peer_common.h"

namespace {

pelton::Task<> answer_lines(pelton::StreamReader reader, pelton::StreamWriter writer) {
  for (;;) {
    pelton::Result<pelton::Bytes> line = co_await reader.try_readline();
    if (!line || line->empty()) break;
    writer.write(std::move(*line));
    const pelton::Result<void> drained = co_await writer.try_drain();
    if (!drained) break;
  }
  writer.close();
}

pelton::Server listen(const peer_options& options) {
  pelton::ServerOptions server_options;
  server_options.backlog = 4096;
  if (options.unix_path != nullptr) {
    return pelton::start_unix_server(answer_lines, options.unix_path, server_options);
  }
  return pelton::start_server(answer_lines, "127.0.0.1", options.port, server_options);
}

pelton::Task<> serve(const peer_options& options) {
  pelton::Loop& loop = pelton::Loop::running();
  pelton::Event stop;
  for (const int number : {SIGTERM, SIGINT}) {
    loop.add_signal_handler(number, [&stop] { stop.set(); });
  }
  pelton::Server server = listen(options);
  peer_announce(server.sockets().front());
  co_await stop.wait();
  server.close();
  server.abort_clients();
  co_await server.wait_closed();
}

}  // namespace

int main(int count, char** arguments) {
  peer_options options{};
  options.modes = PEER_LINES;
  peer_parse(count, arguments, "pelton_lines", "A server of lines on pelton's streams.", &options);
  pelton::LoopOptions loop_options;
  loop_options.busy_poll.mode = pelton::BusyPoll::Mode::off;  // it blocks, as the other peers do
  loop_options.batch_wait = pelton::BatchWait::off;
  try {
    return pelton::run(serve(options), loop_options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pelton_lines: %s\n", error.what());
    return 1;
  }
}
