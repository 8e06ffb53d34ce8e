// SIGINT and the orderly end of pelton::run. See runner.hpp.
#include <pelton/engine/runner.hpp>

#include <signal.h>
#include <unistd.h>

namespace pelton {
namespace {

/// True if SIGINT would end the process by default and this is the thread that hears of it.
bool interrupt_is_ours() noexcept {
  struct sigaction action {};
  return getpid() == gettid() && sigaction(SIGINT, nullptr, &action) == 0 &&
         action.sa_handler == SIG_DFL;
}

const LoopOptions& outside_of_loops(const LoopOptions& options) {
  if (Loop::running_or_null()) {
    throw RuntimeError("A runner cannot be made while an event loop is running");
  }
  return options;
}

}  // namespace

Runner::Runner(const LoopOptions& options) : loop_(outside_of_loops(options)) {}

Runner::~Runner() {
  try {
    if (!loop_.is_closed() && !loop_.is_running()) {
      loop_.cancel_all_tasks();
      loop_.close();
    }
  } catch (...) {
    Loop::report_without_loop("Closing the event loop failed", std::current_exception());
  }
}

Runner::Watch::Watch(Runner& runner, Callback on_interrupt) : runner_(runner) {
  runner_.interrupted_ = false;
  if (!interrupt_is_ours()) return;
  held_ = true;
  runner_.loop_.add_signal_handler(
      SIGINT, [&runner, on_interrupt = std::move(on_interrupt)]() mutable {
        if (runner.interrupted_) {  // asked twice: do not wait for the coroutine's goodwill
          ::signal(SIGINT, SIG_DFL);
          ::raise(SIGINT);
        }
        runner.interrupted_ = true;
        on_interrupt();
      });
}

Runner::Watch::~Watch() {
  if (held_) runner_.loop_.remove_signal_handler(SIGINT);
}

int run(Task<void> main, const LoopOptions& options) {
  Runner runner(options);
  try {
    runner.run(std::move(main));
  } catch (const KeyboardInterrupt&) {
    return interrupted_exit_status;
  }
  return 0;
}

}  // namespace pelton
