// pelton-instructions NAME ROUNDS: hot operations of pelton, a fixed number of times.
//
// It reads no clock of its own and measures nothing: test/perf/instructions_guard.py runs it under
// callgrind, which counts the instructions inside of pelton_measured(). That is called twice, with
// ROUNDS and with twice as many, so that the difference is ROUNDS rounds and nothing else: what
// sets a workload up and takes it down cancels out. A round is some operations (--list says how
// many), one thread does everything, and no turn of the loop depends on how fast the kernel is.
//
// Neighbours: workload.hpp; the benchmarks beside this file measure the same operations in time.
#include <gnu/libc-version.h>

#include <charconv>
#include <cstdio>
#include <span>

#include <pelton/engine/uring_ring.hpp>

#include "workload.hpp"

namespace pelton::micro {
namespace {

constexpr std::size_t buffered_bytes = 8 * ring_buffer_bytes;
constexpr std::size_t batch = 64;             // operations in one turn, where several fit in one
constexpr std::size_t pending_timers = 1000;  // that a new one is armed among
constexpr std::size_t message_bytes = 64;
constexpr std::size_t connections = 32;  // of echo_many: as many completions as a turn takes

// --- Tasks, callbacks, timers ---

[[gnu::noinline]] Task<int> ready_child(int value) { co_return value; }

Task<> await_child(std::size_t rounds) {
  int sum = 0;
  for (std::size_t round = 0; round < rounds * batch; ++round) sum += co_await ready_child(1);
  if (sum == 0) throw RuntimeError("no child ran");
}

Task<> create_task(std::size_t rounds) {
  Loop& loop = Loop::running();
  for (std::size_t round = 0; round < rounds * batch; ++round) {
    const TaskHandle<int> child = loop.create_task(ready_child(1));
    co_await child;
  }
}

Task<> take_turns(std::size_t turns) {
  for (std::size_t turn = 0; turn < turns; ++turn) co_await next_turn();
}

/// Two tasks by turns: an operation is one of them waiting and going on.
Task<> task_switch(std::size_t rounds) {
  const TaskHandle<> other = Loop::running().create_task(take_turns(rounds * batch / 2));
  co_await take_turns(rounds * batch / 2);
  co_await other;
}

Task<> call_soon(std::size_t rounds) {
  Loop& loop = Loop::running();
  std::size_t called = 0;
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t call = 0; call < batch; ++call) loop.call_soon([&called] { ++called; });
    co_await next_turn();
  }
  if (called != rounds * batch) throw RuntimeError("not every call_soon was run");
}

Task<> timer_arm_cancel(std::size_t rounds) {
  Loop& loop = Loop::running();
  std::vector<CallHandle> pending;
  for (std::size_t index = 0; index < pending_timers; ++index) {
    pending.push_back(
        loop.call_later(std::chrono::hours(1 + index * 7919 % pending_timers), [] {}));
  }
  for (std::size_t round = 0; round < rounds * batch; ++round) {
    loop.call_later(std::chrono::minutes(30), [] {}).cancel();
  }
  for (CallHandle& handle : pending) handle.cancel();
  co_return;
}

Task<> timer_fire(std::size_t rounds) {
  Loop& loop = Loop::running();
  for (std::size_t round = 0; round < rounds; ++round) {
    std::size_t fired = 0;
    for (std::size_t call = 0; call < batch; ++call) {
      loop.call_later(Duration::zero(), [&fired] { ++fired; });
    }
    while (fired < batch) co_await next_turn();
  }
}

// --- Reading what is buffered ---

template <std::size_t line_bytes>
constexpr std::size_t lines_buffered = buffered_bytes / line_bytes;

template <std::size_t line_bytes>
std::vector<Bytes> buffered_lines() {
  return in_pieces(lines_text(lines_buffered<line_bytes> * line_bytes, line_bytes),
                   ring_buffer_bytes);
}

void check_size(const Bytes& bytes, std::size_t size) {
  if (bytes.size() != size) throw RuntimeError("a read returned the wrong number of bytes");
}

template <std::size_t line_bytes>
Task<> readline(std::size_t rounds) {
  const StreamReader reader;
  const std::vector<Bytes> pieces = buffered_lines<line_bytes>();
  for (std::size_t round = 0; round < rounds; ++round) {
    feed(reader, pieces);
    for (std::size_t line = 0; line < lines_buffered<line_bytes>; ++line) {
      check_size(co_await reader.readline(), line_bytes);
    }
  }
}

template <std::size_t line_bytes>
Task<> readuntil(std::size_t rounds) {
  const StreamReader reader;
  const std::vector<Bytes> pieces = buffered_lines<line_bytes>();
  for (std::size_t round = 0; round < rounds; ++round) {
    feed(reader, pieces);
    for (std::size_t line = 0; line < lines_buffered<line_bytes>; ++line) {
      const Result<Bytes> bytes = co_await reader.try_readuntil("\n");
      check_size(*bytes, line_bytes);
    }
  }
}

