// pelton-proxy: carries the bytes of each connection to one upstream and back.
//
// A client's bytes wait in its reader until the upstream is connected; then relay() forwards the
// pieces of the receive buffers both ways, uncopied, half-closes included. Neighbours: common.hpp
// has the rest of the program, stream/relay.hpp the carrying.
#include <CLI/CLI.hpp>

#include <pelton/engine/log.hpp>
#include <pelton/engine/timeout.hpp>

#include "apps/common.hpp"
#include "apps/number_range.hpp"

namespace {

using pelton::Endpoint;
using pelton::Loop;
using pelton::StreamPair;
using pelton::Task;

// Four times the stream's: fewer and larger turns, so that the ends of a bulk transfer are woken
// less often, which is most of its cost.
constexpr std::size_t limit_default = 4 * pelton::stream_limit_default;

struct Upstream {
  Endpoint endpoint;
  double connect_timeout_s = 10;
  std::size_t limit = pelton::stream_limit_default;
  bool splice = true;
};

Task<StreamPair> open_upstream(const Upstream& upstream) {
  pelton::ConnectOptions options;
  options.limit = upstream.limit;
  if (upstream.endpoint.kind == Endpoint::Kind::unix_socket) {
    return pelton::open_unix_connection(upstream.endpoint.path, options);
  }
  return pelton::open_connection(upstream.endpoint.host, upstream.endpoint.port, options);
}

Task<> carry(StreamPair client, const Upstream& upstream) {
  const std::chrono::duration<double> patience(upstream.connect_timeout_s);
  std::optional<StreamPair> server;
  try {
    server.emplace(co_await pelton::wait_for(
        open_upstream(upstream), std::chrono::duration_cast<pelton::Duration>(patience)));
  } catch (const std::exception& error) {
    pelton::log(pelton::LogLevel::warn,
                "upstream " + upstream.endpoint.to_string() + ": " + error.what());
  }
  if (!server) {
    client.writer.transport().abort();
    co_return;
  }
  // As much may be on its way out as may wait to go: a turn moves that much at a time.
  client.writer.transport().set_write_buffer_limits(upstream.limit);
  server->writer.transport().set_write_buffer_limits(upstream.limit);
  // As a task of its own: what it took to connect does not stay in memory with the connection.
  Loop::running().create_task(
      pelton::relay_unobserved(std::move(client), std::move(*server), {.splice = upstream.splice}));
}

int serve(const pelton::apps::ServerConfig& config, const std::string& upstream_text,
          double connect_timeout_s, bool splice) {
  Upstream upstream;
  upstream.endpoint = Endpoint::parse(upstream_text);
  upstream.connect_timeout_s = connect_timeout_s;
  upstream.limit = config.limit;
  upstream.splice = splice;
  return pelton::apps::serve("pelton-proxy", config, [&upstream] {
    return pelton::detail::make_handler(
        [&upstream](pelton::StreamReader reader, pelton::StreamWriter writer) {
          return carry(StreamPair(std::move(reader), std::move(writer)), upstream);
        });
  });
}

}  // namespace

int main(int count, char** arguments) {
  CLI::App app("Carries the bytes of each connection to an upstream and back.", "pelton-proxy");
  pelton::apps::ServerConfig config;
  config.limit = limit_default;
  config.add_to(app);
  std::string upstream;
  double connect_timeout_s = 10;
  app.add_option("-u,--upstream", upstream, "Where to: HOST:PORT, [V6]:PORT or unix:PATH")
      ->required()
      ->type_name("ADDR");
  app.add_option("--connect-timeout", connect_timeout_s, "Seconds to wait for the upstream")
      ->capture_default_str()
      ->check(pelton::apps::NumberRange(0.001, 3600.0));
  std::string splice = "auto";
  app.add_option(
         "--splice", splice,
         "auto: bulk flows are moved by splice(2), which takes less CPU; off: always copied")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "off"}));
  return pelton::apps::run_command_line(app, count, arguments, [&] {
    return serve(config, upstream, connect_timeout_s, splice == "auto");
  });
}
