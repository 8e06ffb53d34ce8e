// NumberRange: the bounds of an option that takes a number with a fraction.
//
// CLI11's own range takes NaN, which is neither below nor above any bound, and what is computed
// with it would be no duration and no rate. Neighbours: the command lines of apps/ and of
// perf/bench.
#pragma once

#include <cmath>
#include <cstdlib>
#include <string>

#include <CLI/CLI.hpp>

namespace pelton::apps {

class NumberRange : public CLI::Range {
 public:
  NumberRange(double least, double most) : CLI::Range(least, most) {
    func_ = [in_range = func_](std::string& text) {
      const bool number = !std::isnan(std::strtod(text.c_str(), nullptr));
      return number ? in_range(text) : "Value " + text + " is not a number";
    };
  }
};

}  // namespace pelton::apps