template <std::size_t message>
Task<> readexactly(std::size_t rounds) {
  const StreamReader reader;
  const std::vector<Bytes> pieces = buffered_lines<message>();
  for (std::size_t round = 0; round < rounds; ++round) {
    feed(reader, pieces);
    for (std::size_t count = 0; count < lines_buffered<message>; ++count) {
      check_size(co_await reader.readexactly(message), message);
    }
  }
}

/// One small piece comes and is read, before anybody waits for it.
Task<> read(std::size_t rounds) {
  const StreamReader reader;
  const Bytes piece = Bytes::copy(lines_text(message_bytes, message_bytes));
  for (std::size_t round = 0; round < rounds * batch; ++round) {
    reader.feed_data(piece);
    check_size(co_await reader.read(ring_buffer_bytes), message_bytes);
  }
}

Task<> read_messages(const StreamReader& reader, std::size_t count) {
  for (std::size_t message = 0; message < count; ++message) {
    check_size(co_await reader.read(ring_buffer_bytes), message_bytes);
  }
}

/// The same where a task waits already: with the wake-up and a turn of the loop.
Task<> read_waiting(std::size_t rounds) {
  const StreamReader reader;
  const Bytes piece = Bytes::copy(lines_text(message_bytes, message_bytes));
  const TaskHandle<> task = Loop::running().create_task(read_messages(reader, rounds * batch));
  for (std::size_t round = 0; round < rounds * batch; ++round) {
    co_await next_turn();
    reader.feed_data(piece);
  }
  co_await task;
}

// --- Writing and echoing, on sockets ---

Task<> close(StreamWriter& writer) {
  writer.close();
  co_await writer.wait_closed();
}

/// A write, a drain, and the turn in which the send leaves and completes.
Task<> write_drain(std::size_t rounds) {
  SocketPair sockets;
  Drain peer(std::move(sockets.peer));
  StreamPair stream = co_await open_unix_connection(std::move(sockets.here));
  const std::string message = lines_text(message_bytes, message_bytes);
  for (std::size_t round = 0; round < rounds * batch; ++round) {
    stream.writer.write(message);
    co_await stream.writer.drain();
    co_await peer.take_exactly(message_bytes);
  }
  co_await close(stream.writer);
}

/// Many small writes leave in one send; an operation is one of the writes.
Task<> small_writes(std::size_t rounds) {
  SocketPair sockets;
  Drain peer(std::move(sockets.peer));
  StreamPair stream = co_await open_unix_connection(std::move(sockets.here));
  const std::string message = lines_text(message_bytes, message_bytes);
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t write = 0; write < batch; ++write) stream.writer.write(message);
    co_await stream.writer.drain();
    co_await peer.take_exactly(batch * message_bytes);
  }
  co_await close(stream.writer);
}

/// Receives and sends back, `count` times.
Task<> echo_messages(StreamPair& stream, std::size_t count) {
  for (std::size_t message = 0; message < count; ++message) {
    Bytes data = co_await stream.reader.read(ring_buffer_bytes);
    check_size(data, message_bytes);
    stream.writer.write(std::move(data));
    co_await stream.writer.drain();
  }
}

Task<> far_end(StreamPair stream, std::size_t count) {
  co_await echo_messages(stream, count);
  co_await close(stream.writer);
}

/// The end that begins, and that keeps the last message.
Task<> near_end(StreamPair stream, std::size_t count) {
  stream.writer.write(lines_text(message_bytes, message_bytes));
  co_await echo_messages(stream, count - 1);
  check_size(co_await stream.reader.read(ring_buffer_bytes), message_bytes);
  co_await close(stream.writer);
}

/// `pairs` connections with an echo at both ends and one message on its way in each: an operation
/// is a message received, read, written and sent.
Task<> echo(std::size_t pairs, std::size_t messages) {
  Loop& loop = Loop::running();
  std::vector<TaskHandle<>> tasks;
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    SocketPair sockets;
    StreamPair near = co_await open_unix_connection(std::move(sockets.here));
    StreamPair far = co_await open_unix_connection(std::move(sockets.peer));
    tasks.push_back(loop.create_task(near_end(std::move(near), messages / 2)));
    tasks.push_back(loop.create_task(far_end(std::move(far), messages / 2)));
  }
  for (const TaskHandle<>& task : tasks) co_await task;
}

Task<> echo_one(std::size_t rounds) { return echo(1, rounds * batch); }
Task<> echo_many(std::size_t rounds) { return echo(connections, rounds * 2); }

// --- The list ---

struct Workload {
  const char* name;
  const char* operation;
  std::size_t operations;  ///< in a round
  std::size_t rounds;      ///< that the guard asks for
  Task<> (*body)(std::size_t rounds);
};

