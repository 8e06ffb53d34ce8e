// Draws the sizes, makes the loop, runs the scenario, checks. See run.hpp.
#include "sim/run.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>

#include "sim/course.hpp"
#include "sim/sim_ring.hpp"

namespace pelton::sim {
namespace {

constexpr unsigned crowds_per_mille = 10;  // for whom a loop waits in batches

LoopOptions draw_options(Random& random, bool crowded) {
  LoopOptions options;
  options.buffer_count = std::bit_ceil(static_cast<unsigned>(random.scaled(1, 64)));
  options.buffer_bytes = static_cast<std::size_t>(random.scaled(64, 4096));
  options.completions_per_turn = static_cast<unsigned>(random.scaled(1, 64));
  constexpr std::array modes{BusyPoll::Mode::off, BusyPoll::Mode::off, BusyPoll::Mode::always,
                             BusyPoll::Mode::automatic, BusyPoll::Mode::automatic};
  options.busy_poll.mode = modes[random.below(modes.size())];
  options.batch_wait = random.chance(500) ? BatchWait::automatic : BatchWait::off;
  if (crowded) {
    options.buffer_count = 256;
    options.buffer_bytes = 256;
    options.completions_per_turn = 64;
    options.busy_poll.mode = BusyPoll::Mode::off;
    options.batch_wait = BatchWait::automatic;
  }
  return options;
}

const ScenarioName& entry_of(const Seed& seed) noexcept {
  const auto named = std::ranges::find(scenarios, seed.scenario, &ScenarioName::name);
  if (named != std::end(scenarios)) return *named;
  return scenarios[seed.number % std::size(scenarios)];
}

/// What reaches the loop's handler must have been brought about by a fault.
void judge_exception(World& world, const ExceptionContext& context) {
  if (context.message.starts_with("socket.accept()")) return;
  world.fail("the exception handler was called: %s: %s", context.message.c_str(),
             context.exception ? Failure(context.exception).message().c_str() : "");
}

}  // namespace

std::string_view scenario_of(const Seed& seed) noexcept { return entry_of(seed).name; }

Totals run_seed(const Seed& seed, bool trace) {
  World world(seed.number, trace);
  world.lowest_first = world.random.chance(500);
  world.crowded = world.random.chance(crowds_per_mille);
  RingShape shape = RingShape::draw(world.random);
  if (world.crowded) shape = {.sq_entries = 64, .cq_entries = 256};
  const LoopOptions options = draw_options(world.random, world.crowded);
  world.trace("scenario %s, sq %u, cq %u, %u buffers of %zu bytes",
              std::string(scenario_of(seed)).c_str(), shape.sq_entries, shape.cq_entries,
              options.buffer_count, options.buffer_bytes);
  {
    Loop loop(options, std::make_unique<SimRing>(world, shape));
    loop.set_exception_handler(
        [&world](Loop&, const ExceptionContext& context) { judge_exception(world, context); });
    const std::unique_ptr<Course> course = entry_of(seed).make(world, loop);
    try {
      loop.run_until_complete(course->run());
    } catch (const std::exception& error) {
      world.fail("the scenario raised: %s", error.what());
    }
    course->check();
    world.totals.spins += loop.stats().spins;
    world.totals.batch_waits += loop.stats().batch_waits;
    world.check_invariants = nullptr;
    if (world.random.chance(500)) loop.cancel_all_tasks();
    loop.close();
  }
  world.check_end();
  return world.totals;
}

}  // namespace pelton::sim
