// The resolver without a network: numeric hosts, the hosts file, and everything that is refused.
//
// No name that would go to a name server is asked for. localhost is skipped where it does not
// resolve.
#include <pelton/engine/resolver.hpp>

#include <doctest/doctest.h>
#include <netdb.h>

#include <algorithm>
#include <ostream>
#include <string>
#include <string_view>

using namespace std::string_literals;
using pelton::resolve_blocking;
using pelton::resolve_numeric;
using pelton::resolver_category;
using pelton::ResolveRequest;
using pelton::SocketAddress;

namespace {

SocketAddress address_of(std::string_view host, std::uint16_t port) {
  return SocketAddress::parse_numeric(host, port).value();
}

std::error_code eai(int code) { return {code, resolver_category()}; }

std::unexpected<std::error_code> eai_result(int code) { return std::unexpected(eai(code)); }

}  // namespace

TEST_CASE("a numeric host and port resolve to themselves") {
  const auto v4 = resolve_blocking({"127.0.0.1", "80"});
  REQUIRE(v4.has_value());
  CHECK(*v4 == std::vector{address_of("127.0.0.1", 80)});
  const auto v6 = resolve_blocking({"2001:db8::1", "65535"});
  REQUIRE(v6.has_value());
  CHECK(*v6 == std::vector{address_of("2001:db8::1", 65535)});
}

TEST_CASE("no service is port 0") {
  CHECK(resolve_blocking({"127.0.0.1", ""}).value() == std::vector{address_of("127.0.0.1", 0)});
  ResolveRequest request;
  request.flags = AI_PASSIVE;
  const auto addresses = resolve_blocking(request);
  REQUIRE(addresses.has_value());
  for (const SocketAddress& address : *addresses) CHECK(address.port() == 0);
}

TEST_CASE("the numeric path answers only what needs no resolver") {
  CHECK(resolve_numeric({"127.0.0.1", "80"}) == address_of("127.0.0.1", 80));
  CHECK(resolve_numeric({"fe80::1%3", "80"}) == address_of("fe80::1%3", 80));
  CHECK_FALSE(resolve_numeric({"localhost", "80"}).has_value());
  CHECK_FALSE(resolve_numeric({"127.0.0.1", "http"}).has_value());
  CHECK_FALSE(resolve_numeric({"127.0.0.1", "65536"}).has_value());
  CHECK_FALSE(resolve_numeric({"127.1", "80"}).has_value());
  CHECK_FALSE(resolve_numeric({"", "80"}).has_value());
  CHECK_FALSE(resolve_numeric(ResolveRequest()).has_value());

  ResolveRequest request("127.0.0.1", "80");
  request.family = AF_INET6;
  CHECK_FALSE(resolve_numeric(request).has_value());
  request.family = AF_INET;
  CHECK(resolve_numeric(request).has_value());
  request.flags = AI_PASSIVE | AI_NUMERICHOST;
  CHECK(resolve_numeric(request).has_value());
  request.flags = AI_CANONNAME;
  CHECK_FALSE(resolve_numeric(request).has_value());
  request.flags = 0;
  request.protocol = IPPROTO_UDP;
  CHECK_FALSE(resolve_numeric(request).has_value());
  request.protocol = IPPROTO_TCP;
  CHECK(resolve_numeric(request).has_value());
}

TEST_CASE("no host with AI_PASSIVE is every interface, each family once") {
  ResolveRequest request;
  request.service_or_port = "8888";
  request.flags = AI_PASSIVE;
  const auto addresses = resolve_blocking(request);
  REQUIRE(addresses.has_value());
  REQUIRE_FALSE(addresses->empty());
  CHECK(std::count(addresses->begin(), addresses->end(), address_of("0.0.0.0", 8888)) == 1);
  for (const SocketAddress& address : *addresses) {
    CHECK((address == address_of("0.0.0.0", 8888) || address == address_of("::", 8888)));
  }
}

TEST_CASE("no host without AI_PASSIVE is the loopback") {
  ResolveRequest request;
  request.service_or_port = "8888";
  request.family = AF_INET;
  CHECK(resolve_blocking(request).value() == std::vector{address_of("127.0.0.1", 8888)});
}

