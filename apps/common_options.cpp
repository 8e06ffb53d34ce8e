// The command line of the server programs. See common.hpp.
#include <CLI/CLI.hpp>

#include "apps/common.hpp"
#include "apps/number_range.hpp"

namespace pelton::apps {

void ServerConfig::add_to(CLI::App& app) {
  app.add_option("-l,--listen", listen,
                 "Address to serve: HOST:PORT, [V6]:PORT, :PORT or unix:PATH; may be repeated")
      ->required()
      ->type_name("ADDR");
  app.add_option("-t,--threads", threads, "Threads, one loop each")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  app.add_option("--engine", engine,
                 "What carries out the I/O: uring; epoll; or auto, which is uring where the host "
                 "allows it and epoll elsewhere, unless the environment's PELTON_ENGINE names one")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "uring", "epoll"}));
  app.add_option("--busy-poll", busy_poll, "Spin before sleeping: auto, off or microseconds")
      ->capture_default_str();
  app.add_option("--batch-wait", batch_wait,
                 "Let a crowd's requests gather for up to 100 us where that saves CPU: auto or off")
      ->capture_default_str();
  app.add_flag(
      "--restrict-ring", restrict_ring,
      "Let the kernel refuse what the server never asks of its ring, such as opening files");
  app.add_option("--buffers", buffers, "Receive buffers of each thread")
      ->capture_default_str()
      ->check(CLI::Range(1, 32768));
  app.add_option("--buffer-size", buffer_bytes, "Bytes of each receive buffer")
      ->capture_default_str()
      ->check(CLI::Range(64, 1 << 24));
  app.add_option("--limit", limit, "Reading pauses above twice this many unread bytes")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 30));
  app.add_option("--backlog", backlog, "Connections that may wait to be accepted")
      ->capture_default_str()
      ->check(CLI::Range(1, 65535));
  app.add_option("--drain-timeout", drain_timeout_s,
                 "Seconds that connections may go on after SIGTERM")
      ->capture_default_str()
      ->check(NumberRange(0.0, 86400.0));
}

LoopOptions ServerConfig::loop_options() const {
  LoopOptions options;
  options.busy_poll = BusyPoll::parse(busy_poll);
  options.batch_wait = parse_batch_wait(batch_wait);
  options.engine = Engine::parse(engine);
  options.restrict_ring = restrict_ring;
  options.buffer_count = buffers;
  options.buffer_bytes = buffer_bytes;
  return options;
}

int run_command_line(CLI::App& app, int count, char** arguments,
                     const std::function<int()>& serve_parsed) {
  constexpr int exit_bad_usage = 2;
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : exit_bad_usage;
  }
  try {
    return serve_parsed();
  } catch (const std::exception& error) {
    std::cerr << app.get_name() << ": " << error.what() << std::endl;
    return exit_cannot_serve;
  }
}

}  // namespace pelton::apps
