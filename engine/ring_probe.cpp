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

constexpr auto patience = milliseconds(20);  // with each completion

struct Feature {
  bool RingInfo::*member;
  const char* name;
  const char* fault;
};
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
constexpr std::array features{recv_multishot, recv_multishot_unix, recv_caps, accept_multishot,
                              bounded_batches};

/// One CQE, taken off the queue.
struct Completion {
  std::uint64_t user_data = 0;
  int res = 0;
  std::uint32_t flags = 0;

  [[nodiscard]] bool more() const noexcept { return (flags & IORING_CQE_F_MORE) != 0; }
  [[nodiscard]] bool has_buffer() const noexcept { return (flags & IORING_CQE_F_BUFFER) != 0; }
};

/// The ring that is tried. Each operation has a user_data of its own, so that none is taken for
/// another that ended late.
class Prober {
 public:
  explicit Prober(Ring& ring) noexcept : ring_(ring) {}

  [[nodiscard]] Ring& ring() const noexcept { return ring_; }
  /// A slot, with a user_data that was never given before.
  io_uring_sqe& next_sqe() {
    io_uring_sqe* sqe = ring_.get_sqe();
    if (!sqe) {
      nudge();
      sqe = ring_.get_sqe();
    }
    if (!sqe) throw OSError(errno_code(EAGAIN), "submission to a ring that is probed");
    sqe->user_data = ++last_;
    return *sqe;
  }
  [[nodiscard]] std::uint64_t last() const noexcept { return last_; }
  /// Submits, and lets the ring do what is due.
  void nudge() const noexcept { static_cast<void>(ring_.enter(0, nanoseconds::zero())); }
  /// Submits, and waits for a completion. \return false if there is none in time.
  [[nodiscard]] bool wait() const noexcept {
    const auto deadline = steady_clock::now() + patience;
    for (nanoseconds left = patience;; left = deadline - steady_clock::now()) {
      if (ring_.ready() > 0) return true;
      const bool last_look = left <= nanoseconds::zero();
      static_cast<void>(ring_.enter(1, std::max(left, nanoseconds::zero())));
      if (last_look) return ring_.ready() > 0;
    }
  }
  [[nodiscard]] Completion take() const noexcept {
    const io_uring_cqe& cqe = ring_.peek(0);
    const Completion taken{cqe.user_data, cqe.res, cqe.flags};
    ring_.advance(1);
    return taken;
  }
  /// Waits for the next completion of `target`, and drops those of others.
  [[nodiscard]] bool take_of(std::uint64_t target, Completion& completion) const noexcept {
    for (int others = 0; others < others_most && wait(); ++others) {
      completion = take();
      if (completion.user_data == target) return true;
    }
    return false;
  }
  /// Cancels `target` and waits for its last completion. \return false if that does not come.
  bool reap(std::uint64_t target) {
    sqe::cancel(next_sqe(), target);
    Completion completion;
    do {
      if (!take_of(target, completion)) return false;
    } while (completion.more());
    return true;
  }

 private:
  static constexpr int others_most = 64;  // more than there are operations

  Ring& ring_;
  std::uint64_t last_ = 0;
};

