// open_connection and open_unix_connection: asyncio's connecting side.
//
// Neighbours: engine/resolver.hpp (off the loop), engine/connect.hpp; reader.hpp and writer.hpp
// are what they return. Counterpart: asyncio.open_connection of CPython 3.13, without TLS.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <pelton/engine/socket.hpp>
#include <pelton/stream/writer.hpp>

namespace pelton {

/// Keywords of open_connection, with asyncio's names and defaults.
struct ConnectOptions {
  std::size_t limit = stream_limit_default;  ///< of the reader, in bytes
  int family = AF_UNSPEC;
  int flags = 0;                     ///< of the name resolution: AI_NUMERICHOST...
  std::string_view local_host = {};  ///< local_addr: where to connect from; empty for any
  std::uint16_t local_port = 0;
  bool all_errors = false;  ///< raise every failure, in an ExceptionGroup
};
static_assert(std::is_trivially_destructible_v<ConnectOptions>);  // safe in co_await temporaries

/// Connects to `host`, each of its addresses in turn, and yields reader and writer.
/// \throws OSError: the failure; the first if all have the same text; else
///         "Multiple exceptions: A, B"; ExceptionGroup "create_connection failed" with
///         all_errors. Name resolution runs on a worker thread. Cancelled leaves nothing open.
[[nodiscard]] Task<StreamPair> open_connection(std::string host, std::uint16_t port,
                                               ConnectOptions options = {});
/// The same from an already connected stream socket (asyncio's sock=), owned from then on.
/// \throws ValueError "A Stream Socket was expected, got ..."
[[nodiscard]] Task<StreamPair> open_connection(OwnedFd sock, ConnectOptions options = {});
/// Connects to a unix socket; a leading NUL is an abstract name.
[[nodiscard]] Task<StreamPair> open_unix_connection(std::string path, ConnectOptions options = {});
/// \throws ValueError "A UNIX Domain Stream Socket was expected, got ..."
[[nodiscard]] Task<StreamPair> open_unix_connection(OwnedFd sock, ConnectOptions options = {});

}  // namespace pelton
