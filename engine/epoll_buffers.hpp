// A provided-buffer ring, read as the kernel reads it.
//
// The entries and the tail lie in memory that BufferGroup writes; the head is kept here. A buffer
// is taken only when something was received into it.
//
// Neighbours: epoll_ring.cpp is the only user; buffers.hpp writes what is read here, and owns it.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>

struct io_uring_buf;
struct io_uring_buf_ring;

namespace pelton {

/// Buffers that one call receives into.
struct EpollPieces {
  static constexpr unsigned most = 8;
  std::array<iovec, most> memory;
  unsigned count = 0;
};

class EpollBuffers {
 public:
  /// \param entries  A power of two, at most 32768.
  EpollBuffers(std::uint16_t group, void* memory, unsigned entries) noexcept
      : table_(static_cast<io_uring_buf_ring*>(memory)),
        group_(group),
        mask_(static_cast<std::uint16_t>(entries - 1)) {}

  [[nodiscard]] std::uint16_t group() const noexcept { return group_; }
  /// Fills `pieces` with the first `most` free buffers, as far as both limits go. Zero is no limit;
  /// `total` is met by the buffer that reaches it, `pass` to the byte.
  /// \return the size of all of them; 0 if no buffer is free.
  [[nodiscard]] std::uint32_t offer(EpollPieces& pieces, unsigned most, std::uint32_t pass,
                                    std::uint32_t total) const noexcept;
  /// The first one was received into. \return its id.
  [[nodiscard]] std::uint32_t take() noexcept;

 private:
  io_uring_buf_ring* table_;
  std::uint16_t group_;
  std::uint16_t mask_;
  std::uint16_t head_ = 0;
};

}  // namespace pelton
