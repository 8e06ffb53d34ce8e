// A lane's work. See churn.hpp.
#include "perf/bench/churn.hpp"

#include <pelton/engine/sqe.hpp>

namespace pelton::bench {
namespace {

constexpr std::size_t read_bytes_max = 64 * 1024;
constexpr std::uint32_t first_source = 0x7f000101;  // 127.0.1.1
constexpr std::uint32_t source_count = 64;

}  // namespace

class Churn::Lane final : public LoopResource {
 public:
  Lane(Churn& churn, Loop& loop, unsigned number)
      : churn_(churn),
        loop_(loop),
        patterns_(churn.context_.patterns),
        start_(patterns_.request.start_of(number)),
        number_(number),
        // One byte more than is due, so that a server that answers too much is found out.
        memory_(std::min(patterns_.reply_bytes + 1, read_bytes_max)) {
    loop_.add_resource(*this);
  }

  void begin();
  void abort() noexcept {
    aborted_ = true;
    for (Op* op : {&connect_, &send_, &read_}) {
      if (op->in_flight()) loop_.cancel(*op);
    }
  }
  void on_loop_close() noexcept override { abort(); }

 private:
  static void prepare_connect(Op& op, io_uring_sqe& sqe) noexcept;
  static void complete_connect(Op& op, int res, std::uint32_t flags) noexcept;
  static void prepare_send(Op& op, io_uring_sqe& sqe) noexcept;
  static void complete_send(Op& op, int res, std::uint32_t flags) noexcept;
  static void prepare_read(Op& op, io_uring_sqe& sqe) noexcept;
  static void complete_read(Op& op, int res, std::uint32_t flags) noexcept;
  static const OpKind connect_kind;
  static const OpKind send_kind;
  static const OpKind read_kind;

  [[nodiscard]] bool good(int res, const char* doing);
  void received(std::size_t size);
  void proceed();
  void end() noexcept;
  void fail(const std::string& what);

