// The histogram of pelton-bench: its percentiles against exact ones, its edges, its merging.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "perf/bench/histogram.hpp"
#include "perf/bench/report.hpp"

namespace {

using pelton::bench::Histogram;

/// The lowest of the sorted values that `percent` of them do not exceed.
std::uint64_t exact_percentile(const std::vector<std::uint64_t>& sorted, double percent) {
  const double wanted = percent / 100 * static_cast<double>(sorted.size());
  const auto rank = static_cast<std::size_t>(std::ceil(wanted - 1e-9 * wanted));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

TEST_CASE("percentiles of random values are within 0.1 % of the exact ones") {
  std::mt19937_64 random(7);
  for (const double spread : {0.1, 1.0, 3.0}) {
    std::lognormal_distribution<double> latency(std::log(50'000), spread);
    Histogram histogram;
    std::vector<std::uint64_t> values;
    for (int index = 0; index < 100'000; ++index) {
      values.push_back(static_cast<std::uint64_t>(std::min(latency(random), 59e9)));
      histogram.record(values.back());
    }
    std::ranges::sort(values);
    for (const double percent : {0.0, 1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
      CAPTURE(spread);
      CAPTURE(percent);
      const auto exact = static_cast<double>(exact_percentile(values, percent));
      const auto got = static_cast<double>(histogram.percentile_ns(percent));
      CHECK(got >= exact);
      CHECK(got <= exact * 1.001 + 1);
    }
    CHECK(histogram.min_ns() == values.front());
    CHECK(histogram.max_ns() == values.back());
    CHECK(histogram.count() == values.size());
  }
}

TEST_CASE("values below 2 us are exact, and neighbours of 20 us are told apart at 0.1 us") {
  Histogram histogram;
  for (std::uint64_t value = 0; value < 2048; ++value) {
    CHECK(Histogram::slot_of(value) == value);
    CHECK(Histogram::highest_of(value) == value);
  }
  CHECK(Histogram::slot_of(20'000) != Histogram::slot_of(20'100));
}

TEST_CASE("every value lies in a slot that ends at most 0.1 % above it") {
  std::uint64_t previous_end = 2047;
  for (std::size_t slot = 2048; slot <= Histogram::slot_of(Histogram::value_ns_max); ++slot) {
    const std::uint64_t end = Histogram::highest_of(slot);
    CHECK(Histogram::slot_of(previous_end + 1) == slot);
    CHECK(Histogram::slot_of(end) == slot);
    CHECK(static_cast<double>(end - previous_end) <= 0.001 * static_cast<double>(end));
    previous_end = end;
  }
  CHECK(previous_end >= Histogram::value_ns_max);
}

TEST_CASE("an empty histogram has zeros") {
  const Histogram histogram;
  CHECK(histogram.count() == 0);
  CHECK(histogram.min_ns() == 0);
  CHECK(histogram.max_ns() == 0);
  CHECK(histogram.mean_ns() == 0);
  CHECK(histogram.percentile_ns(50) == 0);
}

TEST_CASE("one value is every percentile, to the nanosecond") {
  Histogram histogram;
  histogram.record(123'456'789);
  for (const double percent : {0.0, 50.0, 99.99, 100.0}) {
    CHECK(histogram.percentile_ns(percent) == 123'456'789);
  }
  CHECK(histogram.mean_ns() == 123'456'789);
  CHECK(histogram.deviation_ns() == 0);
}

TEST_CASE("more than 60 seconds is counted, and the maximum is kept") {
  Histogram histogram;
  histogram.record(1000);
  histogram.record(3'600'000'000'000);
  CHECK(histogram.count() == 2);
  CHECK(histogram.max_ns() == 3'600'000'000'000);
  CHECK(histogram.percentile_ns(50) == 1000);
  CHECK(histogram.percentile_ns(100) >= Histogram::value_ns_max);
}

TEST_CASE("a merged histogram is that of all values, and a cleared one is empty") {
  std::mt19937_64 random(3);
  std::uniform_int_distribution<std::uint64_t> value(1, 1'000'000);
  Histogram whole;
  Histogram parts[2];
  for (int index = 0; index < 10'000; ++index) {
    const std::uint64_t each = value(random);
    whole.record(each);
    parts[index % 2].record(each);
  }
  parts[0].merge(parts[1]);
  CHECK(parts[0].count() == whole.count());
  CHECK(parts[0].min_ns() == whole.min_ns());
  CHECK(parts[0].max_ns() == whole.max_ns());
  CHECK(parts[0].mean_ns() == doctest::Approx(whole.mean_ns()));
  for (const double percent : {1.0, 50.0, 99.0}) {
    CHECK(parts[0].percentile_ns(percent) == whole.percentile_ns(percent));
  }
  parts[0].clear();
  CHECK(parts[0].count() == 0);
  CHECK(parts[0].percentile_ns(50) == 0);
}

TEST_CASE("the percentile text counts up to all values and ends with its totals") {
  Histogram histogram;
  for (std::uint64_t value = 1; value <= 1000; ++value) histogram.record(value * 1000);
  const std::string text = pelton::bench::percentile_text(histogram);
  CHECK(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"));
  CHECK(text.find("    1000.000 1.000000000000       1000\n") != std::string::npos);
  CHECK(text.find("Total count    =         1000]\n") != std::string::npos);
  CHECK(text.find("#[Max     =     1000.000,") != std::string::npos);
}

}  // namespace
