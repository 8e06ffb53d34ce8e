// What each operation does, and the faults that it meets. See sim_ring.hpp.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include <pelton/engine/op.hpp>

#include "sim/sim_ring.hpp"

namespace pelton::sim {
namespace {

using std::chrono::nanoseconds;

constexpr unsigned passes_most = 32;  // that the kernel gives one socket in a row

std::uint64_t add_to_sum(std::uint64_t sum, std::span<const std::byte> data) noexcept {
  for (const std::byte byte : data)
    sum = (sum ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001B3U;
  return sum;
}

/// Those that a poll waits for; errors and ends are told in any case.
unsigned events_of(const io_uring_sqe& sqe) noexcept {
  const std::uint32_t asked = sqe.poll32_events;
  return (std::endian::native == std::endian::big ? asked << 16 | asked >> 16 : asked) | POLLERR |
         POLLHUP;
}

}  // namespace

bool SimRing::is_ready(const Request& request) const {
  const File* const file = request.file.get();
  switch (request.sqe.opcode) {
    case IORING_OP_RECV:
      return file->readable();
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
      return file->writable();
    case IORING_OP_ACCEPT:
      return file->shut || !file->backlog.empty();
    case IORING_OP_READ:
      return file->events > 0 || file->readable();
    case IORING_OP_POLL_ADD:
      return (file->poll() & events_of(request.sqe)) != 0;
    default:
      return true;  // a connect is when its time has come, a cancel at once
  }
}

void SimRing::proceed(Request& request, bool issuing) {
  if (!issuing && !is_ready(request)) return;
  switch (request.sqe.opcode) {
    case IORING_OP_RECV:
      return proceed_receive(request, issuing);
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
      return proceed_send(request);
    case IORING_OP_ACCEPT:
      return proceed_accept(request);
    case IORING_OP_CONNECT:
      return proceed_connect(request, issuing);
    case IORING_OP_READ:
      return proceed_read(request);
    case IORING_OP_POLL_ADD:
      return proceed_poll(request);
    case IORING_OP_ASYNC_CANCEL:
      return proceed_cancel(request);
    case IORING_OP_NOP:
      return answer(request, 0);
    default:
      return refuse(request, EINVAL);
  }
}

void SimRing::answer(Request& request, int res, std::uint32_t flags) {
  request.has_answer = true;
  request.answer = {res, flags};
}

// --- Receiving ---

void SimRing::proceed_receive(Request& request, bool issuing) {
  if (request.file->kind != File::Kind::socket) return refuse(request, ENOTSOCK);
  if (!request.file->connection) return refuse(request, ENOTCONN);
  if (table_) look_at_new_buffers();
  if (issuing && buffer_head_ == buffer_seen_) return answer(request, -ENOBUFS);
  if (!request.file->readable()) return;
  if (receive_fault(request)) return;
  receive_pieces(request);
}

bool SimRing::receive_fault(Request& request) {
  int error = 0;
  if (world_.strikes(Knob::receive_enobufs)) error = ENOBUFS;
  if (world_.strikes(Knob::receive_enomem)) error = ENOMEM;
  if (world_.strikes(Knob::receive_eintr)) error = EINTR;
  if (world_.strikes(Knob::receive_eagain)) error = EAGAIN;
  if (world_.strikes(Knob::receive_ecanceled)) error = ECANCELED;
  if (error != 0) answer(request, -error);
  return error != 0;
}

void SimRing::receive_pieces(Request& request) {
  for (unsigned pass = 0; pass < passes_most; ++pass) {
    if (!receive_piece(request) || !request.file->readable()) return;
  }
}

/// Precondition: there is one.
SimRing::Buffer SimRing::take_buffer() {
  const io_uring_buf entry = uapi::buffer_entries(table_)[buffer_head_ & (entries_ - 1)];
  ++buffer_head_;
  offered_[entry.bid] = false;
  return {.data = reinterpret_cast<std::byte*>(entry.addr),
          .size = entry.len,
          .flags = IORING_CQE_F_BUFFER | std::uint32_t{entry.bid} << IORING_CQE_BUFFER_SHIFT};
}

/// Fills one buffer. \return false if the receive has ended.
bool SimRing::receive_piece(Request& request) {
  Connection& connection = *request.file->connection;
  const Connection::End end = request.file->end;
  if (connection.unread(end) == 0) {
    const auto res = static_cast<int>(connection.receive(end, nullptr, 0));
    const bool takes = res == 0 && buffer_head_ != buffer_seen_;
    answer(request, res, takes && world_.strikes(Knob::end_takes_buffer) ? take_buffer().flags : 0);
    return false;
  }
  if (buffer_head_ == buffer_seen_) {
    answer(request, -ENOBUFS);
    return false;
  }
  const Buffer buffer = take_buffer();
  const std::uint32_t pass_cap = request.sqe.len;
  const auto total_cap = static_cast<std::uint32_t>(request.sqe.splice_fd_in);
  std::size_t room = buffer.size;
  if (pass_cap != 0) room = std::min<std::size_t>(room, pass_cap);
  if (total_cap != 0) room = std::min(room, total_cap - request.moved);
  if (world_.strikes(Knob::short_receive)) room = world_.random.between(1, room);
  const ssize_t count = connection.receive(end, buffer.data, room);
  request.moved += static_cast<std::size_t>(count);
  const bool once = !(request.sqe.ioprio & IORING_RECV_MULTISHOT);
  const bool ends = once || queue_full() || (total_cap != 0 && request.moved >= total_cap) ||
                    world_.strikes(Knob::receive_ends);
  if (ends) {
    answer(request, static_cast<int>(count), buffer.flags);
    return false;
  }
  post(request.sqe.user_data, static_cast<int>(count), buffer.flags | IORING_CQE_F_MORE);
  return true;
}

// --- Sending ---

std::vector<std::span<const std::byte>> SimRing::memory_of(const Request& request) const {
  std::vector<std::span<const std::byte>> memory;
  const io_uring_sqe& sqe = request.sqe;
  if (sqe.opcode == IORING_OP_SEND) {
    memory.emplace_back(reinterpret_cast<const std::byte*>(sqe.addr), sqe.len);
  } else if (sqe.opcode == IORING_OP_SENDMSG) {
    const auto& message = *reinterpret_cast<const msghdr*>(sqe.addr);
    for (std::size_t index = 0; index < message.msg_iovlen; ++index) {
      const iovec& piece = message.msg_iov[index];
      memory.emplace_back(static_cast<const std::byte*>(piece.iov_base), piece.iov_len);
    }
  }
  return memory;
}

/// What a send points to belongs to the kernel until its final completion.
void SimRing::check_memory(Request& request) {
  std::uint64_t sum = 1;
  for (const auto piece : memory_of(request)) sum = add_to_sum(sum, piece);
  if (request.memory_sum == 0) request.memory_sum = sum;
  if (request.memory_sum != sum) {
    world_.fail("what a send points to has changed before it completed");
  }
}

void SimRing::proceed_send(Request& request) {
  if (request.file->kind != File::Kind::socket) return refuse(request, ENOTSOCK);
  if (!request.file->connection) return refuse(request, ENOTCONN);
  check_memory(request);
  if (!request.file->writable()) return;
  if (request.moved == 0 && !request.judged) {
    request.judged = true;
    if (send_fault(request)) return;
  }
  send_pieces(request);
}

bool SimRing::send_fault(Request& request) {
  int error = 0;
  if (world_.strikes(Knob::send_eintr)) error = EINTR;
  if (world_.strikes(Knob::send_enomem)) error = ENOMEM;
  if (world_.strikes(Knob::send_enobufs)) error = ENOBUFS;
  if (world_.strikes(Knob::send_eagain)) error = EAGAIN;
  if (world_.strikes(Knob::send_ecanceled)) error = ECANCELED;
  if (error != 0) answer(request, -error);
  return error != 0;
}

/// Sends on from where it stopped, as MSG_WAITALL has the kernel do.
void SimRing::send_pieces(Request& request) {
  Connection& connection = *request.file->connection;
  const bool slow = world_.strikes(Knob::slow_send);
  std::size_t skip = request.moved;
  for (auto piece : memory_of(request)) {
    if (skip >= piece.size()) {
      skip -= piece.size();
      continue;
    }
    piece = piece.subspan(skip);
    skip = 0;
    if (slow) piece = piece.first(world_.random.between(1, piece.size()));
    const std::size_t wanted = piece.size();
    const ssize_t sent = connection.send(request.file->end, piece);
    if (sent < 0) {  // bytes that were sent are reported alone, and the error is gone
      if (world_.strikes(Knob::send_meets_reset)) {
        request.not_before = world_.time() + nanoseconds(world_.random.scaled(1000, 500'000));
      }
      return answer(request,
                    request.moved > 0 ? static_cast<int>(request.moved) : static_cast<int>(sent));
    }
    request.moved += static_cast<std::size_t>(sent);
    if (request.moved > 0 && world_.strikes(Knob::short_send)) {
      return answer(request, static_cast<int>(request.moved));
    }
    if (static_cast<std::size_t>(sent) < wanted) return;
    if (slow) {
      request.not_before = world_.time() + nanoseconds(world_.random.scaled(1000, 500'000));
      break;
    }
  }
  std::size_t size = 0;
  for (const auto piece : memory_of(request)) size += piece.size();
  if (request.moved == size) answer(request, static_cast<int>(size));
}

// --- Accepting and connecting ---

bool SimRing::accept_fault(Request& request) {
  int error = 0;
  if (world_.strikes(Knob::accept_emfile)) error = world_.random.chance(500) ? EMFILE : ENFILE;
  if (world_.strikes(Knob::accept_enomem)) error = world_.random.chance(500) ? ENOMEM : ENOBUFS;
  if (world_.strikes(Knob::accept_eintr)) error = EINTR;
  if (world_.strikes(Knob::accept_econnaborted)) {
    error = world_.random.chance(500) ? ECONNABORTED : EPROTO;
    File& listener = *request.file;
    if (!listener.backlog.empty()) {
      listener.backlog.front()->reset(Connection::peer);
      listener.backlog.pop_front();
    }
  }
  if (error != 0) answer(request, -error);
  return error != 0;
}

void SimRing::proceed_accept(Request& request) {
  File& listener = *request.file;
  if (!listener.listening) return refuse(request, EINVAL);
  if (listener.shut) return answer(request, -EINVAL);
  while (!listener.backlog.empty()) {
    if (accept_fault(request)) return;
    const int fd = world_.accept_from(listener, static_cast<int>(request.sqe.accept_flags));
    if (fd < 0) return answer(request, fd);
    const bool once = !(request.sqe.ioprio & IORING_ACCEPT_MULTISHOT);
    if (once || queue_full() || world_.strikes(Knob::accept_ends)) return answer(request, fd);
    post(request.sqe.user_data, fd, IORING_CQE_F_MORE);
  }
}

void SimRing::proceed_connect(Request& request, bool issuing) {
  if (issuing) {
    nanoseconds delay(world_.random.scaled(1000, 300'000));
    if (world_.strikes(Knob::connect_timeout)) {
      request.moved = 1;
      delay = nanoseconds(world_.random.between(1, 50'000'000));
    }
    if (world_.strikes(Knob::connect_hangs)) {
      request.moved = 1;
      delay = std::chrono::seconds(5);
    }
    request.not_before = world_.time() + delay;
    request.judged = true;
    return;
  }
  if (!request.judged) return proceed_connect(request, true);
  if (request.moved != 0) return answer(request, world_.fail_connect(ETIMEDOUT));
  if (world_.strikes(Knob::connect_fails)) {
    constexpr std::array errors{EINTR, EAGAIN, ENOMEM, ENETUNREACH, EADDRNOTAVAIL, ECANCELED};
    return answer(request, world_.fail_connect(errors[world_.random.below(errors.size())]));
  }
  if (world_.strikes(Knob::connect_refused)) {
    return answer(request, world_.fail_connect(ECONNREFUSED));
  }
  if (!world_.upstream) {
    sockaddr_in name{};
    const auto* const given = reinterpret_cast<const void*>(request.sqe.addr);
    std::memcpy(&name, given, std::min<std::size_t>(request.sqe.off, sizeof name));
    return answer(request,
                  world_.connect_here(*request.file, name.sin_family, ntohs(name.sin_port)));
  }
  request.file->connection = world_.upstream();
  answer(request, 0);
}

void SimRing::proceed_read(Request& request) {
  File& file = *request.file;
  if (file.connection && file.readable()) {
    const auto memory = reinterpret_cast<std::byte*>(request.sqe.addr);
    const ssize_t count = file.connection->receive(file.end, memory, request.sqe.len);
    return answer(request, static_cast<int>(count));
  }
  if (file.events == 0) return;
  if (world_.strikes(Knob::wake_up_fails)) {
    return answer(request, world_.random.chance(500) ? -EINTR : -EAGAIN);
  }
  if (request.sqe.len < sizeof file.events) return answer(request, -EINVAL);
  std::memcpy(reinterpret_cast<void*>(request.sqe.addr), &file.events, sizeof file.events);
  file.events = 0;
  answer(request, sizeof file.events);
}

void SimRing::proceed_poll(Request& request) {
  const unsigned told = request.file->poll() & events_of(request.sqe);
  if (told != 0) answer(request, static_cast<int>(told));
}

// --- Cancelling ---

void SimRing::proceed_cancel(Request& request) {
  for (const RequestPtr& each : requests_) {
    Request& target = *each;
    if (target.sqe.user_data != request.sqe.addr) continue;
    if (target.sqe.opcode == IORING_OP_ASYNC_CANCEL) continue;
    if (target.has_answer) {  // it has ended, and its completion is under way
      return answer(request, world_.random.chance(500) ? -EALREADY : -ENOENT);
    }
    const bool late = world_.strikes(Knob::cancel_already);
    if (target.sqe.opcode == IORING_OP_RECV && world_.strikes(Knob::cancel_loses)) {
      proceed_receive(target, false);
    }
    if (!target.has_answer) cancel_target(target, late);
    return answer(request, late ? -EALREADY : 0);
  }
  answer(request, -ENOENT);
}

void SimRing::cancel_target(Request& target, bool late) {
  int res = world_.strikes(Knob::cancel_interrupts) ? -EINTR : -ECANCELED;
  const bool is_send =
      target.sqe.opcode == IORING_OP_SEND || target.sqe.opcode == IORING_OP_SENDMSG;
  if (is_send && target.moved > 0) res = static_cast<int>(target.moved);
  answer(target, res);
  target.not_before = world_.time();
  if (late) target.not_before += nanoseconds(world_.random.scaled(1000, 1'000'000));
}

}  // namespace pelton::sim
