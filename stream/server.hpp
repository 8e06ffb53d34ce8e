// Server, start_server and start_unix_server: asyncio's listening side.
//
// A Server is a movable handle; one that dies open is closed. Its connections live on, each with
// its handler's task. start_server is a plain function: binding is synchronous, and so no handler
// closure ever lies in a co_await expression (GCC 12 destroys such a temporary twice).
//
// Neighbours: engine/listener.hpp accepts; reader_protocol.hpp starts the handler.
// Counterpart: asyncio.Server, asyncio.start_server, asyncio.start_unix_server of CPython 3.13.
#pragma once

#include <string_view>
#include <type_traits>
#include <vector>

#include <pelton/engine/listener.hpp>
#include <pelton/stream/reader_protocol.hpp>
#include <pelton/stream/writer.hpp>

namespace pelton {

/// Keywords of start_server, with asyncio's names and defaults.
struct ServerOptions {
  std::size_t limit = stream_limit_default;  ///< of each connection's reader, in bytes
  int family = AF_UNSPEC;
  int backlog = 100;
  bool reuse_address = true;
  bool reuse_port = false;
  bool keep_alive = false;
  bool start_serving = true;
  bool cleanup_socket = true;  ///< unix: remove the file at close, if it is still ours
};
static_assert(std::is_trivially_destructible_v<ServerOptions>);  // safe in co_await temporaries

namespace detail {

/// What a Server handle refers to; connections hold it too, listeners end with it.
class ServerCore final : public RefCounted {
 public:
  ServerCore(Loop& loop, ConnectionHandler handler, const ServerOptions& options);
  ~ServerCore() override;

  void add_socket(OwnedFd socket);
  /// Binds a unix path and remembers its inode for cleanup.
  void add_unix_path(const SocketAddress& address);
  void start_serving();
  void close() noexcept;
  void close_clients();
  void abort_clients();
  void detach(StreamReaderProtocol& protocol) noexcept;

  [[nodiscard]] Loop& loop() const noexcept { return loop_; }
  [[nodiscard]] const ConnectionHandler& handler() const noexcept { return handler_; }
  [[nodiscard]] bool closed() const noexcept { return closed_; }
  [[nodiscard]] bool serving() const noexcept { return serving_; }
  [[nodiscard]] std::vector<int> sockets() const;
  [[nodiscard]] std::size_t connection_count() const noexcept { return connection_count_; }
  [[nodiscard]] WaitList& ended() noexcept { return ended_; }
  [[nodiscard]] bool over() const noexcept { return closed_ && connection_count_ == 0; }

  std::optional<Future<>> forever;  ///< what serve_forever awaits; close() cancels it

 private:
  void on_accept(OwnedFd socket) noexcept;
  void on_trouble(std::error_code error) noexcept;
  void cleanup_paths() noexcept;

  struct UnixPath {
    std::string path;
    std::uint64_t device;
    std::uint64_t inode;
  };

  Loop& loop_;
  ConnectionHandler handler_;
  ServerOptions options_;
  std::vector<Ref<Listener>> listeners_;
  std::vector<UnixPath> paths_;
  List<StreamReaderProtocol, StreamReaderProtocol> connections_;
  std::size_t connection_count_ = 0;
  WaitList ended_;
  bool serving_ = false;
  bool closed_ = false;
};

/// Waits until a server is closed and its last connection has ended.
class ServerEndAwaiter final : public Waiter {
 public:
  explicit ServerEndAwaiter(Ref<ServerCore> core) noexcept : core_(std::move(core)) {}
  [[nodiscard]] bool await_ready() const noexcept { return core_->over(); }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept {
    park(coroutine);
    core_->ended().push_back(*this);
  }
  void await_resume() { check_cancelled(); }

