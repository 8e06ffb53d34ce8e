// Resolving and connecting. See dialer.hpp.
#include "perf/bench/dialer.hpp"

#include <pelton/engine/connect.hpp>
#include <pelton/engine/resolver.hpp>

namespace pelton::bench {

std::vector<SocketAddress> resolve_endpoint(const Endpoint& endpoint) {
  if (endpoint.kind == Endpoint::Kind::unix_socket) {
    const auto address = SocketAddress::unix_path(endpoint.path);
    if (!address) throw_os_error(address.error(), "cannot use '" + endpoint.to_string() + "'");
    return {*address};
  }
  const ResolveRequest request(endpoint.host, std::to_string(endpoint.port));
  auto addresses = resolve_blocking(request);
  if (!addresses) throw_os_error(addresses.error(), "cannot resolve '" + endpoint.host + "'");
  if (addresses->empty()) throw_os_error(errno_code(ENOENT), "'" + endpoint.host + "'");
  return std::move(*addresses);
}

Task<Result<OwnedFd>> Dialer::dial() {
  std::error_code error;
  for (std::size_t attempt = 0; attempt < addresses_.size(); ++attempt) {
    const std::size_t index = (good_ + attempt) % addresses_.size();
    const SocketAddress& address = addresses_[index];
    auto socket = open_socket(address.family(), SOCK_STREAM);
    if (!socket) co_return std::unexpected(socket.error());
    Result<OwnedFd> connected =
        co_await pelton::connect(Loop::running(), std::move(*socket), address);
    if (connected) {
      good_ = index;
      if (address.family() != AF_UNIX) static_cast<void>(set_no_delay(connected->get()));
      co_return std::move(connected);
    }
    error = connected.error();
  }
  co_return std::unexpected(error);
}

std::string Dialer::explain(std::error_code error) const {
  std::string text = "cannot connect to " + addresses_[good_].to_string() + ": " + error.message();
  if (error == std::errc::connection_refused || error == std::errc::no_such_file_or_directory) {
    text += " (is the server running, and at this address?)";
  } else if (error == std::errc::too_many_files_open) {
    text += " (raise `ulimit -n`, or lower --connections)";
  } else if (error == std::errc::address_not_available) {
    text += " (no local port is free: see net.ipv4.ip_local_port_range, or lower --connections)";
  }
  return text;
}

}  // namespace pelton::bench
