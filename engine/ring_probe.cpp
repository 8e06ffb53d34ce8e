// The trials, one per feature. See ring_probe.hpp.
//
// All of them go on in one thread: what is to be received was sent before the ring is entered, so
// that a completion which is not there after one enter is a completion that does not come.
#include <pelton/engine/ring_probe.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <utility>

#include <pelton/engine/ring_inline.hpp>
#include <pelton/engine/socket.hpp>
#include <pelton/engine/sqe.hpp>

namespace pelton {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr auto patience = milliseconds(20);  // with a completion
constexpr std::uint64_t receiving = 1;       // user_data of what is tried
constexpr std::uint64_t accepting = 2;
constexpr std::uint64_t other = 3;

struct Feature {
  bool RingInfo::*member;
  const char* name;
  const char* fault;
};
constexpr Feature taskrun_flag{&RingInfo::taskrun_flag, "taskrun_flag",
                               "a completion that is due is not told"};
constexpr Feature recv_multishot{&RingInfo::recv_multishot, "recv_multishot",
                                 "what is received is not what was sent"};
constexpr Feature recv_multishot_unix{&RingInfo::recv_multishot_unix, "recv_multishot_unix",
                                      "the end of a unix stream is not told"};
constexpr Feature recv_caps{
    &RingInfo::recv_caps, "recv_caps",
    "the kernel takes no byte caps on a multishot receive (Linux 6.17 does)"};
constexpr Feature accept_multishot{&RingInfo::accept_multishot, "accept_multishot",
                                   "a connection is lost where the completion queue is full"};
constexpr Feature bounded_batches{&RingInfo::bounded_batches, "bounded_batches",
                                  "a bounded wait for several completions is not bounded"};
constexpr std::array features{taskrun_flag, recv_multishot,   recv_multishot_unix,
                              recv_caps,    accept_multishot, bounded_batches};

/// One CQE, taken off the queue.
struct Completion {
  std::uint64_t user_data = 0;
  int res = 0;
  std::uint32_t flags = 0;

  [[nodiscard]] bool more() const noexcept { return (flags & IORING_CQE_F_MORE) != 0; }
  [[nodiscard]] bool has_buffer() const noexcept { return (flags & IORING_CQE_F_BUFFER) != 0; }
};

Completion take_one(Ring& ring) noexcept {
  const io_uring_cqe& cqe = ring.peek(0);
  const Completion taken{cqe.user_data, cqe.res, cqe.flags};
  ring.advance(1);
  return taken;
}

/// Submits, and waits for a completion. \return false if there is none in time.
bool wait_for_one(Ring& ring) noexcept {
  const auto deadline = steady_clock::now() + patience;
  while (ring.ready() == 0) {
    const auto left = deadline - steady_clock::now();
    if (left <= nanoseconds::zero()) return false;
    static_cast<void>(ring.enter(1, left));
  }
  return true;
}

/// Submits, and lets the ring do what is due.
void nudge(Ring& ring) noexcept { static_cast<void>(ring.enter(0, nanoseconds::zero())); }

/// Cancels `target`, and takes completions off until its last one. \return false if that does not
/// come.
bool reap(Ring& ring, std::uint64_t target) noexcept {
  io_uring_sqe* const sqe = ring.get_sqe();
  if (sqe) {
    sqe::cancel(*sqe, target);
    sqe->user_data = other;
  }
  while (wait_for_one(ring)) {
    const Completion each = take_one(ring);
    if (each.user_data == target && !each.more()) return true;
  }
  return false;
}

template <class T>
T checked(Result<T> made, const char* what) {
  if (!made) throw OSError(made.error(), what);
  return std::move(*made);
}

std::pair<OwnedFd, OwnedFd> make_pair_of_sockets() {
  return checked(socket_pair(), "socket pair to probe a ring with");
}

/// Four small buffers, all of them the ring's at first.
class ProbeBuffers {
 public:
  static constexpr std::uint16_t group = 0xFFFF;
  static constexpr unsigned count = 4;
  static constexpr unsigned buffer_bytes = 64;