TEST_CASE("addresses that differ in their socket type alone are one") {
  ResolveRequest request("127.0.0.1", "80");
  request.type = 0;  // getaddrinfo then lists the address for each type
  CHECK(resolve_blocking(request).value() == std::vector{address_of("127.0.0.1", 80)});
}

TEST_CASE("localhost resolves to loopback addresses with the port, each once") {
  const auto addresses = resolve_blocking({"localhost", "80"});
  if (!addresses) {
    MESSAGE("skipped: no localhost here: " << addresses.error().message());
    return;
  }
  REQUIRE_FALSE(addresses->empty());
  for (const SocketAddress& address : *addresses) {
    CHECK(address.port() == 80);
    CHECK(std::count(addresses->begin(), addresses->end(), address) == 1);
  }
}

TEST_CASE("shorthand IPv4 goes to the resolver, as in Python") {
  CHECK(resolve_blocking({"127.1", "80"}).value() == std::vector{address_of("127.0.0.1", 80)});
}

TEST_CASE("a port that does not fit in 16 bits is EAI_SERVICE and is not cut") {
  for (const std::string service :
       {"65536", "99999", "99999999999999999999", "-1", "+80", " 80", "80 "}) {
    CAPTURE(service);
    CHECK(resolve_blocking({"127.0.0.1", service}) == eai_result(EAI_SERVICE));
    CHECK(resolve_blocking({"localhost", service}) == eai_result(EAI_SERVICE));
  }
}

TEST_CASE("a service that nobody has is EAI_SERVICE") {
  CHECK(resolve_blocking({"127.0.0.1", "no-such-service"}) == eai_result(EAI_SERVICE));
  CHECK(resolve_blocking({"127.0.0.1", "80\0"s}) == eai_result(EAI_SERVICE));
}

TEST_CASE("a host with a NUL byte is EAI_NONAME and is not cut") {
  CHECK(resolve_blocking({"127.0.0.1\0.example.org"s, "80"}) == eai_result(EAI_NONAME));
}

TEST_CASE("an empty host is a name that nobody has") {
  CHECK(resolve_blocking({"", "80"}) == eai_result(EAI_NONAME));
}

TEST_CASE("AI_NUMERICHOST refuses names without asking anybody") {
  ResolveRequest request("localhost", "80");
  request.flags = AI_NUMERICHOST;
  CHECK(resolve_blocking(request) == eai_result(EAI_NONAME));
}

TEST_CASE("a host of another family than asked for is an error of the resolver") {
  ResolveRequest request("::1", "80");
  request.family = AF_INET;
  const auto addresses = resolve_blocking(request);
  REQUIRE_FALSE(addresses.has_value());
  CHECK(addresses.error().category() == resolver_category());
}

TEST_CASE("bad hints come back as the resolver's own codes") {
  ResolveRequest request("localhost", "80");
  request.family = AF_UNIX;
  CHECK(resolve_blocking(request) == eai_result(EAI_FAMILY));
  request.family = AF_UNSPEC;
  request.type = 99;
  CHECK(resolve_blocking(request) == eai_result(EAI_SOCKTYPE));
  request.type = SOCK_STREAM;
  request.flags = 1 << 30;
  CHECK(resolve_blocking(request) == eai_result(EAI_BADFLAGS));
}

TEST_CASE("the resolver's category has getaddrinfo's words and the standard's meanings") {
  CHECK(resolver_category().name() == "resolver"s);
  CHECK(eai(EAI_NONAME).message() == ::gai_strerror(EAI_NONAME));
  CHECK(&resolver_category() == &resolver_category());
  CHECK(eai(EAI_AGAIN) == std::errc::resource_unavailable_try_again);
  CHECK(eai(EAI_MEMORY) == std::errc::not_enough_memory);
  CHECK(eai(EAI_FAMILY) == std::errc::address_family_not_supported);
  CHECK(eai(EAI_NONAME) != std::errc::not_enough_memory);
  CHECK(eai(EAI_NONAME) != pelton::errno_code(EAI_NONAME));
}

TEST_CASE("an error of the resolver is raised as an OSError with its words") {
  CHECK_THROWS_WITH_AS(pelton::throw_os_error(eai(EAI_NONAME)), ::gai_strerror(EAI_NONAME),
                       pelton::OSError);
}
