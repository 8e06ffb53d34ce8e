// The operations that an EpollRing has under way, and the descriptors that they are about.
//
// An operation that ends at once is never seen here. One that waits gets a record of a slab, which
// is found by its user_data, for cancelling, and by its descriptor, for the events of that. Records
// and their places in both are reused: nothing is allocated once a ring has seen its crowd.
//
// Neighbours: epoll_ring.cpp is the only user. The table owns the records; a Descriptor's entry
// stays when its last operation is gone, for the number will be used again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <pelton/engine/assert.hpp>

struct io_uring_sqe;

namespace pelton {

/// What is left to do of one SQE.
struct EpollOperation {
  static constexpr std::uint32_t none = ~std::uint32_t{0};

  EpollOperation() = default;
  /// All of what is asked for.
  explicit EpollOperation(const io_uring_sqe& sqe) noexcept;

  std::uint64_t user_data = 0;
  std::uint64_t address = 0;     ///< of data, msghdr or sockaddr
  std::uint64_t offset = 0;      ///< connect: the size of the address
  std::uint64_t done = 0;        ///< bytes sent
  std::uint32_t size = 0;        ///< of the data; of a pass of a receive, 0 for no cap
  std::uint32_t total_left = 0;  ///< receives: what the shot may take yet, 0 for no cap
  std::uint32_t flags = 0;       ///< of the message, of what is accepted, or the polled events
  std::uint32_t wanted = 0;      ///< the events that it waits for
  int fd = -1;
  std::uint32_t next_of_fd = none;
  std::uint32_t next_of_bucket = none;  ///< or of the free records
  std::uint16_t group = 0;
  std::uint8_t opcode = 0;
  bool multishot = false;
  bool large = false;         ///< the last receive filled all that it was given
  bool was_blocking = false;  ///< the descriptor is made so again at the end
};

/// What is known of one descriptor.
struct EpollDescriptor {
  std::uint32_t first = EpollOperation::none;  ///< its operations, oldest first
  std::uint32_t generation = 0;                ///< of its registration; events tell theirs
  std::uint32_t mask = 0;                      ///< that it is registered for
  std::uint32_t always_told = 0;               ///< what the ring adds to each event
  std::uint32_t last_pass = 0;                 ///< the number of the enter that served it last
  /// Registered with epoll for certain. Known only while an operation is under way: without one
  /// the descriptor may be closed at any time and its number be that of another file.
  bool watched = false;
  bool perhaps_watched = false;  ///< it was, when it last had an operation
  /// The next in a line; see EpollLine.
  static constexpr int not_in_line = -2;
  int next_left_over = not_in_line;  ///< of those to be served without an event
  int next_to_retry = not_in_line;
};

class EpollOperations {
 public:
  EpollOperations();

  /// Keeps a copy of `operation`. \throws std::bad_alloc  nothing was changed.
  std::uint32_t add(const EpollOperation& operation);
  /// Frees the record. The descriptor without any operation is not known to be watched any more.
  void remove(std::uint32_t index) noexcept;
  /// The first operation with this user_data, or `none`.
  [[nodiscard]] std::uint32_t find(std::uint64_t user_data) const noexcept;

  [[nodiscard]] EpollOperation& operator[](std::uint32_t index) noexcept { return records_[index]; }
  /// Precondition: knows(fd), which add() of an operation on it sees to.
  [[nodiscard]] EpollDescriptor& descriptor(int fd) noexcept {
    return descriptors_[static_cast<std::size_t>(fd)];
  }
  [[nodiscard]] bool knows(int fd) const noexcept {
    return fd >= 0 && static_cast<std::size_t>(fd) < descriptors_.size();
  }
  /// How many there are.
  [[nodiscard]] std::size_t count() const noexcept { return count_; }

 private:
  [[nodiscard]] std::size_t bucket(std::uint64_t user_data) const noexcept {
    return static_cast<std::size_t>((user_data * 0x9E3779B97F4A7C15U) >> 32) &
           (buckets_.size() - 1);
  }
  void grow();

  std::vector<EpollOperation> records_;
  std::vector<std::uint32_t> buckets_;  ///< the first record of each; a power of two of them
  std::vector<EpollDescriptor> descriptors_;
  std::uint32_t first_free_ = EpollOperation::none;
  std::size_t count_ = 0;
};

/// A line of descriptors, first come first served, each in it once. Standing in it takes no memory.
class EpollLine {
 public:
  EpollLine(EpollOperations& operations, int EpollDescriptor::*next) noexcept
      : operations_(operations), next_(next) {}

  [[nodiscard]] bool empty() const noexcept { return first_ == none; }
  void join(int fd) noexcept {
    int& next = operations_.descriptor(fd).*next_;
    if (next != EpollDescriptor::not_in_line) return;
    next = none;
    (empty() ? first_ : operations_.descriptor(last_).*next_) = fd;
    last_ = fd;
    ++size_;
  }
  /// Precondition: not empty.
  [[nodiscard]] int take_first() noexcept {
    const int fd = first_;
    first_ = std::exchange(operations_.descriptor(fd).*next_, EpollDescriptor::not_in_line);
    --size_;
    return fd;
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  static constexpr int none = -1;

  EpollOperations& operations_;
  int EpollDescriptor::*next_;
  int first_ = none;
  int last_ = none;
  std::size_t size_ = 0;
};

}  // namespace pelton
