// What pelton-bench tells: a summary for people, JSON for programs, percentiles for plotters.
//
// Neighbours: run.hpp makes the Outcome; main.cpp decides which of these are written where.
#pragma once

#include <string>

#include "perf/bench/run.hpp"

namespace pelton::bench {

/// A few lines, each with its newline.
[[nodiscard]] std::string summary(const Options& options, const Outcome& outcome);
/// One JSON object on one line; README.md describes its fields.
[[nodiscard]] std::string to_json(const Options& options, const Outcome& outcome);
/// What makes the figures doubtful, a line each without a newline; empty where nothing does.
[[nodiscard]] std::vector<std::string> warnings(const Options& options, const Outcome& outcome);
/// HdrHistogram's percentile distribution: value in us, percentile, count, 1/(1-percentile).
[[nodiscard]] std::string percentile_text(const Histogram& histogram);

}  // namespace pelton::bench