 private:
  Ref<ServerCore> core_;
};

template <class Handler>
ConnectionHandler make_handler(Handler handler) {
  using Result = std::invoke_result_t<Handler&, StreamReader, StreamWriter>;
  if constexpr (std::is_same_v<Result, Task<>>) {
    return handler;
  } else {
    static_assert(std::is_void_v<Result>, "a handler returns pelton::Task<> or void");
    return [handler = std::move(handler)](StreamReader reader, StreamWriter writer) mutable {
      handler(std::move(reader), std::move(writer));
      return Task<>();
    };
  }
}

[[nodiscard]] Ref<ServerCore> listen_on(Loop& loop, ConnectionHandler handler,
                                        const std::vector<std::string>& hosts, std::uint16_t port,
                                        const ServerOptions& options);
[[nodiscard]] Ref<ServerCore> listen_on_path(Loop& loop, ConnectionHandler handler,
                                             std::string_view path, const ServerOptions& options);
[[nodiscard]] Ref<ServerCore> listen_on_socket(Loop& loop, ConnectionHandler handler,
                                               OwnedFd socket, bool is_unix,
                                               const ServerOptions& options);

}  // namespace detail

/// Sockets bound to every address of every host, each once, not listening: for servers of several
/// loops, which each take one of a set made with reuse_port. Port 0 picks one per socket.
/// \throws OSError naming the address that could not be bound or the host that does not resolve.
[[nodiscard]] std::vector<OwnedFd> bind_hosts(const std::vector<std::string>& hosts,
                                              std::uint16_t port, const ServerOptions& options);
/// A socket bound to a unix path or abstract name (leading NUL). A stale file is replaced.
/// \throws OSError "Address 'PATH' is already in use"
[[nodiscard]] OwnedFd bind_path(std::string_view path);

/// asyncio.Server. Move-only; its end closes it.
class [[nodiscard]] Server {
 public:
  explicit Server(Ref<detail::ServerCore> core) noexcept : core_(std::move(core)) {}
  Server(Server&&) noexcept = default;
  Server& operator=(Server&& other) noexcept;
  ~Server();

  /// Begins to accept, where start_serving = false put it off. Idempotent.
  /// \throws OSError  listen(2) failed.
  void start_serving() { core_->start_serving(); }
  [[nodiscard]] bool is_serving() const noexcept { return core_->serving(); }
  /// Serves until the task is cancelled or the server closed, both of which raise Cancelled
  /// after the last connection has ended.
  /// \throws RuntimeError "server <Server sockets=(...)> is closed" or "... is already being
  /// awaited
  ///         on serve_forever()".
  [[nodiscard]] Task<> serve_forever();
  /// Stops listening. Connections go on. Idempotent.
  void close() noexcept { core_->close(); }
  /// Calls close() of every connection.
  void close_clients() { core_->close_clients(); }
  /// Calls abort() of every connection.
  void abort_clients() { core_->abort_clients(); }
  /// Waits until the server is closed and every connection has ended.
  [[nodiscard]] detail::ServerEndAwaiter wait_closed() const noexcept {
    return detail::ServerEndAwaiter(core_);
  }
  /// The listening descriptors, borrowed; empty once closed.
  [[nodiscard]] std::vector<int> sockets() const { return core_->sockets(); }
  /// The bound addresses, in the order of sockets().
  [[nodiscard]] std::vector<SocketAddress> addresses() const;
  /// Connections that are open now.
  [[nodiscard]] std::size_t connection_count() const noexcept { return core_->connection_count(); }
  [[nodiscard]] std::string to_string() const;

 private:
  void let_go() noexcept;

  Ref<detail::ServerCore> core_;
};

/// Listens on every address that `host` resolves to and starts `handler` for each connection.
///
/// \param handler  `Task<>(StreamReader, StreamWriter)`, run as a task, or a plain function.
/// \param host  a name or address; "" is all interfaces, v4 and v6. A name is resolved before
///              the call returns.
/// \param port  0 picks one, which addresses() tells.
/// \throws OSError naming the address; ValueError; RuntimeError without a running loop.
template <class Handler>
Server start_server(Handler handler, std::string_view host, std::uint16_t port,
                    const ServerOptions& options = {}) {
  return Server(detail::listen_on(Loop::running(), detail::make_handler(std::move(handler)),
                                  {std::string(host)}, port, options));
}
/// The same on several hosts; addresses that occur twice are bound once.
template <class Handler>
Server start_server(Handler handler, const std::vector<std::string>& hosts, std::uint16_t port,
                    const ServerOptions& options = {}) {
  return Server(detail::listen_on(Loop::running(), detail::make_handler(std::move(handler)), hosts,
                                  port, options));
}
/// The same on a bound stream socket (asyncio's sock=), which the server owns from then on.
template <class Handler>
Server start_server(Handler handler, OwnedFd sock, const ServerOptions& options = {}) {
  return Server(detail::listen_on_socket(Loop::running(), detail::make_handler(std::move(handler)),
                                         std::move(sock), false, options));
}
/// Listens on a unix socket. A stale socket file is replaced; a leading NUL is an abstract name.
/// \throws OSError "Address 'PATH' is already in use"
template <class Handler>
Server start_unix_server(Handler handler, std::string_view path,
                         const ServerOptions& options = {}) {
  return Server(detail::listen_on_path(Loop::running(), detail::make_handler(std::move(handler)),
                                       path, options));
}
template <class Handler>
Server start_unix_server(Handler handler, OwnedFd sock, const ServerOptions& options = {}) {
  return Server(detail::listen_on_socket(Loop::running(), detail::make_handler(std::move(handler)),
                                         std::move(sock), true, options));
}

}  // namespace pelton
