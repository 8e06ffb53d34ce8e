// Servers: their sockets, their connections, their end. Binding is in listen.cpp.
// See server.hpp.
#include <pelton/stream/server.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <pelton/engine/log.hpp>
#include <pelton/proto/socket_transport.hpp>

namespace pelton {

namespace detail {

ServerCore::ServerCore(Loop& loop, ConnectionHandler handler, const ServerOptions& options)
    : loop_(loop), handler_(std::move(handler)), options_(options) {}

ServerCore::~ServerCore() { close(); }

void ServerCore::add_socket(OwnedFd socket) {
  // Connections inherit this from their listener: no call per connection. It fails on unix.
  static_cast<void>(set_no_delay(socket.get()));
  static_cast<void>(set_nonblocking(socket.get()));  // one that was handed over, as asyncio does
  if (options_.keep_alive) static_cast<void>(set_keep_alive(socket.get()));
  listeners_.push_back(make_ref<Listener>(
      loop_, std::move(socket), [this](OwnedFd connection) { on_accept(std::move(connection)); },
      [this](std::error_code error) { on_trouble(error); }));
}

void ServerCore::add_unix_path(const SocketAddress& address) {
  struct stat file {};
  if (!options_.cleanup_socket || address.is_abstract()) return;
  if (stat(address.path().c_str(), &file) == 0) {
    paths_.push_back({address.path(), file.st_dev, file.st_ino});
  }
}

void ServerCore::start_serving() {
  if (serving_ || closed_) return;
  for (const Ref<Listener>& listener : listeners_) {
    const auto address = local_address(listener->fd());
    if (auto started = listener->start(options_.backlog); !started) {
      throw_os_error(started.error(), "error while attempting to listen on address " +
                                          (address ? address->to_string() : "?"));
    }
  }
  serving_ = true;
}

void ServerCore::on_accept(OwnedFd socket) noexcept {
  try {
    auto protocol = make_ref<StreamReaderProtocol>(
        loop_, StreamReader(make_ref<ReaderCore>(options_.limit)), this);
    connections_.push_back(*protocol);
    ++connection_count_;
    SocketTransport::open_now(loop_, std::move(socket), protocol);
  } catch (...) {
    loop_.report("Error on transport creation for incoming connection", std::current_exception());
  }
}

void ServerCore::on_trouble(std::error_code error) noexcept {
  loop_.report("socket.accept() out of system resource", Failure(error).exception());
}

void ServerCore::detach(StreamReaderProtocol& protocol) noexcept {
  protocol.unlink();
  --connection_count_;
  if (over()) wake_all(ended_);
}

void ServerCore::close() noexcept {
  if (closed_) return;
  closed_ = true;
  serving_ = false;
  for (const Ref<Listener>& listener : listeners_) listener->close();
  cleanup_paths();
  if (forever) forever->cancel();
  if (over()) wake_all(ended_);
}

void ServerCore::cleanup_paths() noexcept {
  for (const UnixPath& bound : paths_) {
    struct stat file {};
    if (stat(bound.path.c_str(), &file) != 0) continue;
    if (file.st_dev == bound.device && file.st_ino == bound.inode) unlink(bound.path.c_str());
  }
  paths_.clear();
}

void ServerCore::close_clients() {
  connections_.for_each([](StreamReaderProtocol& protocol) {
    if (protocol.transport()) protocol.transport()->close();
  });
}

void ServerCore::abort_clients() {
  connections_.for_each([](StreamReaderProtocol& protocol) {
    if (protocol.transport()) protocol.transport()->abort();
  });
}

std::vector<int> ServerCore::sockets() const {
  std::vector<int> sockets;
  if (closed_) return sockets;
  for (const Ref<Listener>& listener : listeners_) sockets.push_back(listener->fd());
  return sockets;
}

}  // namespace detail

Server& Server::operator=(Server&& other) noexcept {
  if (this == &other) return *this;
  let_go();
  core_ = std::move(other.core_);
  return *this;
}

Server::~Server() { let_go(); }

void Server::let_go() noexcept {
  if (!core_ || core_->closed()) return;
  try {
    warn_resource("unclosed " + to_string());
  } catch (const std::bad_alloc&) {
    warn_resource("unclosed <Server>");
  }
  core_->close();
}

std::vector<SocketAddress> Server::addresses() const {
  std::vector<SocketAddress> addresses;
  for (const int fd : sockets()) {
    if (auto address = local_address(fd)) addresses.push_back(*address);
  }
  return addresses;
}

std::string Server::to_string() const {
  std::string text = "<Server sockets=(";
  for (const SocketAddress& address : addresses()) {
    if (text.back() != '(') text += ", ";
    text += address.to_string();
  }
  return text + ")>";
}

Task<> Server::serve_forever() {
  const Ref<detail::ServerCore> core = core_;
  if (core->forever) {
    throw RuntimeError("server " + to_string() + " is already being awaited on serve_forever()");
  }
  if (core->closed()) throw RuntimeError("server " + to_string() + " is closed");
  core->start_serving();
  core->forever.emplace(core->loop());
  struct Forget {
    detail::ServerCore& core;
    ~Forget() { core.forever.reset(); }
  } const forget{*core};
  try {
    const Future<> forever = *core->forever;
    co_await forever;
  } catch (const Cancelled&) {
    core->close();
  }
  co_await detail::ServerEndAwaiter(core);
  throw Cancelled();
}

}  // namespace pelton
