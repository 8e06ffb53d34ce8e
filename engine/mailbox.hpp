// Mailbox: the one door through which other threads reach a loop.
//
// Threads post callbacks under a mutex and wake the loop through an eventfd that the ring reads.
// It is shared by the loop and by whoever may still post; after close() posting fails cleanly.
//
// Neighbours: loop.hpp owns one and runs what arrives; executor.hpp posts results here.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include <pelton/engine/op.hpp>
#include <pelton/engine/socket.hpp>
#include <pelton/engine/waiter.hpp>

namespace pelton {

class Loop;

class Mailbox final : private Runnable {
 public:
  using Callback = std::move_only_function<void()>;

  /// \throws OSError  no eventfd can be made.
  Mailbox();

  /// Queues `callback` and wakes the loop. \return false if the loop is closed. Thread-safe.
  bool post(Callback callback);

  /// Arms the read that hears the wake-ups, unless it is armed. The loop's thread.
  void listen(Loop& loop) noexcept;
  /// Refuses later posts and drops what was not run. The loop's thread.
  void close(Loop& loop) noexcept;

 private:
  static void prepare(Op& op, io_uring_sqe& sqe) noexcept;
  static void complete(Op& op, int res, std::uint32_t flags) noexcept;
  void deliver() noexcept;
  void run() noexcept override;
  void discard() noexcept override;
  static const OpKind kind;

  std::mutex mutex_;
  std::vector<Callback> posted_;   ///< guarded by mutex_
  bool woken_ = false;             ///< guarded by mutex_: the eventfd was written since deliver()
  bool closed_ = false;            ///< guarded by mutex_
  std::vector<Callback> arrived_;  ///< to be run in this turn
  OwnedFd event_;
  Op read_{kind, this};
  Loop* loop_ = nullptr;
  std::uint64_t count_ = 0;  ///< what the kernel reads the eventfd into
};

}  // namespace pelton
