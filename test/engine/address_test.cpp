// SocketAddress and Endpoint: what is read, what is refused and with which words.
//
// No test opens a socket or looks up a name. The texts of refusals are checked whole where users
// meet them often, by their remedy elsewhere.
#include <pelton/engine/address.hpp>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <net/if.h>

#include <array>
#include <cstring>
#include <ostream>
#include <string>
#include <string_view>

using namespace std::string_literals;
using namespace std::string_view_literals;
using pelton::Endpoint;
using pelton::errno_result;
using pelton::SocketAddress;

namespace {

SocketAddress numeric(std::string_view host, std::uint16_t port) {
  const auto address = SocketAddress::parse_numeric(host, port);
  REQUIRE_MESSAGE(address.has_value(), "not numeric: " << std::string(host));
  return *address;
}

SocketAddress unix_address(std::string_view path) {
  const auto address = SocketAddress::unix_path(path);
  REQUIRE(address.has_value());
  return *address;
}

/// The text of the ValueError that parse() throws; empty if it throws none.
std::string refusal(std::string_view text) {
  try {
    static_cast<void>(Endpoint::parse(text));
  } catch (const pelton::ValueError& error) {
    return error.what();
  }
  return {};
}

std::string expected_form(const std::string& text) {
  return "cannot read address '" + text + "': expected HOST:PORT, [V6]:PORT, :PORT or unix:PATH";
}

}  // namespace

TEST_CASE("a default address is unspecified and empty") {
  const SocketAddress address;
  CHECK(address.family() == AF_UNSPEC);
  CHECK(address.size() == 0);
  CHECK(address.host().empty());
  CHECK(address.path().empty());
  CHECK(address.port() == 0);
  CHECK(address.to_string() == "unspecified");
  CHECK(address == SocketAddress());
  CHECK(address != numeric("0.0.0.0", 0));
}

