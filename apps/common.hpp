// What pelton-echo and pelton-proxy share: their command line, their threads, their end.
//
// A server program is N threads with one loop each. Every address is bound once per thread before
// the threads begin, so that a refused address ends the program before it serves. SIGTERM and
// SIGINT stop the listening, let connections go on for a bounded while, and end the rest.
//
// Neighbours: echo.cpp and proxy.cpp give a handler; stream/server.hpp listens.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <pelton/stream.hpp>

namespace CLI {
class App;
}

namespace pelton::apps {

/// The exit status where the configuration or the host cannot serve (EX_CONFIG).
inline constexpr int exit_cannot_serve = 78;

/// The options of every server program.
struct ServerConfig {
  std::vector<std::string> listen;
  unsigned threads = 1;
  std::string engine = "auto";
  std::string busy_poll = "auto";
  std::string batch_wait = "auto";
  bool restrict_ring = false;
  unsigned buffers = 512;
  std::size_t buffer_bytes = 16 * 1024;
  std::size_t limit = stream_limit_default;
  unsigned backlog = 4096;
  double drain_timeout_s = 10;

  /// Declares the options on `app`.
  void add_to(CLI::App& app);
  /// \throws ValueError  an option's text cannot be read.
  [[nodiscard]] LoopOptions loop_options() const;
};

/// Makes the handler of one thread's connections; called on that thread, its loop running.
using HandlerFactory = std::function<detail::ConnectionHandler()>;

/// Serves until a signal ends it. \return the exit status: 0, or 78 with the reason on stderr.
/// On its way it prints "NAME listening on ADDRESS engine=... ..." per address on stdout, and
/// "NAME stopped: counters" on stderr. Both name every engine that a thread runs on:
/// "io_uring,epoll" where only some of them got io_uring; the rest is the first thread's.
[[nodiscard]] int serve(const std::string& name, const ServerConfig& config,
                        const HandlerFactory& make_handler);

/// Parses the command line and calls `serve_parsed`. \return the exit status; 2 for bad usage.
[[nodiscard]] int run_command_line(CLI::App& app, int count, char** arguments,
                                   const std::function<int()>& serve_parsed);

}  // namespace pelton::apps
