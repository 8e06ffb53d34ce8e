// SignalHandlers: Unix signals as callbacks of one loop.
//
// The C handler writes the signal's number into a pipe that the ring reads; the callback runs in
// the loop's turn, where everything is allowed. A signal belongs to the loop that asked for it
// last; the table of who does is process-wide.
//
// Neighbours: loop.hpp's add_signal_handler owns one, made on first use.
#pragma once

#include <array>
#include <functional>
#include <map>

#include <pelton/engine/intrusive.hpp>
#include <pelton/engine/op.hpp>
#include <pelton/engine/socket.hpp>

namespace pelton {

class Loop;

class SignalHandlers {
 public:
  using Callback = std::move_only_function<void()>;

  /// \throws OSError  no pipe can be made.
  explicit SignalHandlers(Loop& loop);
  /// Restores the default action of every signal that it holds. No read may be in flight.
  ~SignalHandlers();

  /// \throws ValueError "sig N out of range"; RuntimeError "sig N cannot be caught"
  void add(int signal_number, Callback callback);
  bool remove(int signal_number) noexcept;
  /// Restores defaults and cancels the read.
  void close() noexcept;

 private:
  /// A callback and how often it is to be called, in the loop's ready queue while it is.
  class Call;

  static void prepare(Op& op, io_uring_sqe& sqe) noexcept;
  static void complete(Op& op, int res, std::uint32_t flags) noexcept;
  static const OpKind kind;

  Loop& loop_;
  OwnedFd read_end_;
  OwnedFd write_end_;
  std::map<int, Ref<Call>> callbacks_;
  Op read_{kind, this};
  std::array<unsigned char, 64> numbers_{};
};

}  // namespace pelton
