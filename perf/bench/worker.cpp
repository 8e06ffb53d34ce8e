// The phases of a worker. See worker.hpp.
#include "perf/bench/worker.hpp"

#include <sys/prctl.h>

#include <algorithm>
#include <bit>

#include <pelton/engine/task_group.hpp>

#include "perf/bench/run.hpp"

namespace pelton::bench {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr unsigned connects_at_once = 256;  // over all threads: less than a server's usual backlog
constexpr auto watch_interval = std::chrono::milliseconds(100);
constexpr auto answer_poll = std::chrono::milliseconds(1);
constexpr auto grace = std::chrono::seconds(1);  // for requests that were due and are late
constexpr auto close_patience = std::chrono::seconds(2);
constexpr auto line_interval = std::chrono::seconds(1);

/// Receive buffers as large as the answers that come at once on a connection, and one for each
/// connection where that is possible: a receive that finds none must be armed anew.
LoopOptions loop_options(const Options& options, unsigned links) {
  constexpr std::size_t buffer_bytes_min = 1024;
  constexpr std::size_t memory_bytes_max = 64 * 1024 * 1024;
  LoopOptions loop;
  loop.busy_poll = options.busy_poll;
  loop.batch_wait = BatchWait::off;  // a load that waits for others' answers measures its patience
  if (options.mode != Mode::stream) {
    const std::size_t answers_bytes = options.size * options.pipeline;
    loop.buffer_bytes =
        std::clamp(std::bit_ceil(answers_bytes), buffer_bytes_min, loop.buffer_bytes);
  }
  const auto count_max = static_cast<unsigned>(memory_bytes_max / loop.buffer_bytes);
  loop.buffer_count =
      std::clamp(std::bit_ceil(2 * links), loop.buffer_count, std::min(count_max, 32768U));
  return loop;
}

Duration to_duration(double seconds) {
  return std::chrono::duration_cast<Duration>(Seconds(seconds));
}

}  // namespace

/// Makes the worker's loop known to other threads, for as long as it may be called.
class Worker::Presence {
 public:
  Presence(Worker& worker, Loop& loop) : worker_(worker) {
    worker_.released_.emplace(loop);
    const std::lock_guard lock(worker_.mutex_);
    worker_.loop_ = &loop;
    if (worker_.stop_requested_) loop.call_soon([this] { worker_.stop(); });
  }
  ~Presence() {
    const std::lock_guard lock(worker_.mutex_);
    worker_.loop_ = nullptr;
  }
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

 private:
  Worker& worker_;
};

Worker::Worker(Run& run, unsigned number, unsigned links)
    : run_(run),
      number_(number),
      links_(links),
      context_(run.options(), run.patterns()),
      dialer_(run.addresses()),
      exchange_(context_, run.options().mode == Mode::connect ? 0 : links),
      churn_(context_, dialer_) {
  context_.first_number = number;
  context_.number_stride = run.options().threads;
  context_.shows_progress = run.progress() != nullptr;
  context_.fail = [this](std::string message) { run_.fail(std::move(message)); };
}

void Worker::run() noexcept {
  prctl(PR_SET_TIMERSLACK, 1UL);  // ns: requests of an open loop leave when they are due
  try {
    Loop loop(loop_options(run_.options(), links_));
    const Presence presence(*this, loop);
    const TaskHandle<> main_task = loop.create_task(main());
    main_ = main_task;
    loop.run_until_complete(main_task);
    loop.cancel_all_tasks();
    released_.reset();
  } catch (...) {
    run_.fail(describe(std::current_exception()));
  }
  main_.reset();
  run_.worker_ended();
}

void Worker::release(TimePoint start, Window window) {
  const std::lock_guard lock(mutex_);
  if (!loop_) return;
  loop_->call_soon_threadsafe([this, start, window] {
    context_.start = start;
    context_.window = window;
    if (released_ && !released_->done()) released_->set_result();
  });
}

void Worker::request_stop() {
  const std::lock_guard lock(mutex_);
  stop_requested_ = true;
  if (loop_) loop_->call_soon_threadsafe([this] { stop(); });
}

/// Ends the phases before the last one.
void Worker::stop() {
  context_.ending = true;
  if (main_) main_->cancel();
  main_.reset();
}

Task<> Worker::main() {
  const TaskHandle<> watching = Loop::running().create_task(watch());
  try {
    if (run_.options().mode == Mode::connect) {
      co_await probe();
    } else {
      co_await connect_all();
    }
    run_.worker_ready();
    const Future<> released = *released_;
    co_await released;
    co_await load();
  } catch (const Cancelled&) {
  }
  co_await finish();
  watching.cancel();
}

/// One connection, which finds the address that the lanes of connect then use.
Task<> Worker::probe() {
  const Result<OwnedFd> socket = co_await dial();
  if (socket) co_return;
  run_.fail(dialer_.explain(socket.error()));
  co_await released_.value();  // the stop ends this wait
}

Task<Result<OwnedFd>> Worker::dial() {
  ++connecting_;
  Result<OwnedFd> socket = co_await dialer_.dial();
  --connecting_;
  co_return socket;
}

