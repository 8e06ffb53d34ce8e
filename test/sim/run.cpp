// Draws the sizes, makes the loop, runs the scenario, checks. See run.hpp.
#include "sim/run.hpp"

#include <algorithm>
#include <bit>
#include <iterator>

#include "sim/course.hpp"
#include "sim/sim_ring.hpp"

namespace pelton::sim {
namespace {

LoopOptions draw_options(Random& random) {
  LoopOptions options;
  options.buffer_count = std::bit_ceil(static_cast<unsigned>(random.scaled(1, 64)));
  options.buffer_bytes = static_cast<std::size_t>(random.scaled(64, 4096));
  options.completions_per_turn = static_cast<unsigned>(random.scaled(1, 64));
  // Not automatic: that goes by the CPU time, which no seed reproduces.
  options.busy_poll.mode = random.chance(200) ? BusyPoll::Mode::always : BusyPoll::Mode::off;
  options.batch_wait = BatchWait::off;  // it goes by the CPU time, which is not simulated
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
  const RingShape shape = RingShape::draw(world.random);
  const LoopOptions options = draw_options(world.random);
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
    world.check_invariants = nullptr;
    if (world.random.chance(500)) loop.cancel_all_tasks();
    loop.close();
  }
  world.check_end();
  return world.totals;
}

}  // namespace pelton::sim
