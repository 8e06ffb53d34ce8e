// pelton::run: asyncio.run. Makes a loop, runs a coroutine in it, ends what is left, closes it.
//
// Neighbours: loop.hpp. The first SIGINT cancels the coroutine, the second ends the process, as
// in asyncio; a program that handles SIGINT itself is left alone.
#pragma once

#include <memory>

#include <pelton/engine/loop.hpp>

namespace pelton {

/// What run() of a coroutine with a result throws after SIGINT ended it.
class KeyboardInterrupt {
 public:
  [[nodiscard]] const char* what() const noexcept { return "KeyboardInterrupt"; }
};

/// The exit status of run() after SIGINT: 128 + SIGINT, as shells count.
inline constexpr int interrupted_exit_status = 130;

/// A loop with SIGINT in asyncio's manner, closed in order when it dies.
class Runner {
 public:
  /// \throws RingUnavailable, and RuntimeError where a loop runs on this thread.
  explicit Runner(const LoopOptions& options = {});
  /// Cancels and awaits what still runs, then closes the loop.
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  [[nodiscard]] Loop& loop() noexcept { return loop_; }
  /// Runs `main` to its end. \throws its exception; KeyboardInterrupt after SIGINT.
  template <class T>
  T run(Task<T> main) {
    TaskHandle<T> task = loop_.create_task(std::move(main));
    const Watch watch(*this, [task] { task.cancel(); });
    try {
      return loop_.run_until_complete(task);
    } catch (const Cancelled&) {
      if (interrupted_) throw KeyboardInterrupt();
      throw;
    }
  }

 private:
  /// Holds SIGINT while it lives.
  class Watch {
   public:
    Watch(Runner& runner, Callback on_interrupt);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    Runner& runner_;
    bool held_ = false;
  };

  Loop loop_;
  bool interrupted_ = false;
};

/// asyncio.run(main): the result of `main`. \throws what it raises; KeyboardInterrupt.
template <class T>
T run(Task<T> main, const LoopOptions& options = {}) {
  Runner runner(options);
  return runner.run(std::move(main));
}

/// asyncio.run(main) for a main(): 0, or 130 after SIGINT. \throws what `main` raises.
int run(Task<void> main, const LoopOptions& options = {});

}  // namespace pelton