TEST_CASE("an IPv4 address has the layout of sockaddr_in") {
  const SocketAddress address = SocketAddress::ipv4(in_addr{htonl(INADDR_LOOPBACK)}, 80);
  CHECK(address.family() == AF_INET);
  REQUIRE(address.size() == sizeof(sockaddr_in));
  sockaddr_in raw{};
  std::memcpy(&raw, address.data(), sizeof(raw));
  CHECK(raw.sin_port == htons(80));
  CHECK(raw.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
  CHECK(address.host() == "127.0.0.1");
  CHECK(address.port() == 80);
  CHECK(address.scope_id() == 0);
  CHECK(address.path().empty());
  CHECK_FALSE(address.is_abstract());
  CHECK(address.to_string() == "127.0.0.1:80");
}

TEST_CASE("an IPv6 address has brackets in text and none in its host") {
  const SocketAddress address = SocketAddress::ipv6(in6addr_loopback, 80);
  CHECK(address.family() == AF_INET6);
  CHECK(address.size() == sizeof(sockaddr_in6));
  CHECK(address.host() == "::1");
  CHECK(address.port() == 80);
  CHECK(address.to_string() == "[::1]:80");
}

TEST_CASE("the scope id of an IPv6 address shows as its zone and reads back") {
  const SocketAddress address = numeric("fe80::1%7", 1);
  CHECK(address.scope_id() == 7);
  CHECK(address.host() == "fe80::1%7");
  CHECK(address.to_string() == "[fe80::1%7]:1");
  CHECK(numeric(address.host(), 1) == address);
  CHECK(numeric("fe80::1", 1) != address);
}

TEST_CASE("the longest IPv6 text fits") {
  const auto longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"sv;
  CHECK(numeric(longest, 65535).to_string() == "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

TEST_CASE("the zone of a link-local address may be the name of an interface") {
  const unsigned loopback = ::if_nametoindex("lo");
  if (loopback == 0) {
    MESSAGE("skipped: there is no interface named lo");
    return;
  }
  CHECK(numeric("fe80::1%lo", 1).scope_id() == loopback);
  CHECK(numeric("ff02::1%lo", 1).scope_id() == loopback);
  CHECK_FALSE(SocketAddress::parse_numeric("::1%lo", 1).has_value());
}

TEST_CASE("parse_numeric refuses whatever is not a numeric host") {
  for (const std::string_view host : {""sv,
                                      "localhost"sv,
                                      "127.0.0"sv,
                                      "127.1"sv,
                                      "127.0.0.1.2"sv,
                                      "256.0.0.1"sv,
                                      " 127.0.0.1"sv,
                                      "127.0.0.1 "sv,
                                      "127.0.0.1%1"sv,
                                      "[::1]"sv,
                                      "::1]"sv,
                                      ":::"sv,
                                      "1::2::3"sv,
                                      "12345::"sv,
                                      "fe80::1%"sv,
                                      "fe80::1%no-such-zone"sv,
                                      "fe80::1%4294967296"sv,
                                      "fe80::1%-1"sv,
                                      "fe80::1%a-name-longer-than-IF_NAMESIZE"sv,
                                      "%1"sv,
                                      "127.0.0.1\0"sv,
                                      "::1\0"sv,
                                      "fe80::1%lo\0"sv,
                                      "127.0.0.1\0.example.org"sv}) {
    CAPTURE(std::string(host));
    CHECK_FALSE(SocketAddress::parse_numeric(host, 80).has_value());
  }
}

TEST_CASE("a unix path counts its terminating NUL") {
  const SocketAddress address = unix_address("/run/echo");
  CHECK(address.family() == AF_UNIX);
  CHECK(address.size() == offsetof(sockaddr_un, sun_path) + 10);
  CHECK(address.path() == "/run/echo");
  CHECK(address.host().empty());
  CHECK(address.port() == 0);
  CHECK_FALSE(address.is_abstract());
  CHECK(address.to_string() == "unix:/run/echo");
}

TEST_CASE("an abstract name starts with NUL and is exactly as long as said") {
  const SocketAddress address = unix_address("\0echo"sv);
  CHECK(address.size() == offsetof(sockaddr_un, sun_path) + 5);
  CHECK(address.path() == "\0echo"s);
  CHECK(address.is_abstract());
  CHECK(address.to_string() == "unix:@echo");
  CHECK(address != unix_address("echo"));
  CHECK(address != unix_address("@echo"));
  CHECK(address != unix_address("\0echo\0"sv));
}

TEST_CASE("an abstract name may hold NUL bytes, which its text escapes") {
  const SocketAddress address = unix_address("\0a\0b\n"sv);
  CHECK(address.path() == "\0a\0b\n"s);
  CHECK(address.to_string() == "unix:@a\\x00b\\x0a");
}

TEST_CASE("unix names of 107 bytes fit and longer ones are ENAMETOOLONG") {
  const std::string longest(107, 'x');
  CHECK(unix_address(longest).path() == longest);
  CHECK(unix_address(longest).size() == sizeof(sockaddr_un));
  CHECK(unix_address("\0"s + longest).path() == "\0"s + longest);
  CHECK(unix_address("\0"s + longest).size() == sizeof(sockaddr_un));
  CHECK(SocketAddress::unix_path(longest + "x") == errno_result(ENAMETOOLONG));
  CHECK(SocketAddress::unix_path("\0"s + longest + "x") == errno_result(ENAMETOOLONG));
}

TEST_CASE("an empty unix path and one with a NUL inside are EINVAL") {
  CHECK(SocketAddress::unix_path("") == errno_result(EINVAL));
  CHECK(SocketAddress::unix_path("/run\0/echo"sv) == errno_result(EINVAL));
  CHECK(SocketAddress::unix_path("/run\0"sv) == errno_result(EINVAL));
}

TEST_CASE("from_sockaddr gives back what data and size gave") {
  for (const SocketAddress& address :
       {numeric("192.0.2.1", 65535), numeric("2001:db8::1", 1), numeric("fe80::1%3", 2),
        unix_address("/run/echo"), unix_address("\0echo"sv), unix_address(std::string(107, 'x'))}) {
    CAPTURE(address.to_string());
    const auto copy = SocketAddress::from_sockaddr(address.data(), address.size());
    REQUIRE(copy.has_value());
    CHECK(*copy == address);
    CHECK(copy->size() == address.size());
    CHECK(copy->to_string() == address.to_string());
  }
}

TEST_CASE("from_sockaddr takes a family alone as an unnamed unix address") {
  sockaddr raw{};
  raw.sa_family = AF_UNIX;
  const auto address = SocketAddress::from_sockaddr(&raw, sizeof(sa_family_t));
  REQUIRE(address.has_value());
  CHECK(address->path().empty());
  CHECK_FALSE(address->is_abstract());
  CHECK(address->to_string() == "unix:");
  CHECK(*address != unix_address("\0"sv));
  CHECK(*address != SocketAddress());
}

TEST_CASE("from_sockaddr ends a unix path at its NUL, or at 108 bytes without one") {
  std::array<char, sizeof(sockaddr_un) + 1> bytes{};
  sockaddr_un raw{};
  raw.sun_family = AF_UNIX;
  std::memcpy(raw.sun_path, "/a\0b", 4);
  std::memcpy(bytes.data(), &raw, sizeof(raw));
  const auto* const address = reinterpret_cast<const sockaddr*>(&raw);
  CHECK(SocketAddress::from_sockaddr(address, sizeof(raw)).value() == unix_address("/a"));

  std::memset(raw.sun_path, 'x', sizeof(raw.sun_path));
  std::memcpy(bytes.data(), &raw, sizeof(raw));
  alignas(sockaddr_un) std::array<char, sizeof(sockaddr_un) + 1> longer = bytes;
  const auto overlong = SocketAddress::from_sockaddr(
      reinterpret_cast<const sockaddr*>(longer.data()), socklen_t{longer.size()});
  REQUIRE(overlong.has_value());
  CHECK(overlong->path() == std::string(108, 'x'));
  CHECK(overlong->size() == sizeof(sockaddr_un));
}

TEST_CASE("from_sockaddr refuses short sizes and foreign families") {
  const SocketAddress v4 = numeric("127.0.0.1", 1);
  const SocketAddress v6 = numeric("::1", 1);
  CHECK(SocketAddress::from_sockaddr(nullptr, 16) == errno_result(EINVAL));
  CHECK(SocketAddress::from_sockaddr(v4.data(), 0) == errno_result(EINVAL));
  CHECK(SocketAddress::from_sockaddr(v4.data(), 1) == errno_result(EINVAL));
  CHECK(SocketAddress::from_sockaddr(v4.data(), v4.size() - 1) == errno_result(EINVAL));
  CHECK(SocketAddress::from_sockaddr(v6.data(), v6.size() - 1) == errno_result(EINVAL));
  sockaddr raw{};
  raw.sa_family = AF_NETLINK;
  CHECK(SocketAddress::from_sockaddr(&raw, sizeof(raw)) == errno_result(EAFNOSUPPORT));
  raw.sa_family = AF_UNSPEC;
  CHECK(SocketAddress::from_sockaddr(&raw, sizeof(raw)) == errno_result(EAFNOSUPPORT));
}

TEST_CASE("addresses are equal when family, host, port and scope are") {
  CHECK(numeric("127.0.0.1", 1) == numeric("127.0.0.1", 1));
  CHECK(numeric("127.0.0.1", 1) != numeric("127.0.0.1", 2));
  CHECK(numeric("127.0.0.1", 1) != numeric("127.0.0.2", 1));
  CHECK(numeric("::1", 1) == numeric("0:0::0:1", 1));
  CHECK(numeric("::1", 1) != numeric("::1", 2));
  CHECK(numeric("::1", 1) != numeric("::2", 1));
  CHECK(numeric("0.0.0.0", 1) != numeric("::", 1));
  CHECK(numeric("127.0.0.1", 1) != numeric("::ffff:127.0.0.1", 1));
}

TEST_CASE("padding of a foreign sockaddr_in does not make an address different") {
  sockaddr_in raw{};
  raw.sin_family = AF_INET;
  raw.sin_port = htons(1);
  raw.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::memset(raw.sin_zero, 0xff, sizeof(raw.sin_zero));
  const auto address =
      SocketAddress::from_sockaddr(reinterpret_cast<const sockaddr*>(&raw), sizeof(raw));
  CHECK(address.value() == numeric("127.0.0.1", 1));
}

TEST_CASE("an endpoint is a host and a port") {
  const Endpoint endpoint = Endpoint::parse("example.org:80");
  CHECK(endpoint.kind == Endpoint::Kind::tcp);
  CHECK(endpoint.host == "example.org");
  CHECK(endpoint.port == 80);
  CHECK(endpoint.path.empty());
  CHECK(Endpoint::parse("127.0.0.1:0").port == 0);
  CHECK(Endpoint::parse("my_host-1:65535").port == 65535);
  CHECK(Endpoint::parse("b\xc3\xbc"
                        "cher.example:1")
            .host ==
        "b\xc3\xbc"
        "cher.example");
}

TEST_CASE("an endpoint without a host means all interfaces") {
  const Endpoint endpoint = Endpoint::parse(":8888");
  CHECK(endpoint.kind == Endpoint::Kind::tcp);
  CHECK(endpoint.host.empty());
  CHECK(endpoint.port == 8888);
}

TEST_CASE("an endpoint's IPv6 host goes in brackets and loses them") {
  CHECK(Endpoint::parse("[::1]:80").host == "::1");
  CHECK(Endpoint::parse("[::]:0").host == "::");
  CHECK(Endpoint::parse("[::ffff:1.2.3.4]:80").host == "::ffff:1.2.3.4");
}

TEST_CASE("an endpoint's zone is kept and not looked up") {
  CHECK(Endpoint::parse("[fe80::1%no-such-zone]:80").host == "fe80::1%no-such-zone");
}

TEST_CASE("an endpoint may be a unix path, relative and with colons too") {
  const Endpoint endpoint = Endpoint::parse("unix:/run/echo:1");
  CHECK(endpoint.kind == Endpoint::Kind::unix_socket);
  CHECK(endpoint.path == "/run/echo:1");
  CHECK(endpoint.host.empty());
  CHECK(endpoint.port == 0);
  CHECK(Endpoint::parse("unix:echo.sock").path == "echo.sock");
  CHECK(Endpoint::parse("unix:80").path == "80");
}

TEST_CASE("an endpoint's @ is an abstract name as SocketAddress takes it") {
  const Endpoint endpoint = Endpoint::parse("unix:@echo");
  CHECK(endpoint.path == "\0echo"s);
  CHECK(unix_address(endpoint.path).to_string() == "unix:@echo");
}

TEST_CASE("an endpoint's text reads back as the same endpoint") {
  for (const std::string_view text :
       {"example.org:80"sv, ":0"sv, "[::1]:80"sv, "[fe80::1%eth0]:1"sv, "unix:/run/echo"sv,
        "unix:@echo"sv, "unix:@@"sv}) {
    CHECK(Endpoint::parse(text).to_string() == text);
    CHECK(Endpoint::parse(Endpoint::parse(text).to_string()) == Endpoint::parse(text));
  }
  CHECK(Endpoint::parse("host:080").to_string() == "host:80");
  CHECK(Endpoint::parse("host:80") != Endpoint::parse("host:81"));
  CHECK(Endpoint::parse("unix:a") != Endpoint::parse("unix:@a"));
}

TEST_CASE("an endpoint of no known form is refused with the forms there are") {
  for (const std::string text :
       {"", "foo", "8888", "127.0.0.1", "http://host:80", "a:b:80", "user@host:80", "ho st:80",
        "*:80", "host/x:80", "::1]:80", "x[::1]:80", " host:80", "'h':80", "fe80::1%lo/64:80"}) {
    CHECK(refusal(text) == expected_form(text));
  }
}

TEST_CASE("an endpoint's port must be a number from 0 to 65535") {
  for (const std::string text :
       {"host:65536", "host:99999999999999999999", "host:-1", "host:+1", "host: 80", "host:80 ",
        "host:http", "host:0x50", "host:80.0", "[::1]:65536", "[::1]:http", ":x"}) {
    CHECK(refusal(text) ==
          "cannot read address '" + text + "': the port must be a number from 0 to 65535");
  }
  for (const std::string text : {"host:", ":", "[::1]:"}) {
    CHECK(refusal(text).find("the port is missing") != std::string::npos);
  }
}

TEST_CASE("an endpoint's bare IPv6 host is told to use brackets") {
  for (const std::string text : {"::1", "::1:80", "::", "2001:db8::1:80", "fe80::1%lo:80"}) {
    CHECK(refusal(text) ==
          "cannot read address '" + text + "': an IPv6 address goes in brackets, as in [::1]:8888");
  }
}

TEST_CASE("an endpoint's brackets must close, hold an IPv6 address and precede a port") {
  CHECK(refusal("[::1:80").find("the ']' is missing") != std::string::npos);
  CHECK(refusal("[").find("the ']' is missing") != std::string::npos);
  for (const std::string text : {"[]:80", "[localhost]:80", "[127.0.0.1]:80", "[[::1]]:80",
                                 "[fe80::1%]:80", "[fe80::1%a b]:80", "[:::]:80"}) {
    CAPTURE(text);
    CHECK(refusal(text).find("only an IPv6 address goes in brackets") != std::string::npos);
  }
  for (const std::string text : {"[::1]", "[::1]80", "[::1]x:80"}) {
    CAPTURE(text);
    CHECK(refusal(text).find("the port is missing: write [V6]:PORT") != std::string::npos);
  }
}

TEST_CASE("an endpoint's unix name must be there, fit and hold no NUL") {
  CHECK(refusal("unix:").find("the name is missing") != std::string::npos);
  CHECK(refusal("unix:@").find("the name is missing") != std::string::npos);
  const std::string longest(107, 'x');
  CHECK(refusal("unix:" + longest).empty());
  CHECK(refusal("unix:@" + longest).empty());
  const std::string remedy = "the name is 108 bytes long and at most 107 fit: use a shorter one";
  CHECK(refusal("unix:" + longest + "x").find(remedy) != std::string::npos);
  CHECK(refusal("unix:@" + longest + "x").find(remedy) != std::string::npos);
  CHECK(refusal("unix:/run\0/x"sv) ==
        "cannot read address 'unix:/run\\x00/x': remove the NUL byte from the name");
  CHECK_FALSE(refusal("unix:@a\0"sv).empty());
}

TEST_CASE("control bytes of a refused endpoint cannot forge a line of a log") {
  CHECK(refusal("a\nb\x7f:80") == expected_form("a\\x0ab\\x7f"s + ":80"));
  CHECK(refusal("host\0:80"sv) == expected_form("host\\x00:80"));
}