template <class T>
T checked(Result<T> made, const char* what) {
  if (!made) throw OSError(made.error(), what);
  if constexpr (!std::is_void_v<T>) return std::move(*made);
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

  Reception(Prober& prober, ProbeBuffers& buffers, Arm arm)
      : prober_(prober), buffers_(buffers), arm_(arm), ends_(make_pair_of_sockets()) {}
  Reception(const Reception&) = delete;
  Reception& operator=(const Reception&) = delete;
  ~Reception() {
    static_cast<void>(shutdown_socket(ends_.first.get(), SHUT_RDWR));
    for (int round = 0; armed_ && round < 8; ++round) {
      Completion completion;
      if (!take(completion)) break;
    }
    buffers_.offer();
  }

  /// \param pass_bytes, total_bytes  as of sqe::recv_multishot.
  void arm(unsigned pass_bytes = 0, unsigned total_bytes = 0) {
    io_uring_sqe& sqe = prober_.next_sqe();
    if (arm_ == Arm::once) {
      sqe::recv_once(sqe, ends_.first.get(), ProbeBuffers::group);
    } else {
      sqe::recv_multishot(sqe, ends_.first.get(), ProbeBuffers::group, pass_bytes, total_bytes);
    }
    operation_ = prober_.last();
    armed_ = true;
    prober_.nudge();
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
  [[nodiscard]] bool receives_all() {
    while (received_.size() < sent_.size()) {
      if (ended_ || !step()) return false;
    }
    return received_ == sent_;
  }
  [[nodiscard]] bool receives_end() {
    while (!ended_) {
      if (!step()) return false;
    }
    return received_ == sent_ && !armed_;
  }

  /// Takes one completion of this receive off, whose bytes are counted as received.
  [[nodiscard]] bool take(Completion& completion) noexcept {
    if (!prober_.take_of(operation_, completion)) return false;
    armed_ = completion.more();
    return !completion.has_buffer() || buffers_.take(completion, received_);
  }

 private:
  bool step() {
    if (!armed_) arm();
    Completion completion;
    if (!take(completion)) return false;
    if (completion.has_buffer()) return true;
    if (completion.res == 0) return ended_ = true;
    if (completion.res != -ENOBUFS || armed_ || !buffers_.exhausted()) return false;
    buffers_.offer();
    return true;
  }

  Prober& prober_;
  ProbeBuffers& buffers_;
  Arm arm_;
  std::uint64_t operation_ = 0;       ///< the user_data of the receive
  std::pair<OwnedFd, OwnedFd> ends_;  ///< ours, the peer's
  std::string sent_;
  std::string received_;
  char next_ = 1;
  bool armed_ = false;
  bool ended_ = false;
};

// --- Trials: true if the ring does as it should ---

/// Part of a buffer, exactly one, more than all of them.
bool receives_to_the_byte(Prober& prober, ProbeBuffers& buffers, Reception::Arm arm) {
  Reception reception(prober, buffers, arm);
  reception.arm();
  for (const std::size_t size : {36U, 64U, 100U, 300U}) {
    reception.send(size);
    if (!reception.receives_all()) return false;
  }
  buffers.offer();
  return true;
}

/// Data and the end behind it arrive before the ring has looked: both are told.
bool tells_the_end(Prober& prober, ProbeBuffers& buffers, Reception::Arm arm) {
  Reception reception(prober, buffers, arm);
  reception.arm();
  reception.send(10);
  reception.send_end();
  const bool told = reception.receives_end();
  buffers.offer();
  return told;
}

/// Three caps' worth of data meets a receive capped to one per pass and two in all: it ends after
/// two, and another brings the third. Older kernels answer -EINVAL.
bool honours_caps(Prober& prober, ProbeBuffers& buffers) {
  constexpr unsigned cap = 16;
  Reception reception(prober, buffers, Reception::Arm::multishot);
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

/// Puts more completions into the queue than it holds: it must know that it is full.
void overfill_completions(Prober& prober) {
  const auto ends = make_pair_of_sockets();
  for (unsigned count = 0; count < prober.ring().info().cq_entries + 2; ++count) {
    sqe::poll(prober.next_sqe(), ends.first.get(), POLLOUT);
  }
  prober.nudge();
}

/// \return true if `fd` is the other end of `client`. Looks and takes nothing: it may be anything.
bool is_other_end(int fd, int client) noexcept {
  const char sent = 'x';
  char seen = 0;
  return ::send(client, &sent, 1, MSG_NOSIGNAL) == 1 &&
         ::recv(fd, &seen, 1, MSG_PEEK | MSG_DONTWAIT) == 1 && seen == sent;
}

/// A unix listener at a name that the kernel finds, and a client of it.
class Knock {
 public:
  Knock() {
    const sockaddr unnamed{.sa_family = AF_UNIX, .sa_data = {}};
    const auto any_name = SocketAddress::from_sockaddr(&unnamed, sizeof unnamed.sa_family);
    checked(bind_socket(listener.get(), *any_name), "listener to probe a ring with");
    checked(listen_socket(listener.get(), 1), "listener to probe a ring with");
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

/// A connection that comes while the completion queue is full is told once there is room. Where it
/// is not, its descriptor is lost: nobody knows the number.
bool keeps_connection_when_full(Prober& prober) {
  const Knock knock;
  sqe::accept_multishot(prober.next_sqe(), knock.listener.get());
  const std::uint64_t accept = prober.last();
  prober.nudge();
  overfill_completions(prober);
  knock.connect();
  prober.nudge();
  Completion completion;
  if (!prober.take_of(accept, completion)) return false;
  const bool ended = !completion.more() || prober.reap(accept);
  if (completion.res < 0 || !is_other_end(completion.res, knock.client.get())) return false;
  const OwnedFd connection(completion.res);
  return ended;
}

/// One of two completions is there, or comes late: the wait ends at the bound, or with the one. A
/// wait that is not bounded ends with its time limit, never before.
bool bounds_wait(Prober& prober, microseconds late) {
  constexpr auto bound = microseconds(100);
  constexpr auto limit = milliseconds(100);
  const OwnedFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  itimerspec setting{};
  setting.it_value.tv_nsec = nanoseconds(late).count();
  if (!timer || timerfd_settime(timer.get(), 0, &setting, nullptr) != 0) {
    throw OSError(errno_code(errno), "timer to probe a ring with");
  }
  sqe::poll(prober.next_sqe(), timer.get(), POLLIN);
  const std::uint64_t poll = prober.last();
  const auto begin = steady_clock::now();
  static_cast<void>(prober.ring().enter(2, limit, bound));
  const bool in_time = steady_clock::now() - begin < limit;
  Completion completion;
  return prober.take_of(poll, completion) && in_time;
}

/// Thrice at most: what is slow once may be the machine.
bool bounds_batches(Prober& prober) {
  const auto works = [&prober] {
    return bounds_wait(prober, microseconds(1)) && bounds_wait(prober, microseconds(300));
  };
  return works() || works() || works();
}

std::string text_of(const Feature& feature, const std::string& reason) {
  return std::string(feature.name) + ": " + reason;
}

/// The trials of one ring, in their order, and what they find.
class Examination {
 public:
  explicit Examination(Ring& ring) noexcept : prober_(ring) {}

  [[nodiscard]] ProbeVerdict run() && {
    examine_receives();
    if (verdict_.unusable.empty()) {
      examine(accept_multishot, [this] { return keeps_connection_when_full(prober_); });
      examine(bounded_batches, [this] { return bounds_batches(prober_); });
    }
    return std::move(verdict_);
  }

 private:
  void examine_receives() {
    using enum Reception::Arm;
    ProbeBuffers buffers(prober_.ring());
    if (!receives_to_the_byte(prober_, buffers, once) || !tells_the_end(prober_, buffers, once)) {
      verdict_.unusable = "receives into provided buffers do not bring what was sent";
      return;
    }
    bool exact =
        false;  // judged on a unix pair: TCP takes the same way, and there may be no network
    examine(recv_multishot,
            [&] { return exact = receives_to_the_byte(prober_, buffers, multishot); });
    examine(recv_multishot_unix,
            [&] { return exact && tells_the_end(prober_, buffers, multishot); });
    examine(recv_caps, [&] { return exact && honours_caps(prober_, buffers); });
  }

  /// Refuses the feature if it is claimed and `works` says no, or cannot say.
  template <class Works>
  void examine(const Feature& feature, Works works) {
    if (!(prober_.ring().info().*feature.member)) return;
    std::string refusal;
    try {
      if (works()) return;
      refusal = text_of(feature, feature.fault);
    } catch (const OSError& trouble) {
      refusal = text_of(feature, std::string("not probed, ") + trouble.what());
    }
    verdict_.refusals.push_back({feature.member, std::move(refusal)});
  }

  Prober prober_;
  ProbeVerdict verdict_;
};

}  // namespace

ProbeVerdict probe_features(Ring& ring) { return Examination(ring).run(); }

ProbeVerdict not_probed(const std::string& reason) {
  ProbeVerdict verdict;
  for (const Feature& feature : features) {
    verdict.refusals.push_back({feature.member, text_of(feature, "not probed, " + reason)});
  }
  return verdict;
}

}  // namespace pelton
