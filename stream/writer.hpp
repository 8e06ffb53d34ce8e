// StreamWriter: asyncio's StreamWriter, a handle of a connection's outgoing bytes.
//
// Move-only. It keeps the connection alive; one that dies unclosed closes it, with a warning.
// Nothing is sent inside write(): what a turn writes leaves in one send at its end.
//
// Neighbours: reader.hpp; reader_protocol.hpp, where drain() waits; proto/transport.hpp below.
// Counterpart: CPython 3.13, Lib/asyncio/streams.py.
#pragma once

#include <concepts>
#include <string>

#include <pelton/stream/reader_protocol.hpp>

namespace pelton {

class StreamWriter {
 public:
  /// drain() raises the exception of the protocol's reader.
  StreamWriter(Ref<Transport> transport, Ref<StreamReaderProtocol> protocol) noexcept;
  StreamWriter(StreamWriter&&) noexcept = default;
  StreamWriter& operator=(StreamWriter&& other) noexcept;
  ~StreamWriter();

  /// Queues bytes by reference: what a reader returned is forwarded without a copy.
  /// A lost connection drops them. \throws RuntimeError after write_eof().
  void write(Bytes data) { transport_->write(std::move(data)); }
  /// Takes a string or vector over.
  template <class Container>
  requires(std::same_as<Container, std::string> ||
           std::same_as<Container, std::vector<std::byte>>) void write(Container&& data) {
    transport_->write(Bytes::adopt(std::forward<Container>(data)));
  }
  /// Queues a copy.
  void write(std::string_view data) { transport_->write_copy(std::as_bytes(std::span(data))); }
  void write(const char* data) { write(std::string_view(data)); }
  void write(const std::string& data) { write(std::string_view(data)); }
  void write(std::span<const std::byte> data) { transport_->write_copy(data); }
  /// Writes each element of `lines`, as write() does. \throws RuntimeError after write_eof(), also
  /// for no lines.
  template <class Range>
  void writelines(Range&& lines) {
    if (transport_->eof_written()) {
      throw RuntimeError("Cannot call writelines() after write_eof()");
    }
    for (auto&& line : lines) write(std::forward<decltype(line)>(line));
  }
  /// Ends the writing side once everything is sent; reading goes on. Idempotent.
  void write_eof() { transport_->write_eof(); }
  [[nodiscard]] bool can_write_eof() const noexcept { return transport_->can_write_eof(); }

  /// Waits while more than the high-water mark is unsent, until the low-water mark is reached.
  /// \throws what the reader failed with; ConnectionResetError "Connection lost"; Cancelled.
  [[nodiscard]] detail::DrainAwaiter drain() noexcept { return {*protocol_, transport_.get()}; }
  /// drain() with a code for an error. \throws Cancelled only.
  [[nodiscard]] detail::TryDrainAwaiter try_drain() noexcept {
    return {*protocol_, transport_.get()};
  }

  /// Sends what is queued, then closes the connection. Idempotent; returns at once.
  void close() noexcept { transport_->close(); }
  [[nodiscard]] bool is_closing() const noexcept { return transport_->is_closing(); }
  /// Waits until the socket is closed. \throws what the connection was lost with; Cancelled.
  [[nodiscard]] detail::ClosedAwaiter wait_closed() noexcept {
    return detail::ClosedAwaiter(*protocol_);
  }
  /// "socket" (int, borrowed), "sockname", "peername" (SocketAddress), else `fallback`.
  [[nodiscard]] ExtraInfo get_extra_info(std::string_view name, ExtraInfo fallback = {}) const {
    return transport_->get_extra_info(name, std::move(fallback));
  }
  [[nodiscard]] Transport& transport() const noexcept { return *transport_; }
  /// False if it was moved from.
  [[nodiscard]] bool valid() const noexcept { return bool(transport_); }
  /// asyncio's repr.
  [[nodiscard]] std::string to_string() const;

 private:
  void let_go() noexcept;

  Ref<Transport> transport_;
  Ref<StreamReaderProtocol> protocol_;
};

/// What opens a connection returns.
struct StreamPair {
  StreamPair(StreamReader reader_handle, StreamWriter writer_handle) noexcept
      : reader(std::move(reader_handle)), writer(std::move(writer_handle)) {}
  StreamReader reader;
  StreamWriter writer;
};

}  // namespace pelton
