// Dialer: connects to the server, one connection after the other or many at a time.
//
// It remembers which of the server's addresses answered, and says why none did in words that name
// the remedy. Neighbours: worker.hpp owns one, churn.hpp uses it. Thread rule: its worker's.
#pragma once

#include <string>
#include <vector>

#include <pelton/engine/address.hpp>
#include <pelton/engine/socket.hpp>
#include <pelton/engine/task.hpp>

namespace pelton::bench {

/// The addresses of an endpoint. Blocks where a name is to be resolved.
/// \throws OSError  naming the host that has no address.
[[nodiscard]] std::vector<SocketAddress> resolve_endpoint(const Endpoint& endpoint);

class Dialer {
 public:
  explicit Dialer(const std::vector<SocketAddress>& addresses) noexcept : addresses_(addresses) {}

  /// A connected socket, TCP_NODELAY set; or the failure of the last address that was tried.
  [[nodiscard]] Task<Result<OwnedFd>> dial();
  /// The address that answered last, at first the first one.
  [[nodiscard]] const SocketAddress& address() const noexcept { return addresses_[good_]; }
  /// "cannot connect to ADDRESS: REASON", with the remedy where there is a likely one.
  [[nodiscard]] std::string explain(std::error_code error) const;

 private:
  const std::vector<SocketAddress>& addresses_;
  std::size_t good_ = 0;  ///< the address that is tried first
};

}  // namespace pelton::bench
