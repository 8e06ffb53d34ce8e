// Micro benchmarks of tasks and callbacks: awaiting, creating, switching, call_soon.
//
// Neighbours: support.hpp. An item is one operation that the benchmark's name says.
#include <pelton/engine/queue.hpp>

#include "support.hpp"

namespace pelton::micro {
namespace {

constexpr std::size_t batch = 64;

[[gnu::noinline]] Task<int> ready_child(int value) { co_return value; }

/// A coroutine that does not wait is awaited: a frame, a resume, a result.
Task<> await_child(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(co_await ready_child(1));
}
PELTON_BENCHMARK(await_child);

/// A task is created and awaited to its end, a turn of the loop later.
Task<> create_task(benchmark::State& state) {
  Loop& loop = Loop::running();
  for (auto _ : state) {
    const TaskHandle<int> child = loop.create_task(ready_child(1));
    benchmark::DoNotOptimize(co_await child);
  }
}
PELTON_BENCHMARK(create_task);

/// 64 tasks are created, then awaited: what a task costs where a turn has many.
Task<> create_task_batch(benchmark::State& state) {
  Loop& loop = Loop::running();
  std::vector<TaskHandle<int>> children;
  children.reserve(batch);
  for (auto _ : state) {
    for (std::size_t index = 0; index < batch; ++index) {
      children.push_back(loop.create_task(ready_child(1)));
    }
    for (const TaskHandle<int>& child : children) benchmark::DoNotOptimize(co_await child);
    children.clear();
  }
  state.SetItemsProcessed(state.iterations() * std::int64_t{batch});
}
PELTON_BENCHMARK(create_task_batch);

Task<> yield_until(const bool& done) {
  while (!done) co_await next_turn();
}

/// Two tasks that let each other run with sleep(0); a turn runs both.
Task<> switch_sleep(benchmark::State& state) {
  bool done = false;
  const TaskHandle<> other = Loop::running().create_task(yield_until(done));
  for (auto _ : state) co_await next_turn();
  done = true;
  co_await other;
  state.SetItemsProcessed(2 * state.iterations());
}
PELTON_BENCHMARK(switch_sleep);

struct EventPair {
  Event ping;
  Event pong;
  bool done = false;
};

Task<> answer_events(EventPair& events) {
  while (!events.done) {
    co_await events.ping.wait();
    events.ping.clear();
    events.pong.set();
  }
}

/// Two tasks that wake each other through Events.
Task<> switch_event(benchmark::State& state) {
  EventPair events;
  const TaskHandle<> other = Loop::running().create_task(answer_events(events));
  for (auto _ : state) {
    events.ping.set();
    co_await events.pong.wait();
    events.pong.clear();
  }
  events.done = true;
  events.ping.set();
  co_await other;
  state.SetItemsProcessed(2 * state.iterations());
}
PELTON_BENCHMARK(switch_event);

Task<> answer_queue(Queue<int>& questions, Queue<int>& answers) {
  for (int item = co_await questions.get(); item >= 0; item = co_await questions.get()) {
    answers.put_nowait(item);
  }
}

/// Two tasks that hand each other an item through Queues.
Task<> switch_queue(benchmark::State& state) {
  Queue<int> questions;
  Queue<int> answers;
  const TaskHandle<> other = Loop::running().create_task(answer_queue(questions, answers));
  for (auto _ : state) {
    questions.put_nowait(1);
    benchmark::DoNotOptimize(co_await answers.get());
  }
  questions.put_nowait(-1);
  co_await other;
  state.SetItemsProcessed(2 * state.iterations());
}
PELTON_BENCHMARK(switch_queue);

/// 64 callbacks are queued and run in one turn.
Task<> call_soon(benchmark::State& state) {
  Loop& loop = Loop::running();
  std::size_t called = 0;
  for (auto _ : state) {
    for (std::size_t index = 0; index < batch; ++index) loop.call_soon([&called] { ++called; });
    co_await next_turn();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(called));
}
PELTON_BENCHMARK(call_soon);

/// A future is awaited that a callback resolves.
Task<> future(benchmark::State& state) {
  Loop& loop = Loop::running();
  for (auto _ : state) {
    Future<int> result = loop.create_future<int>();
    loop.call_soon([&result] { result.set_result(1); });
    benchmark::DoNotOptimize(co_await result);
  }
}
PELTON_BENCHMARK(future);

}  // namespace
}  // namespace pelton::micro
