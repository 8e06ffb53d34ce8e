// Composing the reports. See report.hpp.
#include "perf/bench/report.hpp"

#include <array>
#include <cmath>
#include <cstdio>

#include <nlohmann/json.hpp>

namespace pelton::bench {
namespace {

using Json = nlohmann::ordered_json;

struct Percentile {
  const char* name;
  double percent;
};
constexpr std::array<Percentile, 5> percentiles{
    {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}, {"p99.99", 99.99}}};
constexpr double sustained_at_least = 0.99;  // of the rate that was asked for

/// The layouts are this file's own.
template <class... Arguments>
std::string format(const char* layout, Arguments... arguments) {
  std::array<char, 512> text;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  const int size = std::snprintf(text.data(), text.size(), layout, arguments...);
#pragma GCC diagnostic pop
  return std::string(text.data(), static_cast<std::size_t>(std::max(size, 0)));
}

double microseconds(std::uint64_t ns) { return static_cast<double>(ns) / 1e3; }

/// Three decimals: what is behind them is noise.
double rounded(double value) { return std::round(value * 1e3) / 1e3; }

double per_second(std::uint64_t count, const Outcome& outcome) {
  return static_cast<double>(count) / outcome.duration_s;
}

double cpu_us_per_request(const Outcome& outcome) {
  return outcome.server.cpu_s * 1e6 / static_cast<double>(outcome.tally.requests);
}

double rss_bytes_per_connection(const Options& options, const Outcome& outcome) {
  return (static_cast<double>(outcome.server_after.rss_bytes) -
          static_cast<double>(outcome.server_before.rss_bytes)) /
         options.connections;
}

Json latency_json(const Histogram& latencies) {
  Json json;
  json["min"] = rounded(microseconds(latencies.min_ns()));
  json["mean"] = rounded(latencies.mean_ns() / 1e3);
  for (const Percentile& each : percentiles) {
    json[each.name] = rounded(microseconds(latencies.percentile_ns(each.percent)));
  }
  json["max"] = rounded(microseconds(latencies.max_ns()));
  return json;
}

Json server_json(const Options& options, const Outcome& outcome) {
  Json json;
  json["pid"] = options.server_pid;
  json["cpu_s"] = outcome.server.cpu_s;
  json["cpu_us_per_request"] = cpu_us_per_request(outcome);
  json["cpu_percent"] = rounded(outcome.server.cpu_percent());
  json["wait_percent"] = rounded(outcome.server.wait_percent());
  json["rss_bytes_before"] = outcome.server_before.rss_bytes;
  json["rss_bytes"] = outcome.server_after.rss_bytes;
  if (outcome.server_after.pss_bytes > 0) json["pss_bytes"] = outcome.server_after.pss_bytes;
  json["rss_bytes_per_connection"] = rounded(rss_bytes_per_connection(options, outcome));
  return json;
}

std::string server_lines(const Options& options, const Outcome& outcome) {
  const Spent& server = outcome.server;
  return format("server    %.3f us CPU per request, %.1f %% of a CPU, kept waiting %.2f %%\n",
                cpu_us_per_request(outcome), server.cpu_percent(), server.wait_percent()) +
         format("memory    %.1f MB resident, %.1f before; %.0f bytes per connection\n",
                static_cast<double>(outcome.server_after.rss_bytes) / 1e6,
                static_cast<double>(outcome.server_before.rss_bytes) / 1e6,
                rss_bytes_per_connection(options, outcome));
}

}  // namespace

std::string summary(const Options& options, const Outcome& outcome) {
  const Tally& tally = outcome.tally;
  const Histogram& latencies = tally.latencies;
  std::string text = format(
      "%s %s: %u connections, %zu bytes, pipeline %u, %u thread%s, %.3f s%s\n",
      std::string(to_string(options.mode)).c_str(), options.connect.c_str(), options.connections,
      options.size, options.pipeline, options.threads, options.threads == 1 ? "" : "s",
      outcome.duration_s, outcome.interrupted ? " (interrupted)" : "");
  text += format("requests  %llu, %.1f per second", static_cast<unsigned long long>(tally.requests),
                 per_second(tally.requests, outcome));
  text += options.open_loop() ? format(" of %.1f asked for\n", options.rate) : "\n";
  text += format("bytes     %.3f MB/s out, %.3f MB/s back\n",
                 per_second(tally.bytes_sent, outcome) / 1e6,
                 per_second(tally.bytes_received, outcome) / 1e6);
  if (latencies.count() > 0) {
    text += format("latency   min %.1f", microseconds(latencies.min_ns()));
    for (const Percentile& each : percentiles) {
      text += format("  %s %.1f", each.name, microseconds(latencies.percentile_ns(each.percent)));
    }
    text += format("  max %.1f us\n", microseconds(latencies.max_ns()));
  }
  if (options.server_pid != 0) text += server_lines(options, outcome);
  text += format("load      %.1f %% of a CPU, kept waiting %.2f %%\n", outcome.load.cpu_percent(),
                 outcome.load.wait_percent());
  return text;
}

