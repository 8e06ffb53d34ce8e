// Listener: a listening socket and its multishot accept.
//
// A descriptor that a completion brings is owned before its flags are judged. Running out of
// descriptors or memory stops the accepting, which resumes when one is closed and after a second
// at the latest; clients wait in the backlog meanwhile and no CPU is spent.
//
// Neighbours: stream's Server owns one per address; socket.hpp binds what is given here.
// A Listener lives until its last operation ended, whoever lets go of it earlier.
#pragma once

#include <functional>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/socket.hpp>

namespace pelton {

class Listener final : public RefCounted,
                       private LoopResource,
                       private DescriptorWaiter,
                       private Timer {
 public:
  /// Called for each connection, with a non-blocking, close-on-exec socket. Must not throw.
  using OnAccept = std::move_only_function<void(OwnedFd)>;
  /// Called when accepting pauses, at most once a second, or ends, with why.
  using OnTrouble = std::move_only_function<void(std::error_code)>;

  /// \param socket  bound; listening once start() is called.
  Listener(Loop& loop, OwnedFd socket, OnAccept on_accept, OnTrouble on_trouble);
  ~Listener() override { close(); }

  /// listen(2) and the first accept, on a socket that is non-blocking from now on, for whoever
  /// shares it. Idempotent. \return EBADF once closed.
  [[nodiscard]] Result<void> start(int backlog) noexcept;
  /// Refuses new connections at once; what waits in the backlog is reset, as by close(2).
  void close() noexcept;
  [[nodiscard]] bool accepting() const noexcept { return started_ && !closing_; }
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

 private:
  static void prepare(Op& op, io_uring_sqe& sqe) noexcept;
  static void complete(Op& op, int res, std::uint32_t flags) noexcept;
  static const OpKind kind;

  void arm() noexcept;
  void let_go() noexcept;
  void on_result(int res) noexcept;
  void on_error(int error) noexcept;
  void pause(int error) noexcept;
  void on_timer() noexcept override { arm(); }
  void on_descriptor_free() noexcept override { arm(); }
  void on_loop_close() noexcept override { close(); }

  Loop& loop_;
  OwnedFd socket_;
  OnAccept on_accept_;
  OnTrouble on_trouble_;
  Op accept_{kind, this};
  TimePoint last_trouble_;
  bool started_ = false;
  bool closing_ = false;
};

}  // namespace pelton
