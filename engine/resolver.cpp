// getaddrinfo with its traps taken out: ports that overflow, NUL bytes, duplicates.
//
// The list that getaddrinfo makes is owned by AddrinfoList and is copied out before it is freed.
// Stateless; the category is one constant object. Neighbour: engine/address.hpp.
#include <pelton/engine/resolver.hpp>

#include <netdb.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <string_view>

namespace pelton {

namespace {

class ResolverCategory final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "resolver"; }

  [[nodiscard]] std::string message(int code) const override { return ::gai_strerror(code); }

  [[nodiscard]] std::error_condition default_error_condition(int code) const noexcept override {
    switch (code) {
      case EAI_AGAIN:
        return std::errc::resource_unavailable_try_again;
      case EAI_MEMORY:
        return std::errc::not_enough_memory;
      case EAI_FAMILY:
        return std::errc::address_family_not_supported;
      default:
        return {code, *this};
    }
  }
};

struct AddrinfoDeleter {
  void operator()(addrinfo* list) const noexcept { ::freeaddrinfo(list); }
};
using AddrinfoList = std::unique_ptr<addrinfo, AddrinfoDeleter>;

std::unexpected<std::error_code> resolver_error(int code) noexcept {
  return std::unexpected(std::error_code(code, resolver_category()));
}

bool has_nul(std::string_view text) noexcept { return text.find('\0') != std::string_view::npos; }

/// A port written in decimal digits; empty is 0, as for getaddrinfo without a service.
std::optional<std::uint16_t> numeric_port(std::string_view text) noexcept {
  if (text.empty()) return std::uint16_t{0};
  std::uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, port, 10);
  if (error != std::errc() || stop != end) return std::nullopt;
  return port;
}

/// True for what strtoul would take for a number and getaddrinfo then cut to 16 bits.
bool is_bad_port(std::string_view service) noexcept {
  if (numeric_port(service)) return false;
  const auto is_number_part = [](char character) {
    constexpr std::string_view parts = "0123456789+- \t\n\v\f\r";
    return parts.find(character) != std::string_view::npos;
  };
  return std::all_of(service.begin(), service.end(), is_number_part);
}

std::vector<SocketAddress> unique_addresses(const addrinfo* list) {
  std::vector<SocketAddress> addresses;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    const auto address = SocketAddress::from_sockaddr(entry->ai_addr, entry->ai_addrlen);
    if (!address) continue;  // a family that pelton does not speak
    if (std::find(addresses.begin(), addresses.end(), *address) != addresses.end()) continue;
    addresses.push_back(*address);
  }
  return addresses;
}

Result<std::vector<SocketAddress>> ask_getaddrinfo(const ResolveRequest& request) {
  addrinfo hints{};
  hints.ai_family = request.family;
  hints.ai_socktype = request.type;
  hints.ai_protocol = request.protocol;
  hints.ai_flags = request.flags;
  // glibc refuses a call with neither host nor service, so no service is port 0, as in Python.
  const char* const service =
      request.service_or_port.empty() ? "0" : request.service_or_port.c_str();
  addrinfo* found = nullptr;
  const int code =
      ::getaddrinfo(request.has_host ? request.host.c_str() : nullptr, service, &hints, &found);
  if (code == EAI_SYSTEM) return errno_result(errno);
  if (code != 0) return resolver_error(code);
  const AddrinfoList list(found);
  return unique_addresses(list.get());
}

}  // namespace

const std::error_category& resolver_category() noexcept {
  static const ResolverCategory category;
  return category;
}

Result<std::vector<SocketAddress>> resolve_blocking(const ResolveRequest& request) noexcept {
  try {
    if (const auto address = resolve_numeric(request)) return std::vector{*address};
    if (request.has_host && has_nul(request.host)) return resolver_error(EAI_NONAME);
    if (has_nul(request.service_or_port)) return resolver_error(EAI_SERVICE);
    if (is_bad_port(request.service_or_port)) return resolver_error(EAI_SERVICE);
    auto found = ask_getaddrinfo(request);
    // RFC 6761: "localhost" is the loopback also on a host without an /etc/hosts.
    if (found || !request.has_host || request.host != "localhost") return found;
    if (request.flags & AI_NUMERICHOST) return found;
    ResolveRequest loopback = request;
    loopback.has_host = false;
    loopback.flags &= ~AI_PASSIVE;
    return ask_getaddrinfo(loopback);
  } catch (...) {
    return errno_result(ENOMEM);
  }
}

std::optional<SocketAddress> resolve_numeric(const ResolveRequest& request) noexcept {
  // With these flags a numeric host means what it means without; others are getaddrinfo's matter.
  constexpr int harmless_flags =
      AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV | AI_ADDRCONFIG | AI_V4MAPPED;
  const bool stream =
      request.type == SOCK_STREAM && (request.protocol == 0 || request.protocol == IPPROTO_TCP);
  if (!request.has_host || !stream || (request.flags & ~harmless_flags) != 0) return std::nullopt;
  const auto port = numeric_port(request.service_or_port);
  if (!port) return std::nullopt;
  auto address = SocketAddress::parse_numeric(request.host, *port);
  if (!address) return std::nullopt;
  if (request.family != AF_UNSPEC && request.family != address->family()) return std::nullopt;
  return address;
}

}  // namespace pelton