std::string to_json(const Options& options, const Outcome& outcome) {
  const Tally& tally = outcome.tally;
  Json json;
  json["tool"] = "pelton-bench";
  json["mode"] = to_string(options.mode);
  json["connect"] = options.connect;
  json["connections"] = options.connections;
  json["size"] = options.size;
  json["pipeline"] = options.pipeline;
  json["rate"] = options.rate;
  json["threads"] = options.threads;
  json["duration_s"] = outcome.duration_s;
  json["warmup_s"] = options.warmup_s;
  json["interrupted"] = outcome.interrupted;
  json["requests"] = tally.requests;
  json["requests_per_second"] = rounded(per_second(tally.requests, outcome));
  json["bytes_per_second"] = rounded(per_second(tally.bytes_received, outcome));
  json["bytes_sent_per_second"] = rounded(per_second(tally.bytes_sent, outcome));
  json["errors"] = 0;  // the first one ends a run, which then has no figures
  if (options.open_loop()) json["unsent"] = tally.unsent;
  json["latency_us"] = tally.latencies.count() > 0 ? latency_json(tally.latencies) : Json(nullptr);
  json["load"] = {{"cpu_s", outcome.load.cpu_s},
                  {"cpu_percent", rounded(outcome.load.cpu_percent())},
                  {"wait_percent", rounded(outcome.load.wait_percent())}};
  if (options.server_pid != 0) json["server"] = server_json(options, outcome);
  return json.dump() + "\n";
}

std::vector<std::string> warnings(const Options& options, const Outcome& outcome) {
  std::vector<std::string> texts;
  const double achieved = per_second(outcome.tally.requests, outcome);
  if (options.open_loop() &&
      (achieved < sustained_at_least * options.rate || outcome.tally.unsent > 0)) {
    texts.push_back(
        format("the rate of %.1f/s was not sustained: %.1f/s were answered, and %llu "
               "requests that were due could not be sent",
               options.rate, achieved, static_cast<unsigned long long>(outcome.tally.unsent)));
  }
  if (outcome.server.incomplete) {
    texts.push_back("a process of the server ended meanwhile: its CPU time is not in the figures");
  }
  return texts;
}

std::string percentile_text(const Histogram& histogram) {
  constexpr double ticks_per_half = 5;  // lines for each halving of what is left to 100 %
  std::string text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n";
  const auto total = static_cast<double>(histogram.count());
  double next = 0;
  std::uint64_t seen = 0;
  histogram.for_each_slot([&](std::uint64_t value_ns, std::uint64_t count) {
    seen += count;
    const double reached = static_cast<double>(seen) / total;
    if (seen < histogram.count() && reached < next) return;
    text += format("%12.3f %1.12f %10llu", microseconds(value_ns), reached,
                   static_cast<unsigned long long>(seen));
    text += seen < histogram.count() ? format(" %14.2f\n", 1 / (1 - reached)) : "\n";
    const double halvings = std::floor(std::log2(1 / std::max(1 - reached, 1e-12))) + 1;
    next = reached + 1 / (ticks_per_half * std::exp2(halvings));
  });
  text += format("#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", histogram.mean_ns() / 1e3,
                 histogram.deviation_ns() / 1e3);
  text += format("#[Max     = %12.3f, Total count    = %12llu]\n", microseconds(histogram.max_ns()),
                 static_cast<unsigned long long>(histogram.count()));
  text += format("#[Buckets = %12zu, SubBuckets     = %12llu]\n", Histogram::doublings,
                 static_cast<unsigned long long>(Histogram::linear_slots));
  return text;
}

}  // namespace pelton::bench
