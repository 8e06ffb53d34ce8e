// The threads of a server program: binding, serving, draining, counting. See common.hpp.
#include "apps/common.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <latch>
#include <mutex>
#include <thread>

#include <pelton/engine/log.hpp>
#include <pelton/engine/ring.hpp>

namespace pelton::apps {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr auto drain_poll = std::chrono::milliseconds(5);

/// The sockets that one thread listens on.
struct Listeners {
  std::vector<OwnedFd> tcp;
  std::vector<OwnedFd> unix_sockets;
};

/// What a worker has in hand, or leaves behind when its loop is closed.
struct Remains {
  LoopStats stats;
  std::uint64_t buffers_lent = 0;
  std::uint64_t operations_in_flight = 0;

  /// Of a loop that is there.
  static Remains of(Loop& loop) {
    return {loop.stats(), loop.buffers().lent(), loop.operations_in_flight()};
  }

  Remains& operator+=(const Remains& other) noexcept {
    stats += other.stats;
    buffers_lent += other.buffers_lent;
    operations_in_flight += other.operations_in_flight;
    return *this;
  }
};

int open_descriptors() {
  int count = 0;
  if (DIR* directory = opendir("/proc/self/fd")) {
    while (readdir(directory)) ++count;
    closedir(directory);
  }
  return count;
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(setrlimit(RLIMIT_NOFILE, &limit));  // a lower limit serves fewer, and says so
}

OwnedFd duplicate(const OwnedFd& socket) {
  const int copy = fcntl(socket.get(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw_os_error(errno_code(errno), "cannot share a listening socket");
  return OwnedFd(copy);
}

/// Binds `endpoint` for every thread. TCP sockets share a port by SO_REUSEPORT, each with its own
/// queue; a unix socket is one, shared by duplicates.
void bind_endpoint(const Endpoint& endpoint, std::vector<Listeners>& threads) {
  if (endpoint.kind == Endpoint::Kind::unix_socket) {
    OwnedFd socket = bind_path(endpoint.path);
    for (std::size_t thread = 1; thread < threads.size(); ++thread) {
      threads[thread].unix_sockets.push_back(duplicate(socket));
    }
    threads[0].unix_sockets.push_back(std::move(socket));
    return;
  }
  ServerOptions options;
  options.reuse_port = threads.size() > 1;
  std::uint16_t port = endpoint.port;
  for (Listeners& thread : threads) {
    for (OwnedFd& socket : bind_hosts({endpoint.host}, port, options)) {
      // Port 0 picked one for the first thread: the others take the same.
      if (port == 0 && threads.size() > 1) port = local_address(socket.get())->port();
      thread.tcp.push_back(std::move(socket));
    }
  }
}

std::vector<Listeners> bind_all(const ServerConfig& config) {
  std::vector<Listeners> threads(config.threads);
  for (const std::string& text : config.listen) {
    try {
      bind_endpoint(Endpoint::parse(text), threads);
    } catch (const OSError& error) {
      throw OSError(error.code(), "cannot listen on '" + text + "': " + error.what());
    }
  }
  return threads;
}

void add_once(std::vector<std::string>& all, const std::string& text) {
  if (std::find(all.begin(), all.end(), text) == all.end()) all.push_back(text);
}

class Program;

/// One thread: a loop and its servers.
class Worker {
 public:
  Worker(Program& program, Listeners listeners)
      : program_(program), listeners_(std::move(listeners)) {}

  /// Makes the loop, serves, drains, closes it. Errors are told to the program.
  void run();
  /// Begins to drain; from any thread, any number of times. \param hurry  ends connections now.
  void request_stop(bool hurry);
  /// Prints its figures on stderr, on its own thread; from any thread.
  void request_figures();
  [[nodiscard]] const Remains& remains() const noexcept { return remains_; }
  [[nodiscard]] const std::vector<std::string>& addresses() const noexcept { return addresses_; }
  [[nodiscard]] const RingInfo& engine_info() const noexcept { return engine_info_; }

 private:
  class Presence;
  void tell_ready(std::exception_ptr error);
  Task<> serve();
  Task<> drain();
  void listen();
  void abort_clients();

  Program& program_;
  Listeners listeners_;
  std::vector<std::string> addresses_;
  RingInfo engine_info_;
  Remains remains_;
  std::mutex mutex_;
  Loop* loop_ = nullptr;  ///< guarded by mutex_: null before and after
  std::optional<Future<>> stop_;
  std::vector<Server> servers_;
  bool stop_requested_ = false;  ///< guarded by mutex_
  bool told_ready_ = false;
};

/// All workers, and what the first thread does for them: signals and printing.
class Program {
 public:
  Program(std::string name, const ServerConfig& config, const HandlerFactory& make_handler)
      : name_(std::move(name)),
        config_(config),
        make_handler_(make_handler),
        loop_options_(config.loop_options()),
        ready_(config.threads),
        running_(config.threads) {}

  int run();
  /// A worker serves, or met `error`. \param first_word  it was not heard of before.
  void worker_ready(std::exception_ptr error, bool first_word);
  void stop_all(bool hurry);
  void on_signal();
  void print_all_figures();
  /// "NAME STATE: counters" on stderr.
  void print_figures(const char* state, const Remains& remains, const RingInfo& ring,
                     const std::string& engines) const;
  void worker_ended() noexcept { --running_; }
  /// True while a worker besides the first has not ended.
  [[nodiscard]] bool others_run() const noexcept { return running_ > 1; }

  [[nodiscard]] const ServerConfig& config() const noexcept { return config_; }
  [[nodiscard]] const LoopOptions& loop_options() const noexcept { return loop_options_; }
  [[nodiscard]] const HandlerFactory& make_handler() const noexcept { return make_handler_; }
  [[nodiscard]] bool is_first(const Worker& worker) const noexcept {
    return workers_.front().get() == &worker;
  }
  /// Called by the first worker once it serves: waits for the others, prints the start-up lines.
  void announce();

 private:
  /// The names of the workers' rings, each once; more than one where a limit let only some have
  /// io_uring. A worker that failed before it had one is left out.
  [[nodiscard]] std::string engines() const;
  /// What was turned down for any worker, and why, each once.
  [[nodiscard]] std::vector<std::string> refusals() const;

  std::string name_;
  const ServerConfig& config_;
  const HandlerFactory& make_handler_;
  LoopOptions loop_options_;
  int descriptors_before_ = 0;  ///< those that were open when it began
  std::vector<std::unique_ptr<Worker>> workers_;
  std::latch ready_;
  std::atomic<unsigned> running_;
  bool signalled_ = false;
  std::mutex mutex_;
  std::exception_ptr error_;  ///< guarded by mutex_: the first that a worker met
};

/// Makes a worker's loop known to other threads, for as long as it may be called.
class Worker::Presence {
 public:
  Presence(Worker& worker, Loop& loop) : worker_(worker) {
    const std::lock_guard lock(worker_.mutex_);
    worker_.loop_ = &loop;
    worker_.stop_.emplace(loop);
    if (worker_.stop_requested_) worker_.stop_->set_result();
  }
  ~Presence() {
    const std::lock_guard lock(worker_.mutex_);
    worker_.stop_.reset();
    worker_.loop_ = nullptr;
  }
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

 private:
  Worker& worker_;
};

void Worker::run() {
  struct Ended {
    Program& program;
    ~Ended() { program.worker_ended(); }
  } const ended{program_};
  try {
    Runner runner(program_.loop_options());
    engine_info_ = runner.loop().engine_info();
    {
      const Presence presence(*this, runner.loop());
      try {
        runner.run(serve());
      } catch (const Cancelled&) {
      }
    }
    runner.loop().cancel_all_tasks();
    remains_.buffers_lent = runner.loop().buffers().lent();
    runner.loop().close();
    remains_.stats = runner.loop().stats();
    remains_.operations_in_flight = runner.loop().operations_in_flight();
  } catch (...) {
    tell_ready(std::current_exception());
    program_.stop_all(false);  // a server that lost a thread is not the one that was asked for
  }
}

void Worker::tell_ready(std::exception_ptr error) {
  program_.worker_ready(error, !std::exchange(told_ready_, true));
}

void Worker::listen() {
  const auto handler = program_.make_handler()();
  ServerOptions options;
  options.limit = program_.config().limit;
  options.backlog = static_cast<int>(program_.config().backlog);
  for (OwnedFd& socket : listeners_.tcp) {
    servers_.push_back(start_server(handler, std::move(socket), options));
  }
  for (OwnedFd& socket : listeners_.unix_sockets) {
    servers_.push_back(start_unix_server(handler, std::move(socket), options));
  }
  for (const Server& server : servers_) {
    for (const SocketAddress& address : server.addresses()) {
      addresses_.push_back(address.to_string());
    }
  }
}

Task<> Worker::serve() {
  listen();
  if (program_.is_first(*this)) {
    Loop& loop = Loop::running();
    for (const int signal_number : {SIGTERM, SIGINT}) {
      loop.add_signal_handler(signal_number, [this] { program_.on_signal(); });
    }
    loop.add_signal_handler(SIGUSR1, [this] { program_.print_all_figures(); });
    tell_ready(nullptr);
    program_.announce();
  } else {
    tell_ready(nullptr);
  }
  const Future<> stop = *stop_;
  co_await stop;
  co_await drain();
  // Signals are heard by the first worker's loop: it stays until the others have ended.
  while (program_.is_first(*this) && program_.others_run()) co_await sleep(drain_poll);
  servers_.clear();
}

/// Lets connections go on for a while, then ends them; ends when the last one is closed, those to
/// upstreams included, which no server counts.
Task<> Worker::drain() {
  for (Server& server : servers_) server.close();
  const Seconds patience(program_.config().drain_timeout_s);
  CallHandle timeout = Loop::running().call_later(std::chrono::duration_cast<Duration>(patience),
                                                  [this] { abort_clients(); });
  for (Server& server : servers_) co_await server.wait_closed();
  timeout.cancel();
  const LoopStats& stats = Loop::running().stats();
  const TimePoint deadline = Loop::time() + std::chrono::duration_cast<Duration>(patience);
  while (stats.connections_opened != stats.connections_closed && Loop::time() < deadline) {
    co_await sleep(drain_poll);
  }
}

void Worker::abort_clients() {
  for (Server& server : servers_) server.abort_clients();
}

void Worker::request_stop(bool hurry) {
  const std::lock_guard lock(mutex_);
  stop_requested_ = true;
  if (!loop_) return;  // not yet, and it will see the request; or not any more
  loop_->call_soon_threadsafe([this, hurry] {
    if (!stop_) return;
    if (!stop_->done()) stop_->set_result();
    if (hurry) abort_clients();
  });
}

void Worker::request_figures() {
  const std::lock_guard lock(mutex_);
  if (!loop_) return;
  loop_->call_soon_threadsafe([this] {
    program_.print_figures("running", Remains::of(Loop::running()), engine_info_,
                           engine_info_.name);
  });
}

void Program::worker_ready(std::exception_ptr error, bool first_word) {
  if (error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
  }
  if (first_word) ready_.count_down();
}

void Program::stop_all(bool hurry) {
  for (const auto& worker : workers_) worker->request_stop(hurry);
}

void Program::print_all_figures() {
  for (const auto& worker : workers_) worker->request_figures();
}

/// The first signal begins to drain; another one ends the connections that are left.
void Program::on_signal() { stop_all(std::exchange(signalled_, true)); }

void Program::announce() {
  ready_.wait();
  {
    const std::lock_guard lock(mutex_);
    if (error_) return stop_all(false);
  }
  const Worker& first = *workers_.front();
  const RingInfo& ring = first.engine_info();
  for (const std::string& address : first.addresses()) {
    std::printf(
        "%s listening on %s engine=%s threads=%u busy_poll=%s batch_wait=%s buffers=%ux%zu %s\n",
        name_.c_str(), address.c_str(), engines().c_str(), config_.threads,
        loop_options_.busy_poll.to_string().c_str(),
        to_string(ring.bounded_batches ? loop_options_.batch_wait : BatchWait::off),
        config_.buffers, config_.buffer_bytes, ring.features().c_str());
  }
  std::fflush(stdout);
  for (const auto& worker : workers_) {
    const RingInfo& of = worker->engine_info();
    if (!loop_options_.restrict_ring || of.restricted) continue;
    log(LogLevel::warn, "--restrict-ring has no effect: " + of.name + " has no ring to restrict");
    break;
  }
  for (const std::string& refusal : refusals()) log(LogLevel::info, "turned down " + refusal);
}

std::string Program::engines() const {
  std::vector<std::string> names;
  for (const auto& worker : workers_) {
    const std::string& name = worker->engine_info().name;
    if (!name.empty()) add_once(names, name);
  }
  std::string joined;
  for (const std::string& name : names) joined += (joined.empty() ? "" : ",") + name;
  return joined;
}

std::vector<std::string> Program::refusals() const {
  std::vector<std::string> all;
  for (const auto& worker : workers_) {
    for (const std::string& refusal : worker->engine_info().turned_down) add_once(all, refusal);
  }
  return all;
}

int Program::run() {
  raise_descriptor_limit();
  ::signal(SIGPIPE, SIG_IGN);
  descriptors_before_ = open_descriptors();
  for (Listeners& listeners : bind_all(config_)) {
    workers_.push_back(std::make_unique<Worker>(*this, std::move(listeners)));
  }
  std::vector<std::jthread> threads;
  {
    struct StopAll {
      Program& program;
      ~StopAll() { program.stop_all(false); }
    } const stop{*this};  // where a thread cannot be made or the first fails, the others must end
    for (std::size_t index = 1; index < workers_.size(); ++index) {
      threads.emplace_back([worker = workers_[index].get()] { worker->run(); });
    }
    workers_.front()->run();
  }
  threads.clear();
  if (error_) std::rethrow_exception(error_);
  Remains all;
  for (const auto& worker : workers_) all += worker->remains();
  print_figures("stopped", all, workers_.front()->engine_info(), engines());
  return 0;
}

void Program::print_figures(const char* state, const Remains& remains, const RingInfo& ring,
                            const std::string& engines) const {
  const LoopStats& stats = remains.stats;
  std::fprintf(stderr,
               "%s %s: closed=%llu connections=%llu fds=%d buffers_lent=%llu ops_in_flight=%llu "
               "%s %s turned_down=%zu engine=%s\n",
               name_.c_str(), state, static_cast<unsigned long long>(stats.connections_closed),
               static_cast<unsigned long long>(stats.connections_opened - stats.connections_closed),
               open_descriptors() - descriptors_before_,
               static_cast<unsigned long long>(remains.buffers_lent),
               static_cast<unsigned long long>(remains.operations_in_flight),
               stats.to_string().c_str(), ring.features().c_str(), refusals().size(),
               engines.c_str());
}

}  // namespace

int serve(const std::string& name, const ServerConfig& config, const HandlerFactory& make_handler) {
  Program program(name, config, make_handler);
  return program.run();
}

}  // namespace pelton::apps
