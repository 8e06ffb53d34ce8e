// What pelton-bench is asked to do: its command line as a value.
//
// Neighbours: options.cpp parses and checks; everything else here reads. A plain value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <sys/types.h>

#include <pelton/engine/address.hpp>
#include <pelton/engine/loop_options.hpp>

namespace pelton::bench {

enum class Mode { echo, lines, stream, connect, idle };
[[nodiscard]] std::string_view to_string(Mode mode) noexcept;

struct Options {
  Mode mode = Mode::echo;
  std::string connect;  ///< as it was given
  Endpoint endpoint;    ///< what that means
  unsigned connections = 64;
  std::size_t size = 64;  ///< bytes of a message, of a line with its "\n", of a write
  unsigned pipeline = 1;  ///< messages in flight on each connection
  double rate = 0;        ///< requests per second over all connections; 0: as fast as it goes
  double duration_s = 5;
  double warmup_s = 1;
  unsigned threads = 1;
  double timeout_s = 10;  ///< silence of the server that ends the run
  bool ping = false;      ///< Redis's PING and +PONG in place of the pattern
  std::string json;       ///< a file, "-" for standard output, empty for none
  std::string hdr;        ///< a file, empty for none
  pid_t server_pid = 0;
  BusyPoll busy_poll{};

  [[nodiscard]] bool open_loop() const noexcept { return rate > 0; }
};

/// What a command line came to: options, or the status to exit with.
struct Parsed {
  Options options;
  bool run = false;
  int status = 0;  ///< where !run: 0 after --help, 2 after a bad argument, told on stderr
};

/// Parses and checks; prints help and complaints.
[[nodiscard]] Parsed parse_command_line(int count, const char* const* arguments);

}  // namespace pelton::bench
