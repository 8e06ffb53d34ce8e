// Binding for start_server and start_unix_server: every address of every host, once each.
// See server.hpp.
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>

#include <pelton/engine/resolver.hpp>
#include <pelton/stream/server.hpp>

namespace pelton {
namespace {

std::vector<SocketAddress> resolve_hosts(const std::vector<std::string>& hosts, std::uint16_t port,
                                         const ServerOptions& options) {
  std::vector<SocketAddress> addresses;
  for (const std::string& host : hosts) {
    ResolveRequest request(host, std::to_string(port));
    request.has_host = !host.empty();
    request.family = options.family;
    request.flags = AI_PASSIVE;
    const auto resolved = resolve_blocking(request);
    if (!resolved) throw_os_error(resolved.error(), "cannot resolve host '" + host + "'");
    for (const SocketAddress& address : *resolved) {
      if (std::ranges::find(addresses, address) == addresses.end()) addresses.push_back(address);
    }
  }
  if (addresses.empty()) {
    throw OSError::with_text(errno_code(ENOENT), "getaddrinfo() returned empty list");
  }
  return addresses;
}

/// As Python shows it: the NUL before an abstract name would end the text of an error.
std::string quoted(std::string_view path) {
  const bool is_abstract = path.starts_with('\0');
  if (is_abstract) path.remove_prefix(1);
  return std::string(is_abstract ? "'\\x00" : "'") + std::string(path) + "'";
}

std::string names(const std::vector<std::string>& hosts) {
  std::string text;
  for (const std::string& host : hosts) text += (text.empty() ? "'" : ", '") + host + "'";
  return text;
}

void check(const Result<void>& result, const std::string& what) {
  if (!result) throw_os_error(result.error(), what);
}

/// A bound socket, or an empty one where this host lacks the address (as asyncio skips it).
OwnedFd bind_tcp(const SocketAddress& address, const ServerOptions& options) {
  auto socket = open_socket(address.family(), SOCK_STREAM);
  if (!socket && socket.error().value() == EAFNOSUPPORT) return {};
  const std::string what =
      "error while attempting to bind on address '" + address.to_string() + "'";
  if (!socket) throw_os_error(socket.error(), what);
  const int fd = socket->get();
  if (options.reuse_address) check(set_reuse_address(fd), what);
  if (options.reuse_port) check(set_reuse_port(fd), what);
  if (address.family() == AF_INET6) check(set_v6_only(fd), what);
  const auto bound = bind_socket(fd, address);
  if (!bound && bound.error().value() == EADDRNOTAVAIL) return {};
  check(bound, what);
  return std::move(*socket);
}

}  // namespace

std::vector<OwnedFd> bind_hosts(const std::vector<std::string>& hosts, std::uint16_t port,
                                const ServerOptions& options) {
  std::vector<OwnedFd> sockets;
  for (const SocketAddress& address : resolve_hosts(hosts, port, options)) {
    if (OwnedFd socket = bind_tcp(address, options)) sockets.push_back(std::move(socket));
  }
  if (sockets.empty()) {
    throw OSError::with_text(errno_code(EADDRNOTAVAIL),
                             "could not bind on any address out of " + names(hosts));
  }
  return sockets;
}

OwnedFd bind_path(std::string_view path) {
  const std::string name = quoted(path);
  const auto address = SocketAddress::unix_path(path);
  if (!address) throw_os_error(address.error(), "cannot use unix socket path " + name);
  auto socket = open_socket(AF_UNIX, SOCK_STREAM);
  if (!socket) throw_os_error(socket.error(), "cannot make a unix socket");
  const auto bound = bind_unix(socket->get(), *address);
  if (bound) return std::move(*socket);
  if (bound.error().value() == EADDRINUSE) {
    throw OSError::with_text(bound.error(), "Address " + name + " is already in use");
  }
  throw_os_error(bound.error(), "cannot bind unix socket " + name);
}

namespace detail {

Ref<ServerCore> listen_on(Loop& loop, ConnectionHandler handler,
                          const std::vector<std::string>& hosts, std::uint16_t port,
                          const ServerOptions& options) {
  auto core = make_ref<ServerCore>(loop, std::move(handler), options);
  for (OwnedFd& socket : bind_hosts(hosts, port, options)) core->add_socket(std::move(socket));
  if (options.start_serving) core->start_serving();
  return core;
}

Ref<ServerCore> listen_on_path(Loop& loop, ConnectionHandler handler, std::string_view path,
                               const ServerOptions& options) {
  return listen_on_socket(loop, std::move(handler), bind_path(path), true, options);
}

Ref<ServerCore> listen_on_socket(Loop& loop, ConnectionHandler handler, OwnedFd socket,
                                 bool is_unix, const ServerOptions& options) {
  const auto type = socket_type(socket.get());
  const auto family = socket_family(socket.get());
  const bool fits = type && *type == SOCK_STREAM && family && (!is_unix || *family == AF_UNIX);
  if (!fits) {
    throw ValueError(std::string(is_unix ? "A UNIX Domain Stream Socket" : "A Stream Socket") +
                     " was expected, got fd " + std::to_string(socket.get()));
  }
  auto core = make_ref<ServerCore>(loop, std::move(handler), options);
  const auto address = local_address(socket.get());
  core->add_socket(std::move(socket));
  if (is_unix && address) core->add_unix_path(*address);
  if (options.start_serving) core->start_serving();
  return core;
}

}  // namespace detail
}  // namespace pelton
