// pelton-bench: loads a server and says how fast it was, to what latency, and at what cost.
//
// A thin main: options.hpp reads the command line, run.hpp measures, report.hpp composes what is
// written here. Files are opened before the run, so that a bad path costs no measurement.
#include <cstdio>
#include <fstream>
#include <iostream>

#include <pelton/engine/log.hpp>

#include "perf/bench/report.hpp"

namespace {

using namespace pelton::bench;

constexpr int exit_failed = 1;
constexpr int exit_bad_usage = 2;

void say(const std::string& text) { std::cerr << "pelton-bench: " << text << std::endl; }

/// A file to write to, or nothing for an empty name. \throws pelton::ValueError
std::ofstream open_output(const std::string& option, const std::string& name) {
  std::ofstream file;
  if (name.empty()) return file;
  file.open(name);
  if (!file) {
    throw pelton::ValueError(option + " " + name + ": " + std::strerror(errno) +
                             ": give a file that can be written");
  }
  return file;
}

bool write(std::ostream& out, const std::string& text) {
  out << text;
  out.flush();
  return bool(out);
}

int report(const Options& options, const Outcome& outcome, std::ofstream& json,
           std::ofstream& hdr) {
  for (const std::string& text : warnings(options, outcome)) say("warning: " + text);
  if (!outcome.failure.empty()) {
    say(outcome.failure);
    return exit_failed;
  }
  const bool json_on_stdout = options.json == "-";
  bool written =
      write(std::cout, json_on_stdout ? to_json(options, outcome) : summary(options, outcome));
  if (json.is_open()) written = write(json, to_json(options, outcome)) && written;
  if (hdr.is_open()) written = write(hdr, percentile_text(outcome.tally.latencies)) && written;
  if (written) return 0;
  say("the figures could not be written");
  return exit_failed;
}

}  // namespace

int main(int count, char** arguments) {
  const Parsed parsed = parse_command_line(count, arguments);
  if (!parsed.run) return parsed.status;
  const Options& options = parsed.options;
  pelton::set_log_level(pelton::LogLevel::error);  // a run that fails leaves streams open
  try {
    std::ofstream json = open_output("--json", options.json == "-" ? "" : options.json);
    std::ofstream hdr = open_output("--hdr", options.hdr);
    Run run(options);
    return report(options, run.execute(), json, hdr);
  } catch (const pelton::ValueError& error) {
    say(error.what());
    return exit_bad_usage;
  } catch (const std::exception& error) {
    say(error.what());
    return exit_failed;
  }
}
