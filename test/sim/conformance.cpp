// sim_conformance: the scripts of test/engine/ring_conformance*_test.cpp on the simulated ring.
//
// They are the same files, with the same expectations as on epoll and io_uring, so that what
// SimRing does is what the kernels do. Time and chance are simulated, hence each script runs with
// several seeds. No fault strikes, and nothing is checked of who asks. Neighbours:
// support/ring_stage.hpp; sim_ring.hpp, script_calls.cpp.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <set>
#include <string>

#include <support/ring_stage.hpp>

#include "sim/sim_ring.hpp"

namespace {

constexpr std::uint64_t seeds = 5;
constexpr std::size_t scripts_least = 30;

/// By their names, for a test case may call agree() several times.
std::set<std::string> simulated;
std::set<std::string> turned_down;

std::string this_case() { return doctest::getContextOptions()->currentTest->m_name; }

}  // namespace

namespace pelton::test {

void agree(const std::function<void(Stage&)>& script, const Trace& expected,
           const RingOptions& size, NotSimulated not_simulated) {
  if (!not_simulated.reason.empty()) {
    turned_down.insert(this_case() + ": " + std::string(not_simulated.reason));
    return;
  }
  simulated.insert(this_case());
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    sim::World world(seed, false);
    world.checks_program = false;
    Stage stage(std::make_unique<sim::SimRing>(
        world, sim::RingShape{.sq_entries = size.sq_entries, .cq_entries = size.cq_entries}));
    script(stage);
    CHECK(stage.trace == expected);
  }
}

}  // namespace pelton::test

int main(int count, char** arguments) {
  doctest::Context context(count, arguments);
  const int failed = context.run();
  if (context.shouldExit() || count > 1) return failed;
  std::printf("%zu scripts ran on the simulation, %zu did not:\n", simulated.size(),
              turned_down.size());
  for (const std::string& each : turned_down) std::printf("  %s\n", each.c_str());
  if (simulated.size() >= scripts_least) return failed;
  std::printf("fewer than %zu scripts were simulated\n", scripts_least);
  return 1;
}
