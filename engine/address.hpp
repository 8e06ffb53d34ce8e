// Socket addresses as values, and the ADDR of the command lines.
//
// SocketAddress holds an IPv4, an IPv6 or a unix address in the kernel's own layout, ready for a
// system call or an SQE. Endpoint is what a user writes (`:8888`, `unix:/run/echo`): text that has
// been checked and not yet been resolved. Nothing here asks a name server; engine/resolver.hpp
// does.
//
// Both are plain values that own all they hold. No shared state: use them on any thread.
#pragma once

#include <pelton/engine/error.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pelton {

/// The longest unix path, and the longest abstract name behind its NUL: `sun_path` less one byte.
inline constexpr std::size_t unix_path_bytes_max = sizeof(sockaddr_un::sun_path) - 1;

/// An IPv4, IPv6, unix path, abstract unix or unnamed unix address.
class SocketAddress {
 public:
  /// No address: family() is AF_UNSPEC and size() is 0.
  SocketAddress() noexcept;

  /// \param host  In network byte order, as in_addr has it.
  /// \param port  In host byte order.
  [[nodiscard]] static SocketAddress ipv4(in_addr host, std::uint16_t port) noexcept;

  /// \param port      In host byte order.
  /// \param scope_id  The interface index of a link-local address, else 0.
  [[nodiscard]] static SocketAddress ipv6(const in6_addr& host, std::uint16_t port,
                                          std::uint32_t scope_id = 0) noexcept;

  /// A unix address. As in Python, a leading NUL makes the name abstract; its bytes, NULs included,
  /// are then taken as they are.
  /// \return ENAMETOOLONG for more than unix_path_bytes_max bytes (an abstract name's first NUL not
  ///     counted); EINVAL for an empty path and for a NUL inside one.
  [[nodiscard]] static Result<SocketAddress> unix_path(std::string_view path) noexcept;

  /// A copy of what a system call gave. A unix address of two bytes is an unnamed one.
  /// \return EINVAL if `size` is too small for the family (or `address` is null), EAFNOSUPPORT for
  ///     families other than AF_INET, AF_INET6 and AF_UNIX.
  [[nodiscard]] static Result<SocketAddress> from_sockaddr(const sockaddr* address,
                                                           socklen_t size) noexcept;

  /// The address that a numeric host denotes; asks nobody and never blocks.
  /// \param host  "127.0.0.1", "::1", "fe80::1%eth0" or "fe80::1%2"; no brackets. As in glibc, a
  ///     zone of digits suits any IPv6 address, a zone's name only a link-local one.
  /// \return Nothing if `host` is not numeric or names an interface that does not exist.
  [[nodiscard]] static std::optional<SocketAddress> parse_numeric(std::string_view host,
                                                                  std::uint16_t port) noexcept;

  /// AF_INET, AF_INET6, AF_UNIX, or AF_UNSPEC for no address.
  [[nodiscard]] int family() const noexcept { return storage_.any.sa_family; }
  /// For system calls and SQEs; valid as long as this object is and is not assigned to.
  [[nodiscard]] const sockaddr* data() const noexcept { return &storage_.any; }
  [[nodiscard]] socklen_t size() const noexcept { return size_; }

  /// The numeric host, with "%INDEX" where there is a scope id. Empty for a unix address.
  [[nodiscard]] std::string host() const;
  /// In host byte order. 0 for a unix address.
  [[nodiscard]] std::uint16_t port() const noexcept;
  /// The scope id of an IPv6 address, else 0.
  [[nodiscard]] std::uint32_t scope_id() const noexcept;
  /// The unix path; an abstract name with its leading NUL; empty if unnamed or not AF_UNIX.
  [[nodiscard]] std::string path() const;
  /// True for a unix address whose name is abstract.
  [[nodiscard]] bool is_abstract() const noexcept;

  /// "127.0.0.1:80", "[::1]:80", "unix:/path", "unix:@abstract", "unix:" for an unnamed one,
  /// "unspecified" for none. Control bytes of a unix name are written \xNN.
  [[nodiscard]] std::string to_string() const;

  /// Same family, host, port and scope id; or the same unix name.
  friend bool operator==(const SocketAddress& left, const SocketAddress& right) noexcept;

 private:
  [[nodiscard]] std::string_view unix_name() const noexcept;

  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
    sockaddr_un un;
  } storage_;
  socklen_t size_ = 0;
};

/// Where to listen or to connect, as a command line or a configuration file has it.
struct Endpoint {
  /// `unix_socket`, because GNU modes define `unix` as a macro.
  enum class Kind { tcp, unix_socket };

  Endpoint() = default;

  /// Reads `HOST:PORT`, `[V6]:PORT`, `:PORT`, `unix:PATH` or `unix:@ABSTRACT`.
  /// Checks the form only: no name is looked up, neither a host's nor a zone's.
  /// \throws ValueError  The message names the input and the remedy.
  [[nodiscard]] static Endpoint parse(std::string_view text);

  /// The form that parse() reads.
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;

  Kind kind = Kind::tcp;
  /// A name or a numeric host without brackets. Empty means all interfaces.
  std::string host;
  /// 0 lets the kernel pick one.
  std::uint16_t port = 0;
  /// As SocketAddress::unix_path() takes it: an abstract name starts with NUL.
  std::string path;
};

}  // namespace pelton
