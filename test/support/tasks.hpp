// What tests of tasks share: the kind of what was thrown, and what the exception handler was told.
//
// Neighbours: the tests of engine/; everything here lives on the test's thread.
#pragma once

#include <chrono>
#include <exception>
#include <string>
#include <vector>

#include <pelton/engine/loop.hpp>

namespace pelton::test {

/// True if `exception` is an Exception or of a class derived from it.
template <class Exception>
bool is_a(const std::exception_ptr& exception) {
  try {
    if (exception) std::rethrow_exception(exception);
  } catch (const Exception&) {
    return true;
  } catch (...) {
  }
  return false;
}

/// What `action` throws, null if nothing.
template <class Action>
std::exception_ptr thrown_by(Action&& action) {
  try {
    action();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

/// Awaits `task` and returns what it throws, null if nothing.
template <class T>
Task<std::exception_ptr> raised_by(Task<T> task) {
  try {
    static_cast<void>(co_await task);
  } catch (...) {
    co_return std::current_exception();
  }
  co_return nullptr;
}
template <>
inline Task<std::exception_ptr> raised_by(Task<void> task) {
  try {
    co_await task;
  } catch (...) {
    co_return std::current_exception();
  }
  co_return nullptr;
}

/// Waits until it is cancelled.
inline Task<> forever() { co_await sleep(std::chrono::hours(1)); }

inline Task<> await_task(TaskHandle<> task) { co_await task; }

/// The task that runs.
inline TaskCore& me() { return *TaskCore::current(); }

/// Lets every task that is ready run, `count` times over.
inline Task<> turns(int count) {
  for (int turn = 0; turn < count; ++turn) co_await sleep(Duration::zero());
}

/// Returns `value`, that many turns later.
template <class T>
Task<T> after(int count, T value) {
  co_await turns(count);
  co_return value;
}

/// Collects what `loop` tells its exception handler. Must not outlive the loop.
class Reports {
 public:
  explicit Reports(Loop& loop) : loop_(loop) {
    loop.set_exception_handler([this](Loop&, const ExceptionContext& context) {
      messages_.push_back(context.message);
      exceptions_.push_back(context.exception);
    });
  }
  ~Reports() { loop_.set_exception_handler(nullptr); }
  Reports(const Reports&) = delete;
  Reports& operator=(const Reports&) = delete;

  [[nodiscard]] const std::vector<std::string>& messages() const { return messages_; }
  [[nodiscard]] const std::vector<std::exception_ptr>& exceptions() const { return exceptions_; }

 private:
  Loop& loop_;
  std::vector<std::string> messages_;
  std::vector<std::exception_ptr> exceptions_;
};

}  // namespace pelton::test
