// Finding and taking the free buffers of a provided-buffer ring. See epoll_buffers.hpp.
#include <pelton/engine/epoll_buffers.hpp>

#include <algorithm>
#include <atomic>

#include <pelton/engine/uapi.hpp>

namespace pelton {

std::uint32_t EpollBuffers::offer(EpollPieces& pieces, unsigned most, std::uint32_t pass,
                                  std::uint32_t total) const noexcept {
  const std::uint16_t tail = std::atomic_ref(table_->tail).load(std::memory_order_acquire);
  const unsigned free = static_cast<std::uint16_t>(tail - head_);
  most = std::min({most, free, EpollPieces::most});
  std::uint32_t size = 0;
  while (pieces.count < most && (total == 0 || size < total)) {
    const io_uring_buf& buffer = uapi::buffer_entries(table_)[(head_ + pieces.count) & mask_];
    const std::uint32_t length = pass > 0 ? std::min(buffer.len, pass - size) : buffer.len;
    if (length == 0) break;
    pieces.memory[pieces.count++] = {reinterpret_cast<void*>(buffer.addr), length};
    size += length;
  }
  return size;
}

std::uint32_t EpollBuffers::take() noexcept {
  return uapi::buffer_entries(table_)[head_++ & mask_].bid;
}

}  // namespace pelton
