// The pipe between C signal handlers and the loop. See signals.hpp.
#include <pelton/engine/signals.hpp>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/sqe.hpp>

namespace pelton {
namespace {

// The write end of the loop that handles each signal, plus one; 0 for none.
std::array<std::atomic<int>, NSIG> pipe_of_signal{};

void on_signal(int signal_number) {
  const int saved_errno = errno;
  const int fd = pipe_of_signal[static_cast<std::size_t>(signal_number)].load() - 1;
  const auto number = static_cast<unsigned char>(signal_number);
  if (fd >= 0) static_cast<void>(!::write(fd, &number, 1));
  errno = saved_errno;
}

}  // namespace

class SignalHandlers::Call final : public RefCounted, public Runnable {
 public:
  Call(Loop& loop, Callback callback) : loop_(loop), callback_(std::move(callback)) {}

  /// The signal has arrived. Allocates nothing, so that it is not lost.
  void soon() noexcept {
    ++due_;
    if (scheduled()) return;
    add_ref();  // the ready queue's
    loop_.schedule(*this);
  }

 private:
  void run() noexcept override {
    for (unsigned left = std::exchange(due_, 0); left > 0; --left) {
      try {
        callback_();
      } catch (...) {
        loop_.report("Exception in callback", std::current_exception());
      }
    }
    drop_ref();
  }
  void discard() noexcept override { drop_ref(); }

  Loop& loop_;
  Callback callback_;
  unsigned due_ = 0;
};

const OpKind SignalHandlers::kind{"signals", prepare, complete};

SignalHandlers::SignalHandlers(Loop& loop) : loop_(loop) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) throw_os_error(errno_code(errno), "pipe2");
  read_end_ = OwnedFd(ends[0]);
  write_end_ = OwnedFd(ends[1]);
  loop_.reserve_operations(1);
}

SignalHandlers::~SignalHandlers() { close(); }

void SignalHandlers::add(int signal_number, Callback callback) {
  const std::string name = "sig " + std::to_string(signal_number);
  if (signal_number < 1 || signal_number >= NSIG) throw ValueError(name + " out of range");
  const auto index = static_cast<std::size_t>(signal_number);
  Ref<Call> call = make_ref<Call>(loop_, std::move(callback));
  Ref<Call>& place = callbacks_[signal_number];
  const int previous = pipe_of_signal[index].exchange(write_end_.get() + 1);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  if (sigaction(signal_number, &action, nullptr) != 0) {
    pipe_of_signal[index].store(previous);
    if (!place) callbacks_.erase(signal_number);
    throw RuntimeError(name + " cannot be caught");
  }
  place = std::move(call);
  if (!read_.in_flight()) loop_.start(read_);
}

bool SignalHandlers::remove(int signal_number) noexcept {
  if (callbacks_.erase(signal_number) == 0) return false;
  auto& owner = pipe_of_signal[static_cast<std::size_t>(signal_number)];
  int mine = write_end_.get() + 1;
  if (owner.compare_exchange_strong(mine, 0)) ::signal(signal_number, SIG_DFL);
  return true;
}

void SignalHandlers::close() noexcept {
  while (!callbacks_.empty()) remove(callbacks_.begin()->first);
  if (read_.in_flight()) loop_.cancel(read_);
}

void SignalHandlers::prepare(Op& op, io_uring_sqe& sqe) noexcept {
  auto& self = op.owner<SignalHandlers>();
  sqe::read(sqe, self.read_end_.get(), self.numbers_.data(),
            static_cast<std::uint32_t>(self.numbers_.size()));
}

void SignalHandlers::complete(Op& op, int res, std::uint32_t) noexcept {
  auto& self = op.owner<SignalHandlers>();
  for (int index = 0; index < res; ++index) {
    const auto found = self.callbacks_.find(self.numbers_[static_cast<std::size_t>(index)]);
    if (found != self.callbacks_.end()) found->second->soon();
  }
  if (!op.cancelling()) self.loop_.start(op);
}

}  // namespace pelton
