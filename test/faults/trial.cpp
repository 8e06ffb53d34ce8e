// Making a trial's loop, checking its end, and the sockets outside. See trial.hpp.
#include <faults/trial.hpp>

#include <sys/socket.h>

#include <string>

#include <pelton/engine/epoll_ring.hpp>
#include <pelton/engine/uring_ring.hpp>

namespace pelton::faults {
namespace {

std::unique_ptr<Ring> real_ring(Engine engine) {
  const RingOptions size{.sq_entries = 32, .cq_entries = 256};
  return engine.kind == Engine::Kind::epoll ? make_epoll_ring(size) : make_uring_ring(size);
}

LoopOptions loop_options() {
  LoopOptions options;
  options.buffer_count = 32;
  options.buffer_bytes = 1024;
  options.busy_poll = {BusyPoll::Mode::off, {}};
  options.batch_wait = BatchWait::off;
  return options;
}

template <class T>
T must(Result<T> result, std::string_view what) {
  if (!result) throw_os_error(result.error(), std::string(what));
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace

std::string Case::to_string() const {
  constexpr const char* moments[] = {"first", "mid", "closing"};
  return std::string("--engine ") + engine.to_string() + " --op " + row->name + " --errno " +
         std::to_string(error) + " --when " + moments[static_cast<std::size_t>(when)] +
         (more ? " --more 1" : " --more 0");
}

void check(bool holds, std::string_view what) {
  if (!holds) throw RuntimeError(std::string(what));
}

Trial::Trial(const Case& what_of_this) : what(what_of_this) {
  auto made = std::make_unique<FaultyRing>(real_ring(what.engine));
  ring = made.get();
  loop = std::make_unique<Loop>(loop_options(), std::move(made));
  loop->set_exception_handler([](Loop&, const ExceptionContext&) {});
}

Strike Trial::strike(unsigned skip) const {
  return {.opcode = what.row->opcode, .error = what.error, .more = what.more, .skip = skip};
}

void Trial::strike_now() {
  check(ring->strike_now(strike(0)), "no operation of this kind is under way");
}

bool Trial::multishot() const noexcept {
  return what.row->opcode == IORING_OP_ACCEPT || what.row->opcode == IORING_OP_RECV;
}

Outcome Trial::expected() const {
  // On top of an operation that has one completion, it is impossible, and passed over.
  if (what.more && !multishot()) return Outcome::unharmed;
  return what.row->expected(what.error, what.when);
}

void Trial::run() {
  const bool of_loop = what.row->of_loop;
  if (of_loop && what.when == When::first) strike_next(what.row->skip);
  loop->run_until_complete(what.row->run(*this));
  check(loop->buffers().lent() == 0, "receive buffers are not home");
  if (of_loop && what.when == When::closing) {
    if (what.row->opcode == IORING_OP_ASYNC_CANCEL) {
      strike_next();
    } else {
      strike_now();
    }
  }
  loop->close();
  check_end();
}

void Trial::check_end() {
  const LoopStats& stats = loop->stats();
  check(loop->operations_in_flight() == 0, "operations are in flight after the loop's end");
  check(stats.connections_opened == stats.connections_closed, "a transport has not ended");
  check(stats.impossible == (what.more && !multishot() ? 1 : 0),
        "impossible completions: " + std::to_string(stats.impossible));
}

// --- The world outside ---

Client::Client(const SocketAddress& address)
    : socket_(must(open_socket(address.family(), SOCK_STREAM), "socket")) {
  must(set_linger(socket_.get(), std::chrono::seconds(0)), "linger");
  const int result = ::connect(socket_.get(), address.data(), address.size());
  if (result < 0 && errno != EINPROGRESS) ended_ = true;
}

Client::Client(OwnedFd socket) : socket_(std::move(socket)) {
  must(set_linger(socket_.get(), std::chrono::seconds(0)), "linger");
}

void Client::send(std::string_view text) const {
  const ssize_t sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
  check(
      ended_ || sent == static_cast<ssize_t>(text.size()) || errno == ECONNRESET || errno == EPIPE,
      "a client cannot send");
}

Task<std::string> Client::receive(std::size_t count) {
  const TimePoint deadline = Clock::now() + std::chrono::seconds(5);
  std::string text;
  std::vector<char> part(64 * 1024);
  while (text.size() < count && !ended_) {
    const ssize_t got =
        ::recv(socket_.get(), part.data(), std::min(part.size(), count - text.size()), 0);
    if (got > 0) {
      text.append(part.data(), static_cast<std::size_t>(got));
      continue;
    }
    if (got == 0 || (errno != EAGAIN && errno != ENOTCONN)) ended_ = true;
    check(Clock::now() < deadline, "a client waits in vain");
    co_await sleep(Duration::zero());
  }
  co_return text;
}

Listening::Listening() : socket_(must(open_socket(AF_INET, SOCK_STREAM), "socket")) {
  const int room = 64 * 1024;
  static_cast<void>(setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room));
  must(bind_socket(socket_.get(), *SocketAddress::parse_numeric("127.0.0.1", 0)), "bind");
  must(listen_socket(socket_.get(), 16), "listen");
  address_ = must(local_address(socket_.get()), "getsockname");
}

void Listening::clear() const {
  for (;;) {
    const int fd = ::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const Client dropped{OwnedFd(fd)};
  }
}

Task<Client> Listening::accept() const {
  const TimePoint deadline = Clock::now() + std::chrono::seconds(5);
  for (;;) {
    const int fd = ::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) co_return Client(OwnedFd(fd));
    check(Clock::now() < deadline, "nobody connects to the listener outside");
    co_await sleep(Duration::zero());
  }
}

}  // namespace pelton::faults
