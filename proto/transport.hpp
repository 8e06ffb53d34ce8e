// Transport: asyncio's transport interface, the connection as a protocol and a stream see it.
//
// A pure interface and the text-only parts of its contract. Implementations own the socket, the
// operations in flight and the write queue.
//
// Neighbours: protocol.hpp, the other side; socket_transport.hpp, the one for sockets.
// Thread rule: the loop's thread only.
#pragma once

#include <optional>
#include <string_view>
#include <variant>

#include <pelton/engine/address.hpp>
#include <pelton/engine/bytes.hpp>
#include <pelton/proto/protocol.hpp>

namespace pelton {

/// What get_extra_info answers: nothing, the file descriptor ("socket", borrowed), or an address
/// ("sockname", "peername").
using ExtraInfo = std::variant<std::monostate, int, SocketAddress>;

class Transport : public RefCounted {
 public:
  // --- asyncio's BaseTransport ---
  [[nodiscard]] virtual bool is_closing() const noexcept = 0;
  /// Stops reading, sends what is buffered, then ends with connection_lost(None). Idempotent.
  virtual void close() noexcept = 0;
  /// "socket", "sockname", "peername"; `fallback` for other names and where it is not known.
  [[nodiscard]] virtual ExtraInfo get_extra_info(std::string_view name,
                                                 ExtraInfo fallback = {}) const {
    static_cast<void>(name);
    return fallback;
  }
  virtual void set_protocol(Ref<Protocol> protocol) noexcept = 0;
  [[nodiscard]] virtual Protocol* get_protocol() const noexcept = 0;

  // --- asyncio's ReadTransport ---
  /// False for a transport whose reading cannot be paused; asyncio's NotImplementedError.
  [[nodiscard]] virtual bool can_pause_reading() const noexcept { return true; }
  [[nodiscard]] virtual bool is_reading() const noexcept = 0;
  /// No data_received until resume_reading(). Idempotent.
  virtual void pause_reading() noexcept = 0;
  /// Idempotent. What arrived meanwhile is delivered in a later turn.
  virtual void resume_reading() noexcept = 0;

  // --- asyncio's WriteTransport ---
  /// Queues `data` by reference; it leaves at the end of the turn. Never blocks, never fails:
  /// a lost connection drops it. \throws RuntimeError after write_eof().
  virtual void write(Bytes data) = 0;
  /// Queues a copy of `data`. \throws RuntimeError after write_eof().
  virtual void write_copy(std::span<const std::byte> data) = 0;
  [[nodiscard]] virtual bool can_write_eof() const noexcept = 0;
  /// Shuts the writing side down once the queue is empty. Idempotent.
  virtual void write_eof() = 0;
  /// True once write_eof() was called, from when on write() raises.
  [[nodiscard]] virtual bool eof_written() const noexcept { return false; }
  /// Drops the queue and ends with connection_lost(None).
  virtual void abort() noexcept = 0;
  /// In bytes. Only `low`: high = 4 * low. Only `high`: low = high / 4. Neither: 64 KiB, 16 KiB.
  /// \throws ValueError "high (H) must be >= low (L) must be >= 0"
  virtual void set_write_buffer_limits(std::optional<std::size_t> high = {},
                                       std::optional<std::size_t> low = {}) = 0;
  [[nodiscard]] virtual std::size_t get_write_buffer_size() const noexcept = 0;
  struct WriteLimits {
    std::size_t low;
    std::size_t high;
  };
  [[nodiscard]] virtual WriteLimits get_write_buffer_limits() const noexcept = 0;
};

}  // namespace pelton