  explicit ProbeBuffers(Ring& ring) : ring_(ring) {
    void* const memory = std::aligned_alloc(page_bytes, page_bytes);  // as a table has to lie
    if (!memory) throw std::bad_alloc();
    memory_.reset(static_cast<std::byte*>(memory));
    std::memset(memory, 0, page_bytes);
    if (auto registered = ring_.register_buffer_ring(group, memory, count); !registered) {
      throw OSError(registered.error(), "buffers to probe a ring with");
    }
    offer();
  }
  ProbeBuffers(const ProbeBuffers&) = delete;
  ProbeBuffers& operator=(const ProbeBuffers&) = delete;
  ~ProbeBuffers() { ring_.unregister_buffer_ring(group); }

  /// Gives the ring the buffers that it does not have.
  void offer() noexcept {
    auto* const table = reinterpret_cast<io_uring_buf_ring*>(memory_.get());
    for (unsigned id = 0; id < count; ++id) {
      if (std::exchange(offered_[id], true)) continue;
      io_uring_buf& entry = uapi::buffer_entries(table)[tail_ % count];
      entry.addr = reinterpret_cast<std::uintptr_t>(buffers_[id].data());
      entry.len = buffer_bytes;
      entry.bid = static_cast<std::uint16_t>(id);
      ++tail_;
    }
    std::atomic_ref(table->tail).store(tail_, std::memory_order_release);
  }

  /// Moves what a completion brought to the end of `into`. \return false if it cannot have been
  /// brought.
  bool take(const Completion& completion, std::string& into) noexcept {
    const unsigned id = completion.flags >> IORING_CQE_BUFFER_SHIFT;
    const auto size = static_cast<unsigned>(completion.res);
    if (id >= count || !std::exchange(offered_[id], false)) return false;
    if (completion.res <= 0 || size > buffer_bytes) return false;
    into.append(buffers_[id].data(), size);
    buffers_[id].fill('\0');
    return true;
  }
  [[nodiscard]] bool exhausted() const noexcept {
    return std::none_of(offered_.begin(), offered_.end(), [](bool has) { return has; });
  }

 private:
  static constexpr std::size_t page_bytes = 4096;
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };

  Ring& ring_;
  std::unique_ptr<std::byte, Free> memory_;
  std::array<std::array<char, buffer_bytes>, count> buffers_{};
  std::array<bool, count> offered_{};
  std::uint16_t tail_ = 0;
};

/// A connection, received from until the end, and armed again whenever a receive is over.
class Reception {
 public:
  enum class Arm : std::uint8_t { once, multishot };

  Reception(Ring& ring, ProbeBuffers& buffers, Arm arm)
      : ring_(ring), buffers_(buffers), arm_(arm), ends_(make_pair_of_sockets()) {}
  Reception(const Reception&) = delete;
  Reception& operator=(const Reception&) = delete;
  ~Reception() {
    if (!armed_) return;
    static_cast<void>(shutdown_socket(ends_.first.get(), SHUT_RDWR));
    reap(ring_, receiving);
    buffers_.offer();
  }

  /// \param pass_bytes, total_bytes  as of sqe::recv_multishot.
  void arm(unsigned pass_bytes = 0, unsigned total_bytes = 0) noexcept {
    io_uring_sqe& sqe = *ring_.get_sqe();  // one at a time: there is room
    if (arm_ == Arm::once) {
      sqe::recv_once(sqe, ends_.first.get(), ProbeBuffers::group);
    } else {
      sqe::recv_multishot(sqe, ends_.first.get(), ProbeBuffers::group, pass_bytes, total_bytes);
    }
    sqe.user_data = receiving;
    armed_ = true;
    nudge(ring_);
  }

  /// Sends so many bytes, no two neighbours alike.
  void send(std::size_t size) {
    std::string data(size, '\0');
    for (char& each : data) each = next_++;
    const ssize_t count = ::send(ends_.second.get(), data.data(), size, MSG_NOSIGNAL);
    if (count != static_cast<ssize_t>(size)) throw OSError(errno_code(errno), "send of a probe");
    sent_ += data;
  }
  void send_end() noexcept { static_cast<void>(shutdown_socket(ends_.second.get(), SHUT_WR)); }

  /// \return true if all that was sent arrives, and nothing else.
  [[nodiscard]] bool receives_all() noexcept {
    while (received_.size() < sent_.size()) {
      if (ended_ || !step()) return false;
    }
    return received_ == sent_;
  }
  [[nodiscard]] bool receives_end() noexcept {
    while (!ended_) {
      if (!step()) return false;
    }
    return received_ == sent_ && !armed_;
  }