constexpr Workload workloads[] = {
    {"await_child", "a coroutine awaited that does not wait", batch, 50, await_child},
    {"create_task", "a task created and awaited", batch, 30, create_task},
    {"task_switch", "a task waits for the next turn", batch, 50, task_switch},
    {"call_soon", "a callback queued and run", batch, 50, call_soon},
    {"timer_arm_cancel", "call_later and cancel among 1000", batch, 30, timer_arm_cancel},
    {"timer_fire", "call_later that fires, 64 at a time", batch, 30, timer_fire},
    {"read_64", "64 bytes fed and read", batch, 50, read},
    {"read_waiting_64", "64 bytes fed to a task that waits for them", batch, 30, read_waiting},
    {"readexactly_100", "100 of many buffered bytes", lines_buffered<100>, 5, readexactly<100>},
    {"readline_100", "a buffered line of 100 bytes", lines_buffered<100>, 5, readline<100>},
    {"readuntil_100", "try_readuntil of 100 buffered bytes", lines_buffered<100>, 5,
     readuntil<100>},
    {"readuntil_4096", "the same of 4096 bytes", lines_buffered<4096>, 100, readuntil<4096>},
    {"write_drain_64", "a write of 64 bytes and its send", batch, 20, write_drain},
    {"small_writes_64", "one of 64 writes that share a send", batch, 50, small_writes},
    {"echo_64", "a message of 64 bytes, one at a time", batch, 20, echo_one},
    {"echo_many_64", "the same on 32 connections at once", 2 * connections, 20, echo_many},
};

const Workload* find(std::string_view name) {
  for (const Workload& workload : workloads) {
    if (name == workload.name) return &workload;
  }
  return nullptr;
}

}  // namespace
}  // namespace pelton::micro

/// The instructions in here are counted. Not static, so that callgrind knows it by this name.
extern "C" [[gnu::noinline]] void pelton_measured(pelton::Loop& loop,
                                                  pelton::Task<> (*body)(std::size_t),
                                                  std::size_t rounds) {
  loop.run_until_complete(body(rounds));
}

namespace pelton::micro {
namespace {

constexpr const char* usage =
    "usage: pelton-instructions NAME ROUNDS   does NAME's operations, ROUNDS times over\n"
    "       pelton-instructions --list        names, rounds for a count, operations in a round\n"
    "       pelton-instructions --toolchain   the compiler and libraries that the counts depend "
    "on\n"
    "\n"
    "For callgrind; test/perf/instructions_guard.py drives it.\n";

void print_list() {
  for (const Workload& workload : workloads) {
    std::printf("%s %zu %zu %s\n", workload.name, workload.rounds, workload.operations,
                workload.operation);
  }
}

void print_toolchain() {
#ifdef __clang__
  std::printf("clang %d.%d.%d", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  std::printf("gcc %d.%d.%d", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
#ifdef NDEBUG
  const char* assertions = "";
#else
  const char* assertions = " assertions";
#endif
#ifdef __x86_64__
  // glibc picks its memchr and memcpy by this, under valgrind too.
  const char* machine = __builtin_cpu_supports("avx2") ? "x86_64 avx2" : "x86_64";
#elif defined(__aarch64__)
  const char* machine = "aarch64";
#else
  const char* machine = "other";
#endif
  std::printf(" libstdc++ %d glibc %s %s%s\n", __GLIBCXX__, gnu_get_libc_version(), machine,
              assertions);
}

int refuse(const std::string& what) {
  std::fprintf(stderr, "pelton-instructions: %s; see --help\n", what.c_str());
  return 2;
}

int run_workload(const std::string& name, std::string_view rounds_text) {
  const Workload* const workload = find(name);
  if (!workload) return refuse("no workload is named '" + name + "'");
  std::size_t rounds = 0;
  const char* const end = rounds_text.data() + rounds_text.size();
  const auto [stopped, error] = std::from_chars(rounds_text.data(), end, rounds);
  if (error != std::errc() || stopped != end || rounds < 1 || rounds > 1'000'000) {
    return refuse("ROUNDS is '" + std::string(rounds_text) + "', not a number from 1 to 1000000");
  }
  Loop loop(quiet_options());
  loop.run_until_complete(workload->body(rounds));  // fills the pools; not counted
  pelton_measured(loop, workload->body, rounds);
  pelton_measured(loop, workload->body, 2 * rounds);
  return 0;
}

int run(std::span<char*> arguments) {
  const std::string first = arguments.empty() ? "" : arguments[0];
  if (first == "--help" || first == "-h") return std::fputs(usage, stdout) < 0;
  if (first == "--list" && arguments.size() == 1) return print_list(), 0;
  if (first == "--toolchain" && arguments.size() == 1) return print_toolchain(), 0;
  if (arguments.size() != 2) return refuse("NAME and ROUNDS are needed");
  return run_workload(first, arguments[1]);
}

}  // namespace
}  // namespace pelton::micro

int main(int argc, char** argv) {
  try {
    return pelton::micro::run({argv + 1, argv + argc});
  } catch (const pelton::RingUnavailable& error) {
    std::fprintf(stderr, "pelton-instructions: %s\n", error.what());
    return 78;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pelton-instructions: %s\n", error.what());
    return 1;
  }
}
