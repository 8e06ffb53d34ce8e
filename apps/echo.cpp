// pelton-echo: sends back what it receives, on any number of addresses and threads.
//
// The loop of a connection allocates nothing per message and throws nothing: pieces of the receive
// buffers go back out by reference. Neighbours: common.hpp has the rest of the program.
#include <CLI/CLI.hpp>

#include "apps/common.hpp"

namespace {

constexpr std::size_t piece_bytes_max = 64 * 1024;

pelton::Task<> echo(pelton::StreamReader reader, pelton::StreamWriter writer) {
  for (;;) {
    pelton::Result<pelton::Bytes> data = co_await reader.try_read_piece(piece_bytes_max);
    if (!data || data->empty()) break;
    writer.write(std::move(*data));
    if (!co_await writer.try_drain()) break;
  }
  writer.close();
}

}  // namespace

int main(int count, char** arguments) {
  CLI::App app("Sends back what it receives.", "pelton-echo");
  pelton::apps::ServerConfig config;
  config.add_to(app);
  return pelton::apps::run_command_line(app, count, arguments, [&] {
    return pelton::apps::serve("pelton-echo", config,
                               [] { return pelton::detail::make_handler(echo); });
  });
}
