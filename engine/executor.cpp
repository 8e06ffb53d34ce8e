// The worker threads of executor.hpp.
#include <pelton/engine/executor.hpp>

#include <thread>

namespace pelton {

void Executor::submit(Job job) {
  const std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
  if (idle_ >= jobs_.size() || threads_ == threads_max_) {
    wake_.notify_one();
    return;
  }
  try {
    std::thread([self = shared_from_this()] { work(self); }).detach();
    ++threads_;
  } catch (...) {
    if (threads_ > 0) return;  // the others will come to it
    jobs_.pop_back();
    throw;
  }
}

void Executor::shut_down() noexcept {
  std::list<Job> dropped;  // not a deque, which allocates where it is empty
  {
    const std::lock_guard lock(mutex_);
    shut_down_ = true;
    dropped.swap(jobs_);
  }
  wake_.notify_all();
}

void Executor::work(const std::shared_ptr<Executor>& self) {
  std::unique_lock lock(self->mutex_);
  for (;;) {
    ++self->idle_;
    self->wake_.wait(lock, [&] { return self->shut_down_ || !self->jobs_.empty(); });
    --self->idle_;
    if (self->shut_down_) return;
    Job job = std::move(self->jobs_.front());
    self->jobs_.pop_front();
    lock.unlock();
    job();
    job = nullptr;  // its captures die outside the lock
    lock.lock();
  }
}

}  // namespace pelton
