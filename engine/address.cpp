// Reading and writing addresses: inet_pton and inet_ntop, and the syntax of ADDR around them.
//
// The C functions want terminated strings and stop at a NUL; the helpers below copy the text into
// a terminated array first and refuse a NUL inside. Nothing here blocks or keeps state.
#include <pelton/engine/address.hpp>

#include <pelton/engine/assert.hpp>

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

namespace pelton {

namespace {

constexpr std::size_t unix_header_bytes = offsetof(sockaddr_un, sun_path);
constexpr std::string_view unix_prefix = "unix:";

/// `text` with its control bytes as \xNN, so that a name cannot forge a line of a log.
std::string printable(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  out.reserve(text.size());
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= 0x20 && byte != 0x7f) {
      out += character;
    } else {
      out += "\\x";
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
  }
  return out;
}

std::string unix_text(std::string_view name) {
  std::string out(unix_prefix);
  if (!name.empty() && name.front() == '\0') {
    out += '@';
    name.remove_prefix(1);
  }
  return out + printable(name);
}

std::string host_port_text(const std::string& host, std::uint16_t port) {
  const bool brackets = host.find(':') != std::string::npos;
  const std::string port_text = std::to_string(port);
  return brackets ? "[" + host + "]:" + port_text : host + ":" + port_text;
}

/// A number of decimal digits only: no sign, no space, no suffix, no overflow.
template <class Number>
std::optional<Number> parse_digits(std::string_view text) noexcept {
  Number number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number, 10);
  if (text.empty() || error != std::errc() || stop != end) return std::nullopt;
  return number;
}

/// inet_pton for a text that is not terminated and may hold NULs.
bool parse_into(int family, std::string_view text, void* address) noexcept {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size()) return false;
  if (text.find('\0') != std::string_view::npos) return false;
  std::copy(text.begin(), text.end(), terminated.begin());
  return ::inet_pton(family, terminated.data(), address) == 1;
}

/// The interface index that a zone denotes for `address`.
std::optional<std::uint32_t> parse_zone(std::string_view zone, const in6_addr& address) noexcept {
  if (const auto index = parse_digits<std::uint32_t>(zone)) return index;
  const bool link_local = IN6_IS_ADDR_LINKLOCAL(&address) || IN6_IS_ADDR_MC_LINKLOCAL(&address);
  std::array<char, IF_NAMESIZE> name{};
  if (!link_local || zone.size() >= name.size()) return std::nullopt;
  if (zone.find('\0') != std::string_view::npos) return std::nullopt;
  std::copy(zone.begin(), zone.end(), name.begin());
  const unsigned index = ::if_nametoindex(name.data());
  if (index == 0) return std::nullopt;
  return index;
}

/// "V6" or "V6%ZONE" as to its form; the zone is not looked up.
bool looks_like_ipv6(std::string_view text) noexcept {
  const std::size_t percent = text.find('%');
  in6_addr address;
  if (!parse_into(AF_INET6, text.substr(0, percent), &address)) return false;
  if (percent == std::string_view::npos) return true;
  const std::string_view zone = text.substr(percent + 1);
  return !zone.empty() && std::all_of(zone.begin(), zone.end(), [](char character) {
    return character > ' ' && character < 0x7f && character != '%' && character != '/';
  });
}

/// True for what can be a host name: the resolver judges the rest. Bytes above 0x7f may be IDN.
bool looks_like_host(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char character) {
    const auto byte = static_cast<unsigned char>(character);
    constexpr std::string_view refused = "/[]@*%?#\"'\\";
    return byte > 0x20 && byte != 0x7f && refused.find(character) == std::string_view::npos;
  });
}

[[noreturn]] void refuse(std::string_view text, const std::string& remedy) {
  throw ValueError("cannot read address '" + printable(text) + "': " + remedy);
}

[[noreturn]] void refuse_form(std::string_view text) {
  refuse(text, "expected HOST:PORT, [V6]:PORT, :PORT or unix:PATH");
}

std::uint16_t parse_port(std::string_view text, std::string_view port) {
  if (port.empty()) refuse(text, "the port is missing: write a number from 0 to 65535 after ':'");
  const auto number = parse_digits<std::uint16_t>(port);
  if (!number) refuse(text, "the port must be a number from 0 to 65535");
  return *number;
}

