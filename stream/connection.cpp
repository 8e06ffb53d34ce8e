// Resolving, connecting, wrapping. See connection.hpp.
#include <pelton/stream/connection.hpp>

#include <netdb.h>

#include <algorithm>

#include <pelton/engine/connect.hpp>
#include <pelton/engine/resolver.hpp>
#include <pelton/proto/socket_transport.hpp>

namespace pelton {
namespace {

using Addresses = std::vector<SocketAddress>;

/// The protocol's first call is a turn away; the streams are whole when it has been made.
Task<StreamPair> make_streams(OwnedFd socket, std::size_t limit) {
  Loop& loop = Loop::running();
  StreamReader reader(limit);
  auto protocol = make_ref<StreamReaderProtocol>(loop, reader);
  auto transport = SocketTransport::open(loop, std::move(socket), protocol);
  StreamWriter writer(transport, protocol);
  while (!protocol->transport() && !protocol->lost()) co_await sleep(Duration::zero());
  co_return StreamPair(std::move(reader), std::move(writer));
}

Task<Addresses> resolve(ResolveRequest request) {
  if (auto numeric = resolve_numeric(request)) co_return Addresses{*numeric};
  const std::string host = request.host;
  Future<Result<Addresses>> future = Loop::running().run_in_executor(
      [request = std::move(request)] { return resolve_blocking(request); });
  Result<Addresses> resolved = co_await future;
  if (!resolved) throw_os_error(resolved.error(), "cannot resolve host '" + host + "'");
  if (resolved->empty()) {
    throw OSError::with_text(errno_code(ENOENT), "getaddrinfo() returned empty list");
  }
  co_return std::move(*resolved);
}

Failure failure_with(std::error_code code, const std::string& what) {
  try {
    throw_os_error(code, what);
  } catch (...) {
    return Failure(std::current_exception());
  }
}

/// Binds to the first local address of the right family. \return empty, or why it failed.
Failure bind_local(int fd, int family, const Addresses& local) {
  Failure failure =
      failure_with(errno_code(EADDRNOTAVAIL), "no matching local address with family found");
  for (const SocketAddress& address : local) {
    if (address.family() != family) continue;
    const auto bound = bind_socket(fd, address);
    if (bound) return {};
    failure = failure_with(
        bound.error(), "error while attempting to bind on address '" + address.to_string() + "'");
  }
  return failure;
}

/// One address: a connected socket, or why not.
Task<std::expected<OwnedFd, Failure>> connect_one(SocketAddress address, const Addresses& local) {
  auto socket = open_socket(address.family(), SOCK_STREAM);
  if (!socket) co_return std::unexpected(Failure(socket.error()));
  if (!local.empty()) {
    if (Failure failure = bind_local(socket->get(), address.family(), local)) {
      co_return std::unexpected(std::move(failure));
    }
  }
  Result<OwnedFd> connected = co_await connect(Loop::running(), std::move(*socket), address);
  if (!connected) {
    co_return std::unexpected(
        failure_with(connected.error(), "Connect call failed " + address.to_string()));
  }
  static_cast<void>(set_no_delay(connected->get()));  // asyncio's default; unix has no such thing
  co_return std::move(*connected);
}

[[noreturn]] void raise_failures(const std::vector<Failure>& failures, bool all_errors) {
  if (failures.empty()) throw TimeoutError("create_connection failed");
  if (all_errors) {
    std::vector<std::exception_ptr> exceptions;
    for (const Failure& failure : failures) exceptions.push_back(failure.exception());
    throw ExceptionGroup("create_connection failed", std::move(exceptions));
  }
  const std::string first = failures.front().message();
  const bool same = std::ranges::all_of(
      failures, [&](const Failure& failure) { return failure.message() == first; });
  if (same) failures.front().raise();
  std::string text = "Multiple exceptions: ";
  for (const Failure& failure : failures) {
    if (&failure != &failures.front()) text += ", ";
    text += failure.message();
  }
  throw OSError::with_text(failures.front().code(), std::move(text));
}

[[noreturn]] void raise_connect_failure(std::error_code code, const SocketAddress& address,
                                        bool all_errors) {
  raise_failures({failure_with(code, "Connect call failed " + address.to_string())}, all_errors);
}

void adopt_stream_socket(const OwnedFd& socket, bool is_unix) {
  const auto type = socket_type(socket.get());
  const auto family = socket_family(socket.get());
  if (type && *type == SOCK_STREAM && family && (!is_unix || *family == AF_UNIX)) {
    static_cast<void>(set_nonblocking(socket.get()));  // as asyncio does
    return;
  }
  throw ValueError(std::string(is_unix ? "A UNIX Domain Stream Socket" : "A Stream Socket") +
                   " was expected, got fd " + std::to_string(socket.get()));
}

/// The connect of a new socket.
ConnectAwaiter begin_connect(const SocketAddress& address, bool all_errors) {
  auto socket = open_socket(address.family(), SOCK_STREAM);
  if (!socket) raise_failures({Failure(socket.error())}, all_errors);
  return connect(Loop::running(), std::move(*socket), address);
}

/// To the one address that there is. One small coroutine, for a proxy may have thousands of them at
/// once: of the address it keeps no copy besides that of the connect.
Task<StreamPair> connect_to(std::unique_ptr<SocketAddress> address, std::size_t limit,
                            bool all_errors) {
  OwnedFd socket;
  {
    ConnectAwaiter attempt = begin_connect(*address, all_errors);
    address.reset();
    Result<OwnedFd> connected = co_await attempt;
    if (!connected) raise_connect_failure(connected.error(), attempt.address(), all_errors);
    socket = std::move(*connected);
  }
  static_cast<void>(set_no_delay(socket.get()));  // asyncio's default
  co_return co_await make_streams(std::move(socket), limit);
}

/// To the first address that answers, of all that the names have.
Task<StreamPair> connect_to_any(ResolveRequest request, ConnectOptions options) {
  Addresses local;
  if (!options.local_host.empty() || options.local_port != 0) {
    ResolveRequest from(std::string(options.local_host), std::to_string(options.local_port));
    from.has_host = !options.local_host.empty();
    from.family = options.family;
    from.flags = AI_PASSIVE;
    local = co_await resolve(std::move(from));
  }
  const Addresses addresses = co_await resolve(std::move(request));
  std::vector<Failure> failures;
  for (const SocketAddress& address : addresses) {
    auto connected = co_await connect_one(address, local);
    if (connected) co_return co_await make_streams(std::move(*connected), options.limit);
    failures.push_back(std::move(connected.error()));
  }
  raise_failures(failures, options.all_errors);
}

}  // namespace

Task<StreamPair> open_connection(std::string host, std::uint16_t port, ConnectOptions options) {
  ResolveRequest request(std::move(host), std::to_string(port));
  request.has_host = !request.host.empty();
  request.family = options.family;
  request.flags = options.flags;
  if (options.local_host.empty() && options.local_port == 0) {
    if (const auto address = resolve_numeric(request)) {
      return connect_to(std::make_unique<SocketAddress>(*address), options.limit,
                        options.all_errors);
    }
  }
  return connect_to_any(std::move(request), options);
}

Task<StreamPair> open_connection(OwnedFd sock, ConnectOptions options) {
  adopt_stream_socket(sock, false);
  static_cast<void>(set_no_delay(sock.get()));
  co_return co_await make_streams(std::move(sock), options.limit);
}

Task<StreamPair> open_unix_connection(std::string path, ConnectOptions options) {
  const auto address = SocketAddress::unix_path(path);
  if (!address) throw_os_error(address.error(), "cannot use unix socket path '" + path + "'");
  auto connected = co_await connect_one(*address, Addresses());
  if (!connected) connected.error().raise();
  co_return co_await make_streams(std::move(*connected), options.limit);
}

Task<StreamPair> open_unix_connection(OwnedFd sock, ConnectOptions options) {
  adopt_stream_socket(sock, true);
  co_return co_await make_streams(std::move(sock), options.limit);
}

}  // namespace pelton