Task<> Worker::connect_all() {
  const unsigned lanes = std::min(links_, std::max(1U, connects_at_once / run_.options().threads));
  TaskGroup group;
  for (unsigned lane = 0; lane < lanes; ++lane) group.create_task(connect_lane());
  co_await group.join();
  while (!exchange_.ready()) co_await sleep(Duration::zero());
}

Task<> Worker::connect_lane() {
  while (next_link_ < links_ && !run_.failed()) {
    const unsigned index = next_link_++;
    Result<OwnedFd> socket = co_await dial();
    if (!socket) {
      run_.fail(dialer_.explain(socket.error()) + ", connection " + std::to_string(index + 1) +
                " of " + std::to_string(links_));
      co_await released_.value();  // the stop ends this wait
    }
    exchange_.adopt(Loop::running(), index, std::move(*socket));
  }
}

Task<> Worker::load() {
  next_line_ = context_.start + line_interval;
  if (run_.options().mode == Mode::idle) {
    co_await rest();
    co_return;
  }
  start_load();
  co_await reach(context_.window.begin);
  bytes_sent_before_ = Loop::running().stats().bytes_sent;
  if (number_ == 0) run_.mark_begin();
  co_await reach(context_.window.end);
}

void Worker::start_load() {
  Loop& loop = Loop::running();
  if (run_.options().mode == Mode::connect) {
    churn_.start(loop, links_);
    return;
  }
  exchange_.start();
  if (run_.options().open_loop()) loop.create_task(exchange_.pace());
}

/// The load of idle: one echo, silence, one more echo.
Task<> Worker::rest() {
  if (number_ == 0) run_.mark_begin();
  exchange_.allow_each();
  co_await answers(to_duration(run_.options().timeout_s));
  co_await reach(Clock::now() + to_duration(run_.options().duration_s));
  if (number_ == 0) run_.mark_memory();
  exchange_.allow_each();
  co_await answers(to_duration(run_.options().timeout_s));
}

/// Lets what is under way come back, and closes.
Task<> Worker::finish() {
  main_.reset();
  context_.window.end = std::min(context_.window.end, Clock::now());
  context_.tally.bytes_sent += Loop::running().stats().bytes_sent - bytes_sent_before_;
  if (number_ == 0) run_.mark_end();
  for (const TimePoint deadline = Clock::now() + grace; exchange_.behind() && !context_.ending;) {
    if (Clock::now() >= deadline) break;
    co_await sleep(answer_poll);
  }
  context_.ending = true;
  exchange_.record_unsent(Clock::now());
  co_await answers(to_duration(run_.options().timeout_s));
  if (waits_for_server() && !run_.failed()) {
    run_.fail("the server did not answer within " + std::to_string(run_.options().timeout_s) +
              " s: " + exchange_.describe_waiting());
  }
  if (run_.failed()) {
    exchange_.abort();
    churn_.abort();
  } else {
    exchange_.close();
  }
  const TimePoint deadline = Clock::now() + close_patience;
  while (exchange_.open_links() > 0 || churn_.active() > 0) {
    if (Clock::now() >= deadline) exchange_.abort();
    co_await sleep(answer_poll);
  }
}

/// Waits until nothing is under way, the run failed, or patience is at its end.
Task<> Worker::answers(Duration patience) {
  const TimePoint deadline = Clock::now() + patience;
  while (waits_for_server() && !run_.failed() && Clock::now() < deadline) {
    co_await sleep(answer_poll);
  }
}

/// Waits for a moment, and shows the progress on the way there.
Task<> Worker::reach(TimePoint deadline) {
  while (context_.shows_progress && next_line_ < deadline) {
    co_await sleep(next_line_ - Clock::now());
    show_progress();
    next_line_ += line_interval;
  }
  co_await sleep(deadline - Clock::now());
}

void Worker::show_progress() {
  const double elapsed_s = Seconds(next_line_ - context_.start).count();
  run_.progress()->hand_in(context_.interval, elapsed_s, next_line_ < context_.window.begin);
  context_.interval = Tally();
}

bool Worker::waits_for_server() const noexcept {
  return connecting_ > 0 || exchange_.in_flight() > 0 || churn_.active() > 0;
}

/// Ends the run when the server has been silent for too long.
Task<> Worker::watch() {
  const Duration timeout = to_duration(run_.options().timeout_s);
  std::uint64_t seen = context_.signs_of_life;
  TimePoint since = Clock::now();
  while (!run_.failed()) {
    co_await sleep(watch_interval);
    if (context_.signs_of_life != seen || !waits_for_server()) {
      seen = context_.signs_of_life;
      since = Clock::now();
    } else if (Clock::now() - since > timeout) {
      run_.fail("the server was silent for " + std::to_string(run_.options().timeout_s) + " s: " +
                (connecting_ > 0 ? std::to_string(connecting_) + " connects are under way"
                                 : exchange_.describe_waiting()));
    }
  }
}

}  // namespace pelton::bench