/// Reads what stands behind "unix:".
Endpoint parse_unix(std::string_view text, std::string_view name) {
  const bool abstract = name.starts_with('@');
  if (abstract) name.remove_prefix(1);
  if (name.empty()) refuse(text, "the name is missing: write unix:PATH or unix:@ABSTRACT");
  if (name.find('\0') != std::string_view::npos) refuse(text, "remove the NUL byte from the name");
  if (name.size() > unix_path_bytes_max) {
    refuse(text, "the name is " + std::to_string(name.size()) + " bytes long and at most " +
                     std::to_string(unix_path_bytes_max) + " fit: use a shorter one");
  }
  Endpoint endpoint;
  endpoint.kind = Endpoint::Kind::unix_socket;
  if (abstract) endpoint.path.push_back('\0');
  endpoint.path += name;
  return endpoint;
}

/// Reads "[V6]:PORT".
Endpoint parse_bracketed(std::string_view text) {
  const std::size_t close = text.find(']');
  if (close == std::string_view::npos) refuse(text, "the ']' is missing: write [V6]:PORT");
  const std::string_view host = text.substr(1, close - 1);
  if (!looks_like_ipv6(host)) {
    refuse(text, "only an IPv6 address goes in brackets: write [V6]:PORT or HOST:PORT");
  }
  const std::string_view rest = text.substr(close + 1);
  if (!rest.starts_with(':')) refuse(text, "the port is missing: write [V6]:PORT");
  Endpoint endpoint;
  endpoint.host = host;
  endpoint.port = parse_port(text, rest.substr(1));
  return endpoint;
}

}  // namespace

SocketAddress::SocketAddress() noexcept { std::memset(&storage_, 0, sizeof(storage_)); }

SocketAddress SocketAddress::ipv4(in_addr host, std::uint16_t port) noexcept {
  SocketAddress address;
  address.storage_.v4 = sockaddr_in{};
  address.storage_.v4.sin_family = AF_INET;
  address.storage_.v4.sin_port = htons(port);
  address.storage_.v4.sin_addr = host;
  address.size_ = sizeof(sockaddr_in);
  return address;
}

SocketAddress SocketAddress::ipv6(const in6_addr& host, std::uint16_t port,
                                  std::uint32_t scope_id) noexcept {
  SocketAddress address;
  address.storage_.v6 = sockaddr_in6{};
  address.storage_.v6.sin6_family = AF_INET6;
  address.storage_.v6.sin6_port = htons(port);
  address.storage_.v6.sin6_addr = host;
  address.storage_.v6.sin6_scope_id = scope_id;
  address.size_ = sizeof(sockaddr_in6);
  return address;
}

Result<SocketAddress> SocketAddress::unix_path(std::string_view path) noexcept {
  if (path.empty()) return errno_result(EINVAL);
  const bool abstract = path.front() == '\0';
  if (path.size() > unix_path_bytes_max + (abstract ? 1 : 0)) return errno_result(ENAMETOOLONG);
  if (!abstract && path.find('\0') != std::string_view::npos) return errno_result(EINVAL);
  SocketAddress address;
  address.storage_.un = sockaddr_un{};
  address.storage_.un.sun_family = AF_UNIX;
  std::memcpy(address.storage_.un.sun_path, path.data(), path.size());
  // unix(7): a path counts its terminating NUL, an abstract name is exactly as long as said.
  address.size_ = static_cast<socklen_t>(unix_header_bytes + path.size() + (abstract ? 0 : 1));
  return address;
}

Result<SocketAddress> SocketAddress::from_sockaddr(const sockaddr* address,
                                                   socklen_t size) noexcept {
  if (address == nullptr || size < sizeof(sa_family_t)) return errno_result(EINVAL);
  SocketAddress out;
  switch (address->sa_family) {
    case AF_INET:
      if (size < sizeof(sockaddr_in)) return errno_result(EINVAL);
      out.size_ = sizeof(sockaddr_in);
      break;
    case AF_INET6:
      if (size < sizeof(sockaddr_in6)) return errno_result(EINVAL);
      out.size_ = sizeof(sockaddr_in6);
      break;
    case AF_UNIX:
      // The kernel reports one byte more than sockaddr_un for a path of 108 bytes.
      out.size_ = std::min(size, static_cast<socklen_t>(sizeof(sockaddr_un)));
      break;
    default:
      return errno_result(EAFNOSUPPORT);
  }
  std::memcpy(&out.storage_, address, out.size_);
  return out;
}

