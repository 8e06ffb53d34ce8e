// Posting from other threads. See mailbox.hpp.
#include <pelton/engine/mailbox.hpp>

#include <sys/eventfd.h>
#include <unistd.h>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/simulation.hpp>
#include <pelton/engine/sqe.hpp>

namespace pelton {

const OpKind Mailbox::kind{"wake_up", prepare, complete};

Mailbox::Mailbox() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!event_) throw_os_error(errno_code(errno), "eventfd");
}

bool Mailbox::post(Callback callback) {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  posted_.push_back(std::move(callback));
  if (!woken_) {
    woken_ = true;
    const std::uint64_t one = 1;
    // An eventfd that cannot be written holds a count already, which wakes as well.
    static_cast<void>(!::write(event_.get(), &one, sizeof one));
  }
  return true;
}

void Mailbox::listen(Loop& loop) noexcept {
  loop_ = &loop;
  if (!read_.in_flight()) loop.start(read_);
}

void Mailbox::close(Loop& loop) noexcept {
  std::vector<Callback> dropped;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    dropped.swap(posted_);
  }
  if (read_.in_flight()) loop.cancel(read_);
}

void Mailbox::prepare(Op& op, io_uring_sqe& sqe) noexcept {
  auto& self = op.owner<Mailbox>();
  sqe::read(sqe, self.event_.get(), &self.count_, sizeof self.count_);
}

void Mailbox::complete(Op& op, int, std::uint32_t) noexcept {
  auto& self = op.owner<Mailbox>();
  if (op.cancelling()) return;
  self.deliver();
  if (PELTON_CANARY(lost_wake_up)) return;
  self.loop_->start(op);
}

/// Taking them over and running them allocates nothing: a post that was accepted is not lost.
void Mailbox::deliver() noexcept {
  {
    const std::lock_guard lock(mutex_);
    PELTON_ASSERT(arrived_.empty());  // they run in the turn in which they arrive
    arrived_.swap(posted_);
    woken_ = false;
  }
  loop_->schedule(*this);
}

void Mailbox::run() noexcept {
  std::vector<Callback> calls = std::exchange(arrived_, {});
  for (Callback& callback : calls) {
    Callback called = std::move(callback);  // it dies before the next one is called
    try {
      called();
    } catch (...) {
      loop_->report("Exception in callback", std::current_exception());
    }
  }
  calls.clear();
  if (arrived_.empty()) arrived_.swap(calls);  // its room is for the posts after the next ones
}

void Mailbox::discard() noexcept { std::exchange(arrived_, {}).clear(); }

}  // namespace pelton
