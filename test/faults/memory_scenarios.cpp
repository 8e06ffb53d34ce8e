// The scenarios, from the loop upwards. See memory_scenarios.hpp.
#include <faults/memory_scenarios.hpp>

#include <unistd.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include <pelton/engine/gather.hpp>
#include <pelton/engine/queue.hpp>
#include <pelton/engine/shield.hpp>
#include <pelton/engine/sync.hpp>
#include <pelton/engine/task_group.hpp>
#include <pelton/engine/timeout.hpp>
#include <pelton/stream.hpp>

namespace pelton::faults {
namespace {

using std::chrono::milliseconds;

void check(bool holds, const char* what) {
  if (!holds) throw Wrong{what};
}

/// For what a connection that is lost for want of memory cuts short.
void check_whole(bool holds) {
  if (!holds) throw RuntimeError("cut short");
}

// --- The loop and its tasks. What callbacks refer to outlives a coroutine that ends early. ---

Task<> nothing() { co_return; }
Task<int> answer() { co_return 42; }
Task<int> late_answer() {
  co_await sleep(milliseconds(1));
  co_return 42;
}
Task<int> fails() {
  co_await sleep(Duration::zero());
  throw ValueError("a failure whose text is longer than a string keeps by itself");
}
Task<> waits() { co_await sleep(std::chrono::hours(1)); }

Task<> scenario_task() {
  const TaskHandle<int> task = Loop::running().create_task(answer());
  check(co_await task == 42, "a task's result");
}
Task<> scenario_coroutines() {
  for (int round = 0; round < 3; ++round) check(co_await late_answer() == 42, "a result");
}
Task<> scenario_task_exception() {
  const TaskHandle<int> task = Loop::running().create_task(fails());
  bool raised = false;
  try {
    co_await task;
  } catch (const ValueError&) {
    raised = true;
  }
  check(raised, "an exception is lost");
}
Task<> scenario_unretrieved_exception() {
  static_cast<void>(Loop::running().create_task(fails()));
  co_await sleep(milliseconds(1));
}
Task<> scenario_call_soon() {
  const auto calls = std::make_shared<int>(0);
  Loop& loop = Loop::running();
  for (int round = 0; round < 3; ++round) loop.call_soon([calls] { ++*calls; });
  loop.call_soon([] { throw ValueError("of a callback, longer than a string keeps by itself"); });
  co_await sleep(Duration::zero());
  co_await sleep(Duration::zero());
  check(*calls == 3, "a callback did not run");
}
Task<> scenario_call_later() {
  const auto calls = std::make_shared<int>(0);
  Loop& loop = Loop::running();
  const CallHandle later = loop.call_later(milliseconds(1), [calls] { ++*calls; });
  CallHandle never = loop.call_later(std::chrono::hours(1), [calls] { ++*calls; });
  co_await sleep(milliseconds(2));
  never.cancel();
  check(*calls == 1, "a timer did not run");
}
Task<> scenario_threadsafe() {
  const auto calls = std::make_shared<int>(0);
  Loop& loop = Loop::running();
  for (int round = 0; round < 4; ++round) loop.call_soon_threadsafe([calls] { ++*calls; });
  while (*calls < 4) co_await sleep(Duration::zero());
}
Task<> scenario_signals() {
  const auto arrived = std::make_shared<int>(0);
  Loop::running().add_signal_handler(SIGUSR1, [arrived] { ++*arrived; });
  struct Remove {
    ~Remove() { Loop::running().remove_signal_handler(SIGUSR1); }
  } const remove;
  for (int round = 1; round <= 2; ++round) {
    std::raise(SIGUSR1);
    while (*arrived < round) co_await sleep(Duration::zero());
  }
}
Task<> scenario_executor() {
  const Future<int> future = Loop::running().run_in_executor([] { return 42; });
  check(co_await future == 42, "what a thread returned");
}
Task<> scenario_future() {
  Future<std::string> future(Loop::running());
  auto set = [future]() mutable {
    try {
      future.set_result("a result that is longer than a string");
    } catch (const std::bad_alloc&) {
      future.set_exception(Failure(std::current_exception()));
    }
  };
  Loop::running().call_soon(std::move(set));
  check((co_await future).size() == 37, "a future's result");
}
Task<> scenario_done_callbacks() {
  Future<> future(Loop::running());
  const auto calls = std::make_shared<int>(0);
  for (int round = 0; round < 3; ++round) future.add_done_callback([calls] { ++*calls; });
  future.set_result();
  co_await sleep(Duration::zero());
  co_await sleep(Duration::zero());
  check(*calls == 3, "a callback of a future did not run");
}
Task<> scenario_sleep() {
  for (int round = 0; round < 3; ++round) co_await sleep(milliseconds(1));
}
Task<> scenario_timeout() {
  bool expired = false;
  Task<> waiting = waits();
  try {
    co_await wait_for(std::move(waiting), milliseconds(1));
  } catch (const TimeoutError&) {
    expired = true;
  }
  check(expired, "a timeout has not expired");
}
Task<> scenario_wait_for() {
  Task<int> task = late_answer();
  check(co_await wait_for(std::move(task), std::chrono::seconds(5)) == 42, "what was waited for");
}
Task<> scenario_gather() {
  Task<int> first = answer();
  Task<int> second = late_answer();
  const auto [one, other] = co_await gather(std::move(first), std::move(second));
  check(one == 42 && other == 42, "what was gathered");
}
Task<> scenario_gather_failure() {
  Task<int> first = fails();
  Task<int> second = late_answer();
  bool raised = false;
  try {
    co_await gather(std::move(first), std::move(second));
  } catch (const ValueError&) {
    raised = true;
  }
  check(raised, "a gathered exception is lost");
}
Task<> group_body(TaskGroup& group) {
  for (int child = 0; child < 3; ++child) group.create_task(late_answer());
  co_await sleep(Duration::zero());
}
Task<> failing_body(TaskGroup& group) {
  group.create_task(waits());
  group.create_task(fails());
  co_await sleep(std::chrono::hours(1));
}
Task<> scenario_task_group() { co_await TaskGroup::run(group_body); }
Task<> scenario_task_group_failure() {
  bool raised = false;
  try {
    co_await TaskGroup::run(failing_body);
  } catch (const ExceptionGroup&) {
    raised = true;
  }
  check(raised, "a group's exception is lost");
}
Task<> scenario_shield() {
  Task<int> task = late_answer();
  auto shielded = shield(std::move(task));
  check(co_await shielded == 42, "what was shielded");
}
Task<> scenario_event() {
  const auto event = std::make_shared<Event>();
  Loop::running().call_soon([event] { event->set(); });
  co_await event->wait();
}
Task<> lock_once(Lock& lock, int& inside) {
  const auto held = co_await lock.scoped();
  ++inside;
  co_await sleep(Duration::zero());
}
Task<> scenario_lock() {
  Lock lock;
  int inside = 0;
  const auto use = [&](TaskGroup& group) -> Task<> {
    for (int user = 0; user < 2; ++user) group.create_task(lock_once(lock, inside));
    co_return;
  };
  co_await TaskGroup::run(use);
  check(inside == 2, "a lock was not taken");
}
Task<> put_some(Queue<std::string>& queue) {
  for (int item = 0; item < 4; ++item) {
    co_await queue.put("an item that is longer than a string keeps by itself");
  }
}
Task<> get_some(Queue<std::string>& queue) {
  for (int item = 0; item < 4; ++item) static_cast<void>(co_await queue.get());
}
Task<> scenario_queue() {
  Queue<std::string> queue(2);
  const auto use = [&queue](TaskGroup& group) -> Task<> {
    group.create_task(put_some(queue));
    group.create_task(get_some(queue));
    co_return;
  };
  co_await TaskGroup::run(use);
}
Task<> scenario_cancel_sleep() {
  const TaskHandle<> task = Loop::running().create_task(waits());
  co_await sleep(Duration::zero());
  task.cancel();
  bool cancelled = false;
  try {
    co_await task;
  } catch (const Cancelled&) {
    cancelled = true;
  }
  check(cancelled, "a task was not cancelled");
}
Task<> scenario_loop_close() {  // with tasks that are pending
  for (int task = 0; task < 3; ++task) {
    static_cast<void>(Loop::running().create_task(waits()));
  }
  co_await sleep(Duration::zero());
}

// --- Streams ---

Task<> echo(StreamReader reader, StreamWriter writer) {
  while (Bytes data = co_await reader.read(64 * 1024)) {
    writer.write(std::move(data));
    co_await writer.drain();
  }
  writer.close();
  co_await writer.wait_closed();
}

Task<StreamPair> dial(const Server& server) {
  const std::vector<SocketAddress> addresses = server.addresses();
  if (addresses.empty()) throw OSError(errno_code(ENOMEM));
  const SocketAddress address = addresses.front();
  return open_connection(address.host(), address.port());
}

Task<> finish(StreamPair& streams, Server& server) {
  streams.writer.close();
  co_await streams.writer.wait_closed();
  server.close();
  co_await server.wait_closed();
}

std::string text_of(std::size_t size) {
  std::string text(size, ' ');
  for (std::size_t index = 0; index < size; ++index) text[index] = static_cast<char>(index % 251);
  return text;
}

Task<> exchange(StreamPair& streams, std::size_t size) {
  const std::string text = text_of(size);
  streams.writer.write(text);
  co_await streams.writer.drain();
  const Bytes back = co_await streams.reader.readexactly(static_cast<std::ptrdiff_t>(size));
  check(back.view() == text, "an echo differs");
}

Task<> scenario_server() {
  Server server = start_server(echo, "127.0.0.1", 0);
  co_await sleep(Duration::zero());
  server.close();
  co_await server.wait_closed();
}
Task<> scenario_unix_server() {
  const std::string path = std::string(1, '\0') + "pelton-faults-" + std::to_string(::getpid());
  Server server = start_unix_server(echo, path);
  StreamPair streams = co_await open_unix_connection(path);
  co_await exchange(streams, 100);
  co_await finish(streams, server);
}
Task<> scenario_connect() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  co_await finish(streams, server);
}
template <class Error>
Task<> expect_refusal(const char* host) {
  bool refused = false;
  try {
    StreamPair streams = co_await open_connection(host, 1);
  } catch (const Error&) {
    refused = true;
  }
  check(refused, "a connect was not refused");
}
Task<> scenario_connect_refused() { return expect_refusal<ConnectionRefusedError>("127.0.0.1"); }
Task<> scenario_resolve() { return expect_refusal<OSError>("localhost"); }
Task<> scenario_echo() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  for (const std::size_t size : {100UL, 100UL, 5000UL}) co_await exchange(streams, size);
  co_await finish(streams, server);
}
Task<> scenario_many() {
  Server server = start_server(echo, "127.0.0.1", 0);
  std::vector<StreamPair> all;
  for (int client = 0; client < 6; ++client) all.push_back(co_await dial(server));
  for (StreamPair& streams : all) co_await exchange(streams, 300);
  for (StreamPair& streams : all) {
    streams.writer.close();
    co_await streams.writer.wait_closed();
  }
  server.close();
  co_await server.wait_closed();
}
Task<> scenario_readline() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  streams.writer.write("one line\nand another one\n");
  check_whole((co_await streams.reader.readline()).view() == "one line\n");
  check_whole((co_await streams.reader.readline()).view() == "and another one\n");
  co_await finish(streams, server);
}
Task<> scenario_readexactly() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  streams.writer.write(text_of(4000));  // of several buffers
  for (int part = 0; part < 4; ++part) {
    check_whole((co_await streams.reader.readexactly(1000)).size() == 1000);
  }
  co_await finish(streams, server);
}
Task<> scenario_readuntil() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  streams.writer.write(text_of(2000).substr(0, 250) + std::string(3000, 'x') + "END");
  const Bytes all = co_await streams.reader.readuntil("END");
  check_whole(all.size() == 3253);
  co_await finish(streams, server);
}
Task<> scenario_read_all() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  streams.writer.write(text_of(3000));
  streams.writer.write_eof();
  check_whole((co_await streams.reader.read()).size() == 3000);
  co_await finish(streams, server);
}
Task<> scenario_incomplete_read() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  streams.writer.write("short");
  streams.writer.write_eof();
  bool raised = false;
  try {
    static_cast<void>(co_await streams.reader.readexactly(100));
  } catch (const IncompleteReadError&) {
    raised = true;
  }
  check_whole(raised);
  co_await finish(streams, server);
}
Task<> scenario_write_large() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  co_await exchange(streams, 300'000);  // drain() waits
  co_await finish(streams, server);
}
Task<> scenario_writelines() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  std::vector<std::string> lines(10, std::string(600, 'l'));
  streams.writer.writelines(std::move(lines));
  for (int piece = 0; piece < 4; ++piece) streams.writer.write(std::string(5000, 'p'));
  check_whole((co_await streams.reader.readexactly(26'000)).size() == 26'000);
  co_await finish(streams, server);
}
Task<> scenario_plain_handler() {
  const auto greet = [](StreamReader, StreamWriter writer) {
    writer.write("hello, whoever you may be out there");
    writer.close();
  };
  Server server = start_server(greet, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  check_whole((co_await streams.reader.read()).size() == 35);
  co_await finish(streams, server);
}
Task<> throwing(StreamReader reader, StreamWriter) {
  static_cast<void>(co_await reader.read(1));
  throw ValueError("of a handler, longer than a string keeps by itself");
}
Task<> scenario_handler_exception() {
  Server server = start_server(throwing, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  streams.writer.write("x");
  check((co_await streams.reader.read()).empty(), "a connection did not end");
  co_await finish(streams, server);
}
Task<> scenario_abort() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  streams.writer.write(text_of(100'000));
  co_await sleep(Duration::zero());
  streams.writer.transport().abort();
  co_await finish(streams, server);
}
Task<> scenario_close_clients() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  co_await exchange(streams, 10);
  server.close_clients();
  check((co_await streams.reader.read()).empty(), "a connection did not end");
  co_await finish(streams, server);
}
Task<> scenario_open_at_loop_close() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  co_await exchange(streams, 1000);
  streams.writer.write(text_of(1000));
}

// --- Cancelling each wait ---

Task<> cancel_in(Task<> waiting) {
  const TaskHandle<> task = Loop::running().create_task(std::move(waiting));
  for (int turn = 0; turn < 3; ++turn) co_await sleep(Duration::zero());
  task.cancel();
  bool cancelled = false;
  try {
    co_await task;
  } catch (const Cancelled&) {
    cancelled = true;
  }
  check_whole(cancelled);
}
Task<> read_some(StreamPair& streams) { static_cast<void>(co_await streams.reader.read(1)); }
Task<> drain_much(StreamPair& streams) {
  for (;;) {
    streams.writer.write(text_of(1'000'000));
    co_await streams.writer.drain();
  }
}
Task<> serve_for_ever(Server& server) { co_await server.serve_forever(); }
Task<> deaf(StreamReader, StreamWriter writer) {
  co_await sleep(milliseconds(20));
  writer.transport().abort();
}
Task<> scenario_cancel_read() {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  co_await cancel_in(read_some(streams));
  co_await finish(streams, server);
}
Task<> scenario_cancel_drain() {
  Server server = start_server(deaf, "127.0.0.1", 0);
  StreamPair streams = co_await dial(server);
  co_await cancel_in(drain_much(streams));
  streams.writer.transport().abort();
  co_await finish(streams, server);
}
Task<> scenario_cancel_serving() {
  Server server = start_server(echo, "127.0.0.1", 0);
  co_await cancel_in(serve_for_ever(server));
}

// --- Relays ---

struct Upstream {
  std::uint16_t port = 0;
  bool splices = false;
};

Task<> carry(Upstream upstream, StreamReader reader, StreamWriter writer) {
  StreamPair here(std::move(reader), std::move(writer));
  StreamPair there = co_await open_connection("127.0.0.1", upstream.port);
  const RelayOptions options{.splice = upstream.splices};
  co_await relay_unobserved(std::move(here), std::move(there), options);
}

Task<> relay_an_exchange(std::size_t size, bool splices) {
  Server end = start_server(echo, "127.0.0.1", 0);
  const std::vector<SocketAddress> addresses = end.addresses();
  if (addresses.empty()) throw OSError(errno_code(ENOMEM));
  const Upstream upstream{addresses.front().port(), splices};
  Server between = start_server(
      [upstream](StreamReader reader, StreamWriter writer) {
        return carry(upstream, std::move(reader), std::move(writer));
      },
      "127.0.0.1", 0);
  StreamPair streams = co_await dial(between);
  co_await exchange(streams, size);
  streams.writer.close();
  co_await streams.writer.wait_closed();
  between.close();
  co_await between.wait_closed();
  end.close();
  co_await end.wait_closed();
}
Task<> scenario_relay() { return relay_an_exchange(5000, false); }
Task<> scenario_relay_bulk() { return relay_an_exchange(1'500'000, true); }

constexpr MemoryScenario all[] = {
    {"nothing", nothing},
    {"task", scenario_task},
    {"coroutines", scenario_coroutines},
    {"task_exception", scenario_task_exception},
    {"unretrieved_exception", scenario_unretrieved_exception},
    {"call_soon", scenario_call_soon},
    {"call_later", scenario_call_later},
    {"call_soon_threadsafe", scenario_threadsafe},
    {"signals", scenario_signals},
    {"executor", scenario_executor},
    {"future", scenario_future},
    {"done_callbacks", scenario_done_callbacks},
    {"sleep", scenario_sleep},
    {"timeout", scenario_timeout},
    {"wait_for", scenario_wait_for},
    {"gather", scenario_gather},
    {"gather_failure", scenario_gather_failure},
    {"task_group", scenario_task_group},
    {"task_group_failure", scenario_task_group_failure},
    {"shield", scenario_shield},
    {"event", scenario_event},
    {"lock", scenario_lock},
    {"queue", scenario_queue},
    {"cancel_sleep", scenario_cancel_sleep},
    {"loop_close", scenario_loop_close},
    {"server", scenario_server},
    {"unix_server", scenario_unix_server},
    {"connect", scenario_connect},
    {"connect_refused", scenario_connect_refused},
    {"resolve", scenario_resolve},
    {"echo", scenario_echo},
    {"many", scenario_many},
    {"readline", scenario_readline},
    {"readexactly", scenario_readexactly},
    {"readuntil", scenario_readuntil},
    {"read_all", scenario_read_all},
    {"incomplete_read", scenario_incomplete_read},
    {"write_large", scenario_write_large},
    {"write_large_few_buffers", scenario_write_large, 64, 4},
    {"writelines", scenario_writelines},
    {"plain_handler", scenario_plain_handler},
    {"handler_exception", scenario_handler_exception},
    {"abort", scenario_abort},
    {"close_clients", scenario_close_clients},
    {"open_at_loop_close", scenario_open_at_loop_close},
    {"cancel_read", scenario_cancel_read},
    {"cancel_drain", scenario_cancel_drain},
    {"cancel_serving", scenario_cancel_serving},
    {"relay", scenario_relay},
    {"relay_bulk", scenario_relay_bulk},
    {"many_on_a_small_ring", scenario_many, 2, 8},
};

}  // namespace

std::span<const MemoryScenario> memory_scenarios() { return all; }

}  // namespace pelton::faults
