// A read on a pipe as an operation of a loop: the simplest operation that waits for an event.
//
// Neighbours: the loop's tests. The object must not die before its operation has ended.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/socket.hpp>
#include <pelton/engine/sqe.hpp>

namespace pelton::test {

class PipeRead {
 public:
  explicit PipeRead(Loop& loop) : loop_(loop) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw_os_error(errno_code(errno), "pipe2");
    read_end_ = OwnedFd(ends[0]);
    write_end_ = OwnedFd(ends[1]);
  }
  PipeRead(const PipeRead&) = delete;
  PipeRead& operator=(const PipeRead&) = delete;

  void start() noexcept { loop_.start(op_); }
  void cancel() noexcept { loop_.cancel(op_); }
  void feed(std::string_view text) const {
    if (::write(write_end_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      throw_os_error(errno_code(errno), "write");
    }
  }
  [[nodiscard]] bool in_flight() const noexcept { return op_.in_flight(); }
  [[nodiscard]] const std::vector<int>& results() const noexcept { return results_; }

  /// Called after each completion.
  std::function<void()> on_complete;

 private:
  static void prepare(Op& op, io_uring_sqe& sqe) noexcept {
    auto& self = op.owner<PipeRead>();
    sqe::read(sqe, self.read_end_.get(), self.data_.data(),
              static_cast<std::uint32_t>(self.data_.size()));
  }
  static void complete(Op& op, int res, std::uint32_t) noexcept {
    auto& self = op.owner<PipeRead>();
    self.results_.push_back(res);
    if (self.on_complete) self.on_complete();
  }
  static constexpr OpKind kind{"pipe_read", prepare, complete};

  Loop& loop_;
  OwnedFd read_end_;
  OwnedFd write_end_;
  std::array<char, 16> data_{};
  std::vector<int> results_;
  Op op_{kind, this};
};

}  // namespace pelton::test
