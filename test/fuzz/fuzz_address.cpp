// Fuzz target: whatever is read as an address is refused with a ValueError or survives a round
// trip.
//
// Neighbours: engine/address.hpp and resolver.hpp, which are tested; target.hpp.
#include <cstring>
#include <optional>

#include <fuzz/target.hpp>
#include <pelton/engine/address.hpp>
#include <pelton/engine/resolver.hpp>

namespace pelton::fuzz {
namespace {

/// True where parse() can read back what to_string() wrote: it writes control bytes of a unix name
/// as \xNN, and "@" for a NUL.
bool is_plain(std::string_view path) {
  const bool abstract = path.starts_with('\0');
  const std::string_view name = abstract ? path.substr(1) : path;
  return std::ranges::none_of(name, [](char character) {
    return static_cast<unsigned char>(character) < 0x20 || character == 0x7f;
  });
}

void check_endpoint(std::string_view text) {
  std::optional<Endpoint> endpoint;
  try {
    endpoint = Endpoint::parse(text);
  } catch (const ValueError& error) {
    const std::string_view what = error.what();
    require(what.starts_with("cannot read address '"), "a refusal that names nothing");
    if (!is_plain(what)) fail("a refusal with control bytes: " + shown(what));
    return;
  }
  if (endpoint->kind == Endpoint::Kind::unix_socket) {
    require(endpoint->host.empty() && endpoint->port == 0, "a unix endpoint with a host or a port");
    const auto address = SocketAddress::unix_path(endpoint->path);
    if (!address) fail("a name that no address can hold: " + shown(text));
    if (address->path() != endpoint->path) fail("an address of another name: " + shown(text));
    require(address->to_string() == endpoint->to_string(), "two texts of one unix name");
    if (!is_plain(endpoint->path)) return;
  } else {
    if (!endpoint->path.empty()) fail("a host with a path: " + shown(text));
    if (endpoint->host.find('\0') != std::string::npos) fail("a host with a NUL: " + shown(text));
  }
  const std::string printed = endpoint->to_string();
  if (Endpoint::parse(printed) != *endpoint) {
    fail(shown(text) + " is printed as " + shown(printed) + ", which is another");
  }
}

/// What is numeric is printed in one way, which is numeric, too, and the same address.
void check_numeric(std::string_view host, std::uint16_t port) {
  const auto address = SocketAddress::parse_numeric(host, port);
  ResolveRequest request{std::string(host), std::to_string(port)};
  if (resolve_numeric(request) != address) fail("the resolver disagrees about " + shown(host));
  if (!address) return;
  require(address->port() == port, "another port than was asked for");
  const auto again = SocketAddress::parse_numeric(address->host(), port);
  if (again != address) fail(shown(host) + " is printed as " + shown(address->host()));
  const Endpoint endpoint = Endpoint::parse(address->to_string());
  if (endpoint.host != address->host() || endpoint.port != port) {
    fail(shown(address->to_string()) + " is not read as an endpoint");
  }
}

/// Bytes as a system call might give them.
void check_sockaddr(std::string_view bytes) {
  sockaddr_storage storage{};
  const std::size_t size = std::min(bytes.size(), sizeof storage);
  std::memcpy(&storage, bytes.data(), size);
  const auto* raw = reinterpret_cast<const sockaddr*>(&storage);
  const auto address = SocketAddress::from_sockaddr(raw, static_cast<socklen_t>(size));
  if (!address) return;
  require(address->family() == raw->sa_family && address->size() <= size, "another size or family");
  const auto again = SocketAddress::from_sockaddr(address->data(), address->size());
  require(again == *address && *address == *address, "a copy that is not equal");
  require(again->to_string() == address->to_string(), "a copy with another text");
  require(is_plain(address->to_string()), "an address whose text has control bytes");
  if (address->family() != AF_UNIX || address->path().empty()) return;
  const auto named = SocketAddress::unix_path(address->path());
  if (!named && address->path().size() <= unix_path_bytes_max) {
    fail("a name that unix_path() refuses: " + shown(address->path()));
  }
  require(!named || *named == *address, "a unix address that is not made of its name");
}

void check_unix_path(std::string_view path) {
  const auto address = SocketAddress::unix_path(path);
  if (!address) return;
  if (address->path() != path) fail("a unix address of another name: " + shown(path));
  require(address->is_abstract() == path.starts_with('\0'), "an abstract name, or not");
}

}  // namespace
}  // namespace pelton::fuzz

PELTON_FUZZ_TARGET(address) {
  using namespace pelton::fuzz;
  switch (input.byte() % 4) {
    case 0:
      return check_endpoint(input.rest());
    case 1: {
      const auto port = static_cast<std::uint16_t>(input.word());
      return check_numeric(input.rest(), port);
    }
    case 2:
      return check_sockaddr(input.rest());
    default:
      return check_unix_path(input.rest());
  }
}
