// epoll_echo.c: a TCP echo server in C straight on epoll: what the readiness model costs.
//
// One thread, level-triggered, non-blocking sockets. It blocks in epoll_wait (never spins),
// receives once per readiness event, sends at once, and only where the socket is full keeps the
// rest and waits for room, reading nothing meanwhile. scripts/bench.sh holds pelton-echo
// against it.
//
// Neighbours: peer_common.c (command line, listener, signals), uring_echo.c (the same, on
// io_uring).
// Ownership: one receive buffer serves every connection in turn; a connection owns a copy of
// only those bytes that its socket did not take.
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer_common.h"

enum { kMaxEvents = 512, kAcceptsPerEvent = 64, kAcceptRetryMs = 50 };

struct connection {
  int fd;
  char* rest;  // bytes received and not yet taken by the socket; NULL: none
  size_t rest_begin, rest_end;
};

struct server {
  int epoll_fd, listen_fd, signal_fd;
  char* buffer;
  size_t buffer_size;
  bool accept_paused;  // out of descriptors or memory: the listener is not watched for a while
  bool stop;
};

static void watch(const struct server* s, int operation, int fd, uint32_t events, void* owner) {
  struct epoll_event event = {.events = events, .data = {.ptr = owner}};
  if (epoll_ctl(s->epoll_fd, operation, fd, &event) != 0) {
    peer_die(errno, "cannot watch descriptor %d", fd);
  }
}

static void close_connection(struct connection* c) {
  (void)close(c->fd);  // takes it out of the epoll set too
  free(c->rest);
  free(c);
}

// True if the error ends the connection.
static bool is_fatal(int err) { return err != EAGAIN && err != EWOULDBLOCK && err != EINTR; }

// Bytes that the socket took, or -1 when the connection is lost.
static ssize_t send_some(const struct connection* c, const char* data, size_t size) {
  const ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
  if (sent >= 0) return sent;
  return is_fatal(errno) ? -1 : 0;
}

// Keeps what the socket did not take and waits for room instead of for data.
static bool keep_rest(const struct server* s, struct connection* c, const char* data, size_t size) {
  c->rest = malloc(size);
  if (c->rest == NULL) return false;
  memcpy(c->rest, data, size);
  c->rest_begin = 0;
  c->rest_end = size;
  watch(s, EPOLL_CTL_MOD, c->fd, EPOLLOUT, c);
  return true;
}

static void on_readable(const struct server* s, struct connection* c) {
  const ssize_t received = recv(c->fd, s->buffer, s->buffer_size, 0);
  if (received < 0 && !is_fatal(errno)) return;
  if (received <= 0) {
    close_connection(c);
    return;
  }
  const ssize_t sent = send_some(c, s->buffer, (size_t)received);
  if (sent == received) return;
  if (sent < 0 || !keep_rest(s, c, s->buffer + sent, (size_t)(received - sent))) {
    close_connection(c);
  }
}

static void on_writable(const struct server* s, struct connection* c) {
  const ssize_t sent = send_some(c, c->rest + c->rest_begin, c->rest_end - c->rest_begin);
  if (sent < 0) {
    close_connection(c);
    return;
  }
  c->rest_begin += (size_t)sent;
  if (c->rest_begin < c->rest_end) return;
  free(c->rest);
  c->rest = NULL;
  watch(s, EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
}

static void on_connection(const struct server* s, struct connection* c, uint32_t events) {
  if (c->rest != NULL) {
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) on_writable(s, c);
  } else {
    on_readable(s, c);
  }
}

static void on_listener(struct server* s) {
  for (int n = 0; n < kAcceptsPerEvent; ++n) {
    const int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
      watch(s, EPOLL_CTL_MOD, s->listen_fd, 0, &s->listen_fd);
      s->accept_paused = true;
      return;
    }
    struct connection* c = calloc(1, sizeof *c);
    if (c == NULL) {
      (void)close(fd);
      continue;
    }
    c->fd = fd;
    watch(s, EPOLL_CTL_ADD, fd, EPOLLIN, c);
  }
}

static void serve(struct server* s) {
  static struct epoll_event events[kMaxEvents];
  while (!s->stop) {
    const int timeout = s->accept_paused ? kAcceptRetryMs : -1;
    const int count = epoll_wait(s->epoll_fd, events, kMaxEvents, timeout);
    if (count < 0 && errno != EINTR) peer_die(errno, "epoll_wait failed");
    if (s->accept_paused) {
      s->accept_paused = false;
      watch(s, EPOLL_CTL_MOD, s->listen_fd, EPOLLIN, &s->listen_fd);
    }
    for (int i = 0; i < count; ++i) {
      void* owner = events[i].data.ptr;
      if (owner == &s->listen_fd) {
        on_listener(s);
      } else if (owner == &s->signal_fd) {
        s->stop = true;
      } else {
        on_connection(s, owner, events[i].events);
      }
    }
  }
}

int main(int argc, char** argv) {
  struct peer_options options = {.modes = PEER_ECHO, .buffers = 1, .buffer_size = 65536};
  peer_parse(argc, argv, "epoll_echo",
             "A TCP echo server straight on epoll: level-triggered, non-blocking, one thread.\n"
             "--buffers is accepted so that every peer takes the same command line; it has no\n"
             "effect here, where one buffer serves every connection in turn.",
             &options);
  static struct server server;
  server.signal_fd = peer_signal_fd();
  server.listen_fd = peer_listen(&options, SOCK_NONBLOCK);
  server.buffer_size = options.buffer_size;
  server.buffer = malloc(server.buffer_size);
  if (server.buffer == NULL) peer_die(ENOMEM, "cannot allocate %zu bytes", server.buffer_size);
  server.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (server.epoll_fd < 0) peer_die(errno, "cannot make an epoll instance");
  watch(&server, EPOLL_CTL_ADD, server.listen_fd, EPOLLIN, &server.listen_fd);
  watch(&server, EPOLL_CTL_ADD, server.signal_fd, EPOLLIN, &server.signal_fd);
  peer_announce(server.listen_fd);
  serve(&server);
  return 0;
}
