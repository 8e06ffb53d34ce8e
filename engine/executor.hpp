// Executor: worker threads for calls that block, such as getaddrinfo.
//
// Threads are made on demand, up to a bound, and end when the executor is shut down; one that is
// stuck in a call then ends with it, without anybody waiting. A worker touches its own function
// and an Outcome; futures stay on the loop's thread, which hears of the end through its mailbox.
//
// Neighbours: loop.hpp's run_in_executor; mailbox.hpp.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>

#include <pelton/engine/future.hpp>

namespace pelton {

class Executor : public std::enable_shared_from_this<Executor> {
 public:
  using Job = std::move_only_function<void()>;
  explicit Executor(unsigned threads_max) noexcept : threads_max_(threads_max) {}

  /// Queues `job`, which must not throw; starts a thread if all are busy. Thread-safe.
  /// \throws std::system_error  not one thread can be made.
  void submit(Job job);
  /// Drops queued jobs and lets idle threads end. Does not wait for running jobs.
  void shut_down() noexcept;

 private:
  static void work(const std::shared_ptr<Executor>& self);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::list<Job> jobs_;  ///< guarded by mutex_, as the rest
  unsigned threads_max_;
  unsigned threads_ = 0;
  unsigned idle_ = 0;
  bool shut_down_ = false;
};

namespace detail {

/// What a job came to: written by the worker, then read by the loop's thread.
template <class Result>
struct Outcome {
  std::optional<Stored<Result>> value;
  std::exception_ptr error;

  template <class Function>
  void run(Function& function) noexcept {
    try {
      if constexpr (std::is_void_v<Result>) {
        function();
        value.emplace();
      } else {
        value.emplace(function());
      }
    } catch (...) {
      error = std::current_exception();
    }
  }
  void settle(Future<Result>& future) {
    if (future.done()) return;  // cancelled meanwhile
    if (error) {
      future.set_exception(Failure(std::move(error)));
    } else {
      future.set_result(std::move(*value));
    }
  }
};

}  // namespace detail
}  // namespace pelton