std::optional<SocketAddress> SocketAddress::parse_numeric(std::string_view host,
                                                          std::uint16_t port) noexcept {
  in_addr v4;
  if (parse_into(AF_INET, host, &v4)) return ipv4(v4, port);
  in6_addr v6;
  const std::size_t percent = host.find('%');
  if (!parse_into(AF_INET6, host.substr(0, percent), &v6)) return std::nullopt;
  if (percent == std::string_view::npos) return ipv6(v6, port);
  const auto scope_id = parse_zone(host.substr(percent + 1), v6);
  if (!scope_id) return std::nullopt;
  return ipv6(v6, port, *scope_id);
}

std::string SocketAddress::host() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (family() == AF_INET) {
    const char* const written =
        ::inet_ntop(AF_INET, &storage_.v4.sin_addr, text.data(), socklen_t{text.size()});
    PELTON_ASSERT(written != nullptr);
    return text.data();
  }
  if (family() != AF_INET6) return {};
  const char* const written =
      ::inet_ntop(AF_INET6, &storage_.v6.sin6_addr, text.data(), socklen_t{text.size()});
  PELTON_ASSERT(written != nullptr);
  std::string out = text.data();
  if (scope_id() != 0) out += "%" + std::to_string(scope_id());
  return out;
}

std::uint16_t SocketAddress::port() const noexcept {
  if (family() == AF_INET) return ntohs(storage_.v4.sin_port);
  if (family() == AF_INET6) return ntohs(storage_.v6.sin6_port);
  return 0;
}

std::uint32_t SocketAddress::scope_id() const noexcept {
  return family() == AF_INET6 ? storage_.v6.sin6_scope_id : 0;
}

std::string_view SocketAddress::unix_name() const noexcept {
  if (family() != AF_UNIX || size_ <= unix_header_bytes) return {};
  const std::size_t bytes = size_ - unix_header_bytes;
  PELTON_ASSERT(bytes <= sizeof(storage_.un.sun_path));
  const char* const name = storage_.un.sun_path;
  return {name, name[0] == '\0' ? bytes : ::strnlen(name, bytes)};
}

std::string SocketAddress::path() const { return std::string(unix_name()); }

bool SocketAddress::is_abstract() const noexcept {
  const std::string_view name = unix_name();
  return !name.empty() && name.front() == '\0';
}

std::string SocketAddress::to_string() const {
  if (family() == AF_UNIX) return unix_text(unix_name());
  if (family() == AF_UNSPEC) return "unspecified";
  return host_port_text(host(), port());
}

bool operator==(const SocketAddress& left, const SocketAddress& right) noexcept {
  if (left.family() != right.family()) return false;
  switch (left.family()) {
    case AF_INET:
      return left.port() == right.port() &&
             left.storage_.v4.sin_addr.s_addr == right.storage_.v4.sin_addr.s_addr;
    case AF_INET6:
      return left.port() == right.port() && left.scope_id() == right.scope_id() &&
             std::memcmp(&left.storage_.v6.sin6_addr, &right.storage_.v6.sin6_addr,
                         sizeof(in6_addr)) == 0;
    default:
      return left.unix_name() == right.unix_name();
  }
}

Endpoint Endpoint::parse(std::string_view text) {
  if (text.starts_with(unix_prefix)) return parse_unix(text, text.substr(unix_prefix.size()));
  if (text.starts_with('[')) return parse_bracketed(text);
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) refuse_form(text);
  const std::string_view host = text.substr(0, colon);
  if (looks_like_ipv6(text) || looks_like_ipv6(host)) {
    refuse(text, "an IPv6 address goes in brackets, as in [::1]:8888");
  }
  const bool host_has_colon = host.find(':') != std::string_view::npos;
  if (host_has_colon || !looks_like_host(host)) refuse_form(text);
  Endpoint endpoint;
  endpoint.host = host;
  endpoint.port = parse_port(text, text.substr(colon + 1));
  return endpoint;
}

std::string Endpoint::to_string() const {
  return kind == Kind::unix_socket ? unix_text(path) : host_port_text(host, port);
}

}  // namespace pelton
