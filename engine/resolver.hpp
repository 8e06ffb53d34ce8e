// Names to addresses: getaddrinfo(3) as a value.
//
// resolve_blocking() may wait for a name server and therefore must never run on a
// loop's thread: whoever has a loop hands it to an executor. resolve_numeric() is the part that
// never waits: ask it first and save the detour. The results own all they hold.
//
// Stateless, and getaddrinfo is thread-safe: call from any thread.
#pragma once

#include <pelton/engine/address.hpp>
#include <pelton/engine/error.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pelton {

/// The arguments of getaddrinfo, under Python's names where it has them.
struct ResolveRequest {
  ResolveRequest() = default;
  ResolveRequest(std::string host_name, std::string service)
      : host(std::move(host_name)), has_host(true), service_or_port(std::move(service)) {}

  /// A name or a numeric host, without brackets. Ignored unless has_host.
  std::string host;
  /// False is Python's None: the wildcard addresses with AI_PASSIVE, else the loopback ones.
  bool has_host = false;
  /// "80", "http", or empty for port 0.
  std::string service_or_port;
  /// AF_UNSPEC (any), AF_INET or AF_INET6.
  int family = AF_UNSPEC;
  int type = SOCK_STREAM;
  int protocol = 0;
  /// AI_PASSIVE and its like.
  int flags = 0;
};

/// The category of the EAI_* codes; messages are those of gai_strerror(3). EAI_AGAIN, EAI_MEMORY
/// and EAI_FAMILY equal the std::errc of their meaning.
[[nodiscard]] const std::error_category& resolver_category() noexcept;

/// The addresses of `request`, each once, in the resolver's order (RFC 6724). May block for as
/// long as the system's resolver does, many seconds.
/// \return An EAI_* code in resolver_category(), or a system error where getaddrinfo says
///     EAI_SYSTEM. EAI_SERVICE also for a port that is not within 0 to 65535, which glibc would
///     cut to 16 bits; EAI_NONAME for a host with a NUL byte. ENOMEM when out of memory.
[[nodiscard]] Result<std::vector<SocketAddress>> resolve_blocking(
    const ResolveRequest& request) noexcept;

/// The address of a request whose host and port are both numeric. Never blocks.
/// \return Nothing if resolve_blocking() must be asked: a name, no host, a service's name, a
///     family that the host is not of, rare flags.
[[nodiscard]] std::optional<SocketAddress> resolve_numeric(const ResolveRequest& request) noexcept;

}  // namespace pelton
