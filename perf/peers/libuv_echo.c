// libuv_echo.c: the TCP echo server of libuv's user guide, as a peer.
//
// One loop, one thread, and the guide's shape: alloc_cb, read_cb, write, close. It is better than
// the guide in three ways. All reads share one buffer, since libuv calls read_cb straight after
// alloc_cb, where the guide allocates 64 KiB for each read. uv_try_write sends at once; only what
// the socket does not take is copied and queued by uv_write, and reading stops until that has left,
// where the guide queues without a bound. At the end of the stream what is queued leaves first,
// where the guide would drop it.
//
// Neighbours: peer_common.c (command line, announcement), epoll_echo.c (the same without libuv).
// Ownership: a client is freed by its close callback; a queued write owns a copy of its bytes.
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "peer_common.h"

enum { kBacklog = 4096, kBufferSize = 65536 };

union stream {
  uv_handle_t handle;
  uv_stream_t stream;
  uv_tcp_t tcp;
  uv_pipe_t pipe;
};

struct rest {
  uv_write_t request;
  char data[];
};

static void on_read(uv_stream_t* client, ssize_t count, const uv_buf_t* buffer);

static void check(int result, const char* what) {
  if (result < 0) peer_die(0, "%s failed: %s", what, uv_strerror(result));
}

static void on_closed(uv_handle_t* handle) { free(handle); }

static void close_client(uv_stream_t* client) {
  uv_handle_t* handle = (uv_handle_t*)client;
  if (!uv_is_closing(handle)) uv_close(handle, on_closed);
}

static void on_allocate(uv_handle_t* handle, size_t suggested_size, uv_buf_t* buffer) {
  (void)handle;
  (void)suggested_size;
  static char memory[kBufferSize];
  *buffer = uv_buf_init(memory, sizeof memory);
}

static void on_written(uv_write_t* request, int status) {
  uv_stream_t* client = request->handle;
  free(request);  // the first member of its struct rest
  if (status < 0 || uv_read_start(client, on_allocate, on_read) < 0) close_client(client);
}

// The socket is full: keeps what it did not take, and reads on when that has left.
static void send_later(uv_stream_t* client, const char* data, size_t size) {
  struct rest* rest = malloc(sizeof *rest + size);
  if (rest == NULL) {
    close_client(client);
    return;
  }
  memcpy(rest->data, data, size);
  const uv_buf_t buffer = uv_buf_init(rest->data, (unsigned)size);
  uv_read_stop(client);
  if (uv_write(&rest->request, client, &buffer, 1, on_written) < 0) {
    free(rest);
    close_client(client);
  }
}

static void on_read(uv_stream_t* client, ssize_t count, const uv_buf_t* buffer) {
  if (count == 0) return;  // nothing to read after all
  if (count < 0) {         // the end; nothing is queued, or it would not be reading
    close_client(client);
    return;
  }
  const uv_buf_t received = uv_buf_init(buffer->base, (unsigned)count);
  int sent = uv_try_write(client, &received, 1);
  if (sent == UV_EAGAIN) sent = 0;
  if (sent < 0) {
    close_client(client);
  } else if (sent < count) {
    send_later(client, received.base + sent, (size_t)(count - sent));
  }
}

static void on_connection(uv_stream_t* server, int status) {
  if (status < 0) return;
  union stream* client = malloc(sizeof *client);
  if (client == NULL) return;
  if (server->type == UV_TCP) {
    check(uv_tcp_init(server->loop, &client->tcp), "uv_tcp_init");
  } else {
    check(uv_pipe_init(server->loop, &client->pipe, 0), "uv_pipe_init");
  }
  if (uv_accept(server, &client->stream) != 0 ||
      uv_read_start(&client->stream, on_allocate, on_read) != 0) {
    close_client(&client->stream);
  }
}

static void on_signal(uv_signal_t* watcher, int number) {
  (void)number;
  uv_stop(watcher->loop);
}

static void watch_signal(uv_loop_t* loop, uv_signal_t* watcher, int number) {
  check(uv_signal_init(loop, watcher), "uv_signal_init");
  check(uv_signal_start(watcher, on_signal, number), "uv_signal_start");
}

static void bind_server(uv_loop_t* loop, union stream* server, const struct peer_options* options) {
  if (options->unix_path != NULL) {
    check(uv_pipe_init(loop, &server->pipe, 0), "uv_pipe_init");
    peer_remove_stale(options->unix_path);
    check(uv_pipe_bind(&server->pipe, options->unix_path), "uv_pipe_bind");
    return;
  }
  struct sockaddr_in address;
  check(uv_ip4_addr("127.0.0.1", options->port, &address), "uv_ip4_addr");
  check(uv_tcp_init(loop, &server->tcp), "uv_tcp_init");
  check(uv_tcp_bind(&server->tcp, (const struct sockaddr*)&address, 0), "uv_tcp_bind");
  check(uv_tcp_nodelay(&server->tcp, 1), "uv_tcp_nodelay");  // accepted sockets inherit it
}

int main(int argc, char** argv) {
  struct peer_options options = {.modes = PEER_ECHO};
  peer_parse(argc, argv, "libuv", "The echo server of libuv's user guide.", &options);
  (void)signal(SIGPIPE, SIG_IGN);  // libuv leaves a write to a lost connection to us
  uv_loop_t* loop = uv_default_loop();
  static uv_signal_t terminate, interrupt;
  watch_signal(loop, &terminate, SIGTERM);
  watch_signal(loop, &interrupt, SIGINT);
  static union stream server;
  bind_server(loop, &server, &options);
  check(uv_listen(&server.stream, kBacklog, on_connection), "uv_listen");
  uv_os_fd_t fd;
  check(uv_fileno(&server.handle, &fd), "uv_fileno");
  peer_announce(fd);
  uv_run(loop, UV_RUN_DEFAULT);
  return 0;
}