  Churn& churn_;
  Loop& loop_;
  const Patterns& patterns_;
  const std::size_t start_;  ///< in the pattern, of every message of this lane
  const unsigned number_;
  std::vector<char> memory_;
  OwnedFd socket_;
  Op connect_{connect_kind, this};
  Op send_{send_kind, this};
  Op read_{read_kind, this};
  TimePoint begun_;
  std::size_t sent_ = 0;  ///< bytes of the message
  std::size_t received_ = 0;
  bool aborted_ = false;
};

const OpKind Churn::Lane::connect_kind{"connect", prepare_connect, complete_connect};
const OpKind Churn::Lane::send_kind{"send", prepare_send, complete_send};
const OpKind Churn::Lane::read_kind{"read", prepare_read, complete_read};

/// The next connection. Counted as active until end().
void Churn::Lane::begin() {
  sent_ = received_ = 0;
  begun_ = Clock::now();
  auto socket = open_socket(churn_.dialer_.address().family(), SOCK_STREAM);
  if (!socket) {
    fail(churn_.dialer_.explain(socket.error()));
    return end();
  }
  socket_ = std::move(*socket);
  churn_.choose_source(socket_.get());
  loop_.start(connect_);
}

void Churn::Lane::prepare_connect(Op& op, io_uring_sqe& sqe) noexcept {
  const Lane& self = op.owner<Lane>();
  const SocketAddress& address = self.churn_.dialer_.address();
  sqe::connect(sqe, self.socket_.get(), address.data(), address.size());
}

void Churn::Lane::complete_connect(Op& op, int res, std::uint32_t) noexcept {
  Lane& self = op.owner<Lane>();
  if (res < 0 && !self.aborted_) self.fail(self.churn_.dialer_.explain(errno_code(-res)));
  if (self.aborted_) return self.end();
  ++self.churn_.context_.signs_of_life;
  self.loop_.start(self.send_);
  self.loop_.start(self.read_);
}

void Churn::Lane::prepare_send(Op& op, io_uring_sqe& sqe) noexcept {
  const Lane& self = op.owner<Lane>();
  const Pattern& request = self.patterns_.request;
  const std::size_t left = self.patterns_.request_bytes - self.sent_;
  const std::string_view piece = request.at(request.after(self.start_, self.sent_), left);
  sqe::send(sqe, self.socket_.get(), piece.data(), static_cast<std::uint32_t>(piece.size()));
}

void Churn::Lane::complete_send(Op& op, int res, std::uint32_t) noexcept {
  Lane& self = op.owner<Lane>();
  if (self.good(res, "sending")) {
    self.sent_ += static_cast<std::size_t>(res);
    if (self.sent_ < self.patterns_.request_bytes) return self.loop_.start(self.send_);
  }
  self.proceed();
}

void Churn::Lane::prepare_read(Op& op, io_uring_sqe& sqe) noexcept {
  Lane& self = op.owner<Lane>();
  const std::size_t room =
      std::min(self.memory_.size(), self.patterns_.reply_bytes + 1 - self.received_);
  sqe::read(sqe, self.socket_.get(), self.memory_.data(), static_cast<std::uint32_t>(room));
}

void Churn::Lane::complete_read(Op& op, int res, std::uint32_t) noexcept {
  Lane& self = op.owner<Lane>();
  if (self.good(res, "receiving")) {
    if (res == 0) {
      self.fail("the server closed it after " + std::to_string(self.received_) + " bytes");
    } else {
      self.received(static_cast<std::size_t>(res));
    }
  }
  self.proceed();
}

/// Verifies what came; asks for more where the message is not complete.
void Churn::Lane::received(std::size_t size) {
  const Pattern& reply = patterns_.reply;
  const std::string_view data(memory_.data(), size);
  if (received_ + size > patterns_.reply_bytes) return fail("the server sent more than was due");
  const std::size_t position = reply.after(start_, received_);
  if (!reply.matches(position, data)) {
    const auto difference = reply.difference(position, data);
    const std::size_t offset = received_ + difference->offset;
    return fail("wrong bytes at offset " + std::to_string(offset) + ": expected " +
                hex(difference->expected) + ", got " + hex(difference->got));
  }
  received_ += size;
  if (received_ < patterns_.reply_bytes) return loop_.start(read_);
  const TimePoint now = Clock::now();
  ++churn_.context_.signs_of_life;
  churn_.context_.record(now, now - begun_);
  churn_.context_.count(now, 1, received_);
  if (churn_.context_.window.contains(now)) {
    churn_.context_.tally.bytes_sent += patterns_.request_bytes;
  }
}

/// True if an operation did something; else the lane has failed or ends.
bool Churn::Lane::good(int res, const char* doing) {
  if (aborted_) return false;
  if (res < 0) fail(std::string(doing) + ": " + errno_code(-res).message());
  return res >= 0;
}

/// Once both operations have ended: the next connection, or the end.
void Churn::Lane::proceed() {
  if (send_.in_flight() || read_.in_flight()) return;
  socket_.reset();
  if (aborted_ || churn_.context_.ending) return end();
  begin();
}

void Churn::Lane::end() noexcept {
  socket_.reset();
  --churn_.active_;
}

/// The run cannot go on. The lane ends once nothing is in flight.
void Churn::Lane::fail(const std::string& what) {
  churn_.context_.ending = true;
  churn_.context_.fail("connection " + std::to_string(number_) + ": " + what);
  abort();
}

Churn::Churn(ThreadContext& context, const Dialer& dialer) noexcept
    : context_(context), dialer_(dialer) {}

Churn::~Churn() = default;

void Churn::start(Loop& loop, unsigned lanes) {
  for (unsigned index = 0; index < lanes; ++index) {
    const unsigned number = context_.first_number + index * context_.number_stride;
    lanes_.push_back(std::make_unique<Lane>(*this, loop, number));
    ++active_;
    lanes_.back()->begin();
  }
}

/// Spreads loopback connections over local addresses: one alone has 28,000 ports, most of which
/// would be in TIME_WAIT soon, and looking for a free one takes the kernel longer and longer.
void Churn::choose_source(int fd) noexcept {
  const SocketAddress& server = dialer_.address();
  if (server.family() != AF_INET || !server.host().starts_with("127.")) return;
  const int on = 1;
  static_cast<void>(setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on));
  in_addr host{};
  host.s_addr = htonl(first_source + source_++ % source_count);
  static_cast<void>(bind_socket(fd, SocketAddress::ipv4(host, 0)));
}

void Churn::abort() noexcept {
  for (const auto& lane : lanes_) lane->abort();
}

}  // namespace pelton::bench
