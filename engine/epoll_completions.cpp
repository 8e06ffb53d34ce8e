// Posting, and what waits behind a full queue. See epoll_completions.hpp.
#include <pelton/engine/epoll_completions.hpp>

#include <algorithm>
#include <atomic>

namespace pelton {

void EpollCompletions::post(std::uint64_t user_data, int res, std::uint32_t flags) noexcept {
  io_uring_cqe cqe{};
  cqe.user_data = user_data;
  cqe.res = res;
  cqe.flags = flags;
  if (full()) {
    backlog_.push_back(cqe);
  } else {
    append(cqe);
  }
}

void EpollCompletions::append(const io_uring_cqe& cqe) noexcept {
  memory_[tail_ & mask()] = cqe;
  std::atomic_ref(tail_).store(tail_ + 1, std::memory_order_release);
}

void EpollCompletions::flush() noexcept {
  if (backlog_.empty()) return;
  std::size_t moved = 0;
  while (moved < backlog_.size() && tail_ - head_ <= mask()) append(backlog_[moved++]);
  backlog_.erase(backlog_.begin(), backlog_.begin() + static_cast<std::ptrdiff_t>(moved));
}

void EpollCompletions::make_backlog(std::size_t count) {
  const std::size_t wanted = backlog_.size() + count;
  if (wanted > backlog_.capacity()) backlog_.reserve(std::max(wanted, backlog_.capacity() * 2));
}

}  // namespace pelton
