// Reading SQEs; the slab of operations, its index by user_data, and the lists by descriptor. See
// epoll_ops.hpp.
#include <pelton/engine/epoll_ops.hpp>

#include <sys/epoll.h>

#include <algorithm>
#include <bit>

#include <pelton/engine/uapi.hpp>

namespace pelton {
namespace {

constexpr std::size_t records_at_first = 64;
constexpr std::size_t descriptors_at_first = 64;

}  // namespace

EpollOperation::EpollOperation(const io_uring_sqe& sqe) noexcept
    : user_data(sqe.user_data),
      address(sqe.addr),
      offset(sqe.off),
      size(sqe.len),
      flags(sqe.msg_flags),  // accept_flags and poll32_events share its place
      wanted(EPOLLOUT),
      fd(sqe.fd),
      opcode(sqe.opcode) {
  switch (opcode) {
    case IORING_OP_RECV:
      group = sqe.buf_group;
      total_left = static_cast<std::uint32_t>(sqe.splice_fd_in);  // uapi::set_optlen
      multishot = (sqe.ioprio & IORING_RECV_MULTISHOT) != 0;
      wanted = EPOLLIN | EPOLLRDHUP | EPOLLPRI;
      return;
    case IORING_OP_ACCEPT:
      multishot = (sqe.ioprio & IORING_ACCEPT_MULTISHOT) != 0;
      wanted = EPOLLIN;
      return;
    case IORING_OP_READ:
      wanted = EPOLLIN;
      return;
    case IORING_OP_POLL_ADD:
      if (std::endian::native == std::endian::big) flags = flags << 16 | flags >> 16;
      wanted = flags;
      return;
    default:
      return;
  }
}

EpollOperations::EpollOperations() : descriptors_(descriptors_at_first) { grow(); }

/// Doubles the records and the buckets.
void EpollOperations::grow() {
  const std::size_t before = records_.size();
  const std::size_t after = std::max(records_at_first, 2 * before);
  std::vector<std::uint32_t> buckets(after, EpollOperation::none);
  records_.resize(after);
  buckets_.swap(buckets);
  for (std::size_t index = 0; index < before; ++index) {  // all are in use, or it need not grow
    std::uint32_t& head = buckets_[bucket(records_[index].user_data)];
    records_[index].next_of_bucket = head;
    head = static_cast<std::uint32_t>(index);
  }
  for (std::size_t index = after; index-- > before;) {
    records_[index].next_of_bucket = first_free_;
    first_free_ = static_cast<std::uint32_t>(index);
  }
}

std::uint32_t EpollOperations::add(const EpollOperation& operation) {
  PELTON_ASSERT(operation.fd >= 0);
  const auto number = static_cast<std::size_t>(operation.fd);
  if (number >= descriptors_.size()) descriptors_.resize(std::bit_ceil(number + 1));
  if (first_free_ == EpollOperation::none) grow();
  const std::uint32_t index = first_free_;
  EpollOperation& record = records_[index];
  first_free_ = record.next_of_bucket;
  record = operation;
  std::uint32_t& head = buckets_[bucket(record.user_data)];
  record.next_of_bucket = head;
  head = index;
  record.next_of_fd = EpollOperation::none;
  std::uint32_t* link = &descriptors_[number].first;
  while (*link != EpollOperation::none) link = &records_[*link].next_of_fd;
  *link = index;
  ++count_;
  return index;
}

void EpollOperations::remove(std::uint32_t index) noexcept {
  EpollOperation& record = records_[index];
  std::uint32_t* link = &buckets_[bucket(record.user_data)];
  while (*link != index) link = &records_[*link].next_of_bucket;
  *link = record.next_of_bucket;
  EpollDescriptor& owner = descriptor(record.fd);
  link = &owner.first;
  while (*link != index) link = &records_[*link].next_of_fd;
  *link = record.next_of_fd;
  if (owner.first == EpollOperation::none) owner.watched = false;
  record.next_of_bucket = first_free_;
  first_free_ = index;
  --count_;
}

std::uint32_t EpollOperations::find(std::uint64_t user_data) const noexcept {
  std::uint32_t index = buckets_[bucket(user_data)];
  while (index != EpollOperation::none && records_[index].user_data != user_data) {
    index = records_[index].next_of_bucket;
  }
  return index;
}

}  // namespace pelton
