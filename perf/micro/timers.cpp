// Micro benchmarks of timers: call_later armed and cancelled among others, and fired.
//
// Neighbours: support.hpp. The argument is the number of timers that are pending.
#include "support.hpp"

namespace pelton::micro {
namespace {

/// `count` timers that do not fire while this is measured, with deadlines in no order.
std::vector<CallHandle> pending_timers(Loop& loop, std::size_t count) {
  std::vector<CallHandle> handles;
  handles.reserve(count);
  std::uint64_t mixed = 1;
  for (std::size_t index = 0; index < count; ++index) {
    mixed = mixed * 6364136223846793005U + 1442695040888963407U;
    handles.push_back(loop.call_later(std::chrono::seconds(1000 + (mixed >> 33) % 1000), [] {}));
  }
  return handles;
}

void cancel_all(std::vector<CallHandle>& handles) {
  for (CallHandle& handle : handles) handle.cancel();
}

/// The timeout that never fires: armed to end before all others, then cancelled.
Task<> timer_arm_cancel(benchmark::State& state) {
  Loop& loop = Loop::running();
  auto pending = pending_timers(loop, static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) loop.call_later(std::chrono::seconds(60), [] {}).cancel();
  cancel_all(pending);
  co_return;
}
PELTON_BENCHMARK(timer_arm_cancel)->Arg(10)->Arg(1000)->Arg(100'000);

/// The same with equal delays, as a server's timeouts have: each one ends after all others.
Task<> timer_arm_cancel_last(benchmark::State& state) {
  Loop& loop = Loop::running();
  auto pending = pending_timers(loop, static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) loop.call_later(std::chrono::hours(1), [] {}).cancel();
  cancel_all(pending);
  co_return;
}
PELTON_BENCHMARK(timer_arm_cancel_last)->Arg(10)->Arg(1000)->Arg(100'000);

/// So many timers at once are armed for now, fire in the next turn, and run.
Task<> timer_fire(benchmark::State& state) {
  Loop& loop = Loop::running();
  const auto count = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    std::size_t fired = 0;
    for (std::size_t index = 0; index < count; ++index) {
      loop.call_later(Duration::zero(), [&fired] { ++fired; });
    }
    while (fired < count) co_await next_turn();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
PELTON_BENCHMARK(timer_fire)->Arg(1)->Arg(10)->Arg(1000);

}  // namespace
}  // namespace pelton::micro
