// libuv_echo.c: the TCP echo server of libuv's user guide, as a peer.
//
// One loop, one thread. As in the guide, each read gets a buffer from malloc of the size that
// libuv suggests (64 KiB), the buffer goes into a uv_write of its own, and both are freed when
// that has ended; what a client does not read is queued without a bound. Differently from the
// guide, the end of the stream is answered by uv_shutdown, which lets queued writes leave first,
// where the guide closes at once and would drop them.
//
// Neighbours: peer_common.c (command line, announcement), epoll_echo.c (the same without libuv).
// Ownership: a client is freed by its close callback; a buffer belongs to the read until it is
// handed to a write, which frees it.
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <uv.h>

#include "peer_common.h"

enum { kBacklog = 4096 };

union stream {
  uv_handle_t handle;
  uv_stream_t stream;
  uv_tcp_t tcp;
  uv_pipe_t pipe;
};

struct write {
  uv_write_t request;
  uv_buf_t buffer;
};

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
  buffer->base = malloc(suggested_size);
  buffer->len = buffer->base != NULL ? suggested_size : 0;
}

static void on_written(uv_write_t* request, int status) {
  if (status < 0) close_client(request->handle);
  struct write* write = (struct write*)request;
  free(write->buffer.base);
  free(write);
}

static void on_shut_down(uv_shutdown_t* request, int status) {
  (void)status;
  close_client(request->handle);
  free(request);
}

// Everything that is queued is sent, and then the connection is closed.
static void finish(uv_stream_t* client) {
  uv_shutdown_t* request = malloc(sizeof *request);
  if (request == NULL || uv_shutdown(request, client, on_shut_down) < 0) {
    free(request);
    close_client(client);
  }
}

static void on_read(uv_stream_t* client, ssize_t count, const uv_buf_t* buffer) {
  struct write* write = count > 0 ? malloc(sizeof *write) : NULL;
  if (write != NULL) {
    write->buffer = uv_buf_init(buffer->base, (unsigned)count);
    if (uv_write(&write->request, client, &write->buffer, 1, on_written) == 0) return;
    free(write);
  }
  free(buffer->base);
  if (count == UV_EOF) {
    finish(client);
  } else if (count != 0) {
    close_client(client);
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