  /// Takes one completion of this receive off, whose bytes are counted as received.
  [[nodiscard]] bool take(Completion& completion) noexcept {
    if (!wait_for_one(ring_)) return false;
    completion = take_one(ring_);
    if (completion.user_data != receiving) return false;
    armed_ = completion.more();
    return !completion.has_buffer() || buffers_.take(completion, received_);
  }

 private:
  bool step() noexcept {
    if (!armed_) arm();
    Completion completion;
    if (!take(completion)) return false;
    if (completion.has_buffer()) return true;
    if (completion.res == 0) return ended_ = true;
    if (completion.res != -ENOBUFS || armed_ || !buffers_.exhausted()) return false;
    buffers_.offer();
    return true;
  }

  Ring& ring_;
  ProbeBuffers& buffers_;
  Arm arm_;
  std::pair<OwnedFd, OwnedFd> ends_;  ///< ours, the peer's
  std::string sent_;
  std::string received_;
  char next_ = 1;
  bool armed_ = false;
  bool ended_ = false;
};

// --- Trials: true if the ring does as it should ---

/// Part of a buffer, exactly one, more than all of them.
bool receives_to_the_byte(Ring& ring, ProbeBuffers& buffers, Reception::Arm arm) {
  Reception reception(ring, buffers, arm);
  reception.arm();
  for (const std::size_t size : {36U, 64U, 100U, 300U}) {
    reception.send(size);
    if (!reception.receives_all()) return false;
  }
  buffers.offer();
  return true;
}

/// Data and the end behind it arrive before the ring has looked: both are told.
bool tells_the_end(Ring& ring, ProbeBuffers& buffers, Reception::Arm arm) {
  Reception reception(ring, buffers, arm);
  reception.arm();
  reception.send(10);
  reception.send_end();
  const bool told = reception.receives_end();
  buffers.offer();
  return told;
}

/// Three caps' worth of data meets a receive capped to one per pass and two in all: it ends after
/// two, and another brings the third. Older kernels answer -EINVAL.
bool honours_caps(Ring& ring, ProbeBuffers& buffers) {
  constexpr unsigned cap = 16;
  Reception reception(ring, buffers, Reception::Arm::multishot);
  reception.send(std::size_t{3 * cap});
  reception.arm(cap, 2 * cap);
  for (const bool more : {true, false}) {
    Completion completion;
    if (!reception.take(completion)) return false;
    if (completion.res != int{cap} || completion.more() != more) return false;
  }
  reception.arm();
  const bool all = reception.receives_all();
  buffers.offer();
  return all;
}

/// A completion that is due shows before the ring is entered for it.
bool tells_what_is_due(Ring& ring, ProbeBuffers& buffers) {
  Reception reception(ring, buffers, Reception::Arm::once);
  reception.arm();
  reception.send(10);
  const bool told = ring.has_work();
  const bool received = reception.receives_all();
  buffers.offer();
  return told && received;
}

/// Puts completions into the queue until it is full.
void fill_completions(Ring& ring) {
  const auto ends = make_pair_of_sockets();
  for (unsigned count = ring.ready(); count < ring.info().cq_entries; ++count) {
    io_uring_sqe* sqe = ring.get_sqe();
    if (!sqe) {
      nudge(ring);
      sqe = ring.get_sqe();
    }
    sqe::poll(*sqe, ends.first.get(), POLLOUT);
    sqe->user_data = other;
  }
  nudge(ring);
}

/// \return true if `fd` is the other end of `client`. Looks and takes nothing: it may be anything.
bool is_other_end(int fd, int client) noexcept {
  const char sent = 'x';
  char seen = 0;
  return ::send(client, &sent, 1, MSG_NOSIGNAL) == 1 &&
         ::recv(fd, &seen, 1, MSG_PEEK | MSG_DONTWAIT) == 1 && seen == sent;
}

