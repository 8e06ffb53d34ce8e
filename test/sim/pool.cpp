// Workers take seeds off a shared counter, and leave word of the one they are at. See pool.hpp.
#include "sim/pool.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <memory>

#if defined(__has_feature)
#define PELTON_SIM_HAS_ASAN __has_feature(address_sanitizer)
#else
#define PELTON_SIM_HAS_ASAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || PELTON_SIM_HAS_ASAN
#include <sanitizer/lsan_interface.h>
#endif

namespace pelton::sim {
namespace {

constexpr unsigned seed_seconds_most = 30;  // of real time, after which a run counts as hanging
constexpr unsigned jobs_most = 64;
constexpr int leak_exit_code = 4;  // of a worker

#if defined(__SANITIZE_ADDRESS__) || PELTON_SIM_HAS_ASAN
/// Workers end by _exit(), at which LeakSanitizer does not look by itself.
bool has_leaks() { return __lsan_do_recoverable_leak_check() != 0; }
#else
bool has_leaks() { return false; }
#endif

/// Shared by all processes of a pool.
struct Board {
  std::atomic<std::uint64_t> next{0};
  std::atomic<std::uint64_t> ended{0};
  std::array<std::atomic<std::uint64_t>, Totals::count> sums{};
  std::atomic<std::uint64_t> at[jobs_most];     ///< the seed that each worker runs
  std::atomic<std::uint64_t> since[jobs_most];  ///< its first one

  void add(const Totals& totals) noexcept {
    for (std::size_t index = 0; index < sums.size(); ++index) {
      sums[index] += totals.*Totals::members()[index];
    }
    ++ended;
  }
  [[nodiscard]] Totals totals() const noexcept {
    Totals totals;
    for (std::size_t index = 0; index < sums.size(); ++index) {
      totals.*Totals::members()[index] = sums[index];
    }
    return totals;
  }
};

struct Unmap {
  void operator()(Board* board) const noexcept { munmap(board, sizeof *board); }
};

std::unique_ptr<Board, Unmap> make_board() {
  void* const memory =
      mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  return std::unique_ptr<Board, Unmap>(new (memory) Board);
}

struct Worker {
  pid_t process = -1;
  int errors = -1;  ///< a file that takes what it writes to standard error
};

[[noreturn]] void work(Board& board, const PoolOptions& options, unsigned place) {
  for (bool first = true;; first = false) {
    const std::uint64_t index = board.next++;
    if (index >= options.count) _exit(has_leaks() ? leak_exit_code : 0);
    board.at[place] = options.first + index;
    if (first) board.since[place] = options.first + index;
    alarm(seed_seconds_most);
    board.add(run_seed({.number = options.first + index, .scenario = options.scenario}, false));
  }
}

Worker start_worker(Board& board, const PoolOptions& options, unsigned place) {
  Worker worker;
  worker.errors = memfd_create("pelton-sim", 0);
  worker.process = fork();
  if (worker.process < 0 || worker.errors < 0) std::abort();
  if (worker.process == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // whoever ends the parent ends the workers
    dup2(worker.errors, STDERR_FILENO);
    work(board, options, place);
  }
  return worker;
}

std::string text_of(const Worker& worker, int status) {
  std::string text(4096, '\0');
  const ssize_t size = pread(worker.errors, text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
    text += "took longer than " + std::to_string(seed_seconds_most) + " s";
  } else if (WIFSIGNALED(status) && WTERMSIG(status) != SIGABRT) {
    text += "ended by signal " + std::to_string(WTERMSIG(status));
  }
  return text;
}

/// What LeakSanitizer found after many seeds, of which only the first and the last are known.
std::string leak_text(std::uint64_t first, std::uint64_t last, const std::string& text) {
  return "memory leaked, in one of the seeds " + std::to_string(first) + ".." +
         std::to_string(last) + " (other workers ran some of them)" + text;
}

class Pool {
 public:
  explicit Pool(const PoolOptions& options)
      : options_(options), board_(make_board()), workers_(std::min(options.jobs, jobs_most)) {}

  PoolResult run() {
    for (unsigned place = 0; place < workers_.size(); ++place) {
      workers_[place] = start_worker(*board_, options_, place);
      ++alive_;
    }
    while (alive_ > 0) {
      if (!reap()) {
        const timespec pause{.tv_sec = 0, .tv_nsec = 20'000'000};
        nanosleep(&pause, nullptr);
      }
      if (options_.progress) options_.progress(board_->ended, board_->totals());
    }
    result_.ended = board_->ended;
    result_.totals = board_->totals();
    return std::move(result_);
  }

 private:
  /// \return false if no worker has ended.
  bool reap() {
    bool any = false;
    for (unsigned place = 0; place < workers_.size(); ++place) {
      Worker& worker = workers_[place];
      int status = 0;
      if (worker.process < 0 || waitpid(worker.process, &status, WNOHANG) != worker.process) {
        continue;
      }
      any = true;
      worker.process = -1;
      --alive_;
      if (status != 0) on_failure(place, status);
      ::close(worker.errors);
      if (status != 0 && board_->next < options_.count) {
        worker = start_worker(*board_, options_, place);
        ++alive_;
      }
    }
    return any;
  }
  void on_failure(unsigned place, int status) {
    std::string text = text_of(workers_[place], status);
    if (WIFEXITED(status) && WEXITSTATUS(status) == leak_exit_code) {
      text = leak_text(board_->since[place], board_->at[place], text);
    } else {
      ++board_->ended;
    }
    result_.failures.push_back({board_->at[place], std::move(text)});
    const FailedSeed& failure = result_.failures.back();
    if (options_.on_failure) options_.on_failure(failure);
    const bool enough = options_.is_enough && options_.is_enough(failure);
    if (enough || result_.failures.size() >= options_.failures_most) {
      board_->next = options_.count;
    }
  }

  const PoolOptions& options_;
  std::unique_ptr<Board, Unmap> board_;
  std::vector<Worker> workers_;
  unsigned alive_ = 0;
  PoolResult result_;
};

}  // namespace

PoolResult run_pool(const PoolOptions& options) { return Pool(options).run(); }

}  // namespace pelton::sim