/// A unix listener at a name that the kernel finds, and who has just connected to it.
class Knock {
 public:
  Knock() {
    const sockaddr unnamed{.sa_family = AF_UNIX, .sa_data = {}};
    const auto any_name = SocketAddress::from_sockaddr(&unnamed, sizeof unnamed.sa_family);
    if (!bind_socket(listener.get(), *any_name) || !listen_socket(listener.get(), 1)) {
      throw OSError(errno_code(errno), "listener to probe a ring with");
    }
  }
  void connect() const {
    const SocketAddress name = checked(local_address(listener.get()), "name of a listener");
    if (::connect(client.get(), name.data(), name.size()) != 0) {
      throw OSError(errno_code(errno), "connection to probe a ring with");
    }
  }

  OwnedFd listener = checked(open_socket(AF_UNIX, SOCK_STREAM), "socket to probe a ring with");
  OwnedFd client = checked(open_socket(AF_UNIX, SOCK_STREAM), "socket to probe a ring with");
};

/// A connection that comes while the completion queue is full is told once there is room.
bool keeps_connection_when_full(Ring& ring) {
  const Knock knock;
  io_uring_sqe& sqe = *ring.get_sqe();
  sqe::accept_multishot(sqe, knock.listener.get());
  sqe.user_data = accepting;
  nudge(ring);
  fill_completions(ring);
  knock.connect();
  nudge(ring);
  Completion completion{.user_data = other};
  while (completion.user_data != accepting) {
    if (!wait_for_one(ring)) return false;
    completion = take_one(ring);
  }
  const bool ended = !completion.more() || reap(ring, accepting);
  if (completion.res < 0 || !is_other_end(completion.res, knock.client.get())) return false;
  const OwnedFd connection(completion.res);
  return ended;
}

/// One of two completions is there, or comes late: the wait ends at the bound, or with the one.
bool bounds_wait(Ring& ring, microseconds late) {
  constexpr auto bound = microseconds(100);
  const OwnedFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  itimerspec setting{};
  setting.it_value.tv_nsec = nanoseconds(late).count();
  if (!timer || timerfd_settime(timer.get(), 0, &setting, nullptr) != 0) {
    throw OSError(errno_code(errno), "timer to probe a ring with");
  }
  sqe::poll(*ring.get_sqe(), timer.get(), POLLIN);
  const auto begin = steady_clock::now();
  static_cast<void>(ring.enter(2, patience, bound));
  const bool in_time = steady_clock::now() - begin < patience / 2;
  const bool told = wait_for_one(ring);
  if (told) ring.advance(ring.ready());
  return in_time && told;
}

/// Thrice at most: what is slow once may be the machine.
bool bounds_batches(Ring& ring) {
  const auto works = [&ring] {
    return bounds_wait(ring, microseconds(1)) && bounds_wait(ring, microseconds(300));
  };
  return works() || works() || works();
}

std::string text_of(const Feature& feature, const std::string& reason) {
  return std::string(feature.name) + ": " + reason;
}

}  // namespace

ProbeVerdict probe_features(Ring& ring) {
  ProbeVerdict verdict;
  const auto refuse = [&verdict](const Feature& feature) {
    verdict.refusals.push_back({feature.member, text_of(feature, feature.fault)});
  };
  const auto claims = [&ring](const Feature& feature) { return ring.info().*feature.member; };
  using enum Reception::Arm;
  {
    ProbeBuffers buffers(ring);
    if (!receives_to_the_byte(ring, buffers, once) || !tells_the_end(ring, buffers, once)) {
      verdict.unusable = "receives into provided buffers do not bring what was sent";
      return verdict;
    }
    if (claims(taskrun_flag) && !tells_what_is_due(ring, buffers)) refuse(taskrun_flag);
    const bool exact = receives_to_the_byte(ring, buffers, multishot);
    if (claims(recv_multishot) && !exact) refuse(recv_multishot);
    if (claims(recv_multishot_unix) && !(exact && tells_the_end(ring, buffers, multishot))) {
      refuse(recv_multishot_unix);
    }
    if (claims(recv_caps) && !(exact && honours_caps(ring, buffers))) refuse(recv_caps);
  }
  if (claims(accept_multishot) && !keeps_connection_when_full(ring)) refuse(accept_multishot);
  if (claims(bounded_batches) && !bounds_batches(ring)) refuse(bounded_batches);
  return verdict;
}

ProbeVerdict not_probed(const std::string& reason) {
  ProbeVerdict verdict;
  for (const Feature& feature : features) {
    verdict.refusals.push_back({feature.member, text_of(feature, "not probed, " + reason)});
  }
  return verdict;
}

}  // namespace pelton
