// uring_echo.c: a TCP echo server in C straight on liburing: what io_uring itself costs.
//
// One thread, one ring: multishot accept, multishot receive from one ring of provided buffers,
// sends out of those same buffers (no copy), one kernel entry per batch of completions. It is
// the yardstick that scripts/bench.sh holds pelton-echo against, so it does everything a
// correct server must (short sends, exhausted buffers, EOF, resets, full tables) and no more.
// It puts no cap on the buffers one connection may hold: it is a yardstick, not for deployment.
//
// Neighbours: peer_common.c (command line, listener, signals), epoll_echo.c (the same, on epoll).
// Ownership: a buffer is the kernel's, or in exactly one connection's queue. A connection is
// freed when no operation of its own is in flight and its queue is empty. user_data is the
// connection's address with the operation in its low bits.
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer_common.h"

enum {
  kSqEntries = 1024,
  kCqEntries = 16384,
  kBufferGroup = 1,
  kMaxPieces = 16,  // buffers that one send may carry
  kAcceptRetryMs = 50,
};

enum op { OP_ACCEPT, OP_ACCEPT_RETRY, OP_SIGNAL, OP_RECV, OP_SEND, OP_MASK = 7 };

enum { kNone = -1 };

struct connection {
  int fd;
  int32_t head, tail;  // queue of received buffers, waiting to be sent; kNone: empty
  uint32_t head_sent;  // bytes of the head that have left
  bool receiving;      // a receive is armed
  bool sending;        // a send is in flight
  bool parked;         // waits for buffers to come back
  bool ended;          // the peer has sent its last byte
  bool broken;         // the connection failed: drop what is queued
  struct connection* next_parked;
  struct msghdr message;
  struct iovec pieces[kMaxPieces];
};

struct server {
  struct io_uring ring;
  struct io_uring_buf_ring* buffer_ring;
  char* memory;
  uint32_t* length;  // of what each buffer holds, by buffer id
  int32_t* next;     // in the queue that it is in, by buffer id
  unsigned buffers, buffer_size;
  unsigned free_buffers;  // the kernel's
  unsigned returned;      // given back in this batch, not yet published
  struct connection *parked_first, *parked_last;
  struct __kernel_timespec accept_retry;
  int listen_fd, signal_fd;
  bool stop;
};

static char* buffer_at(const struct server* s, int32_t id) {
  return s->memory + (size_t)id * s->buffer_size;
}

static uint64_t tag(struct connection* c, enum op op) { return (uint64_t)(uintptr_t)c | op; }

// Never fails: a full submission queue is handed to the kernel, which empties it.
static struct io_uring_sqe* next_sqe(struct server* s) {
  struct io_uring_sqe* sqe = io_uring_get_sqe(&s->ring);
  while (sqe == NULL) {
    const int result = io_uring_submit(&s->ring);
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
      peer_die(-result, "io_uring_submit failed");
    }
    sqe = io_uring_get_sqe(&s->ring);
  }
  return sqe;
}

static void arm_accept(struct server* s) {
  struct io_uring_sqe* sqe = next_sqe(s);
  io_uring_prep_multishot_accept(sqe, s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
  io_uring_sqe_set_data64(sqe, tag(NULL, OP_ACCEPT));
}

// After an accept failed (no descriptors, no memory): try again a little later, never at once.
static void arm_accept_retry(struct server* s) {
  s->accept_retry.tv_nsec = kAcceptRetryMs * 1000000LL;
  struct io_uring_sqe* sqe = next_sqe(s);
  io_uring_prep_timeout(sqe, &s->accept_retry, 0, 0);
  io_uring_sqe_set_data64(sqe, tag(NULL, OP_ACCEPT_RETRY));
}

static void arm_signal(struct server* s) {
  struct io_uring_sqe* sqe = next_sqe(s);
  io_uring_prep_poll_add(sqe, s->signal_fd, POLLIN);
  io_uring_sqe_set_data64(sqe, tag(NULL, OP_SIGNAL));
}

static void arm_receive(struct server* s, struct connection* c) {
  struct io_uring_sqe* sqe = next_sqe(s);
  io_uring_prep_recv_multishot(sqe, c->fd, NULL, 0, 0);
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = kBufferGroup;
  io_uring_sqe_set_data64(sqe, tag(c, OP_RECV));
  c->receiving = true;
}

// One send carries the head of the queue, or as much of the queue as fits one message.
static void start_send(struct server* s, struct connection* c) {
  uint32_t skip = c->head_sent;
  size_t count = 0;
  for (int32_t id = c->head; id != kNone && count < kMaxPieces; id = s->next[id]) {
    c->pieces[count].iov_base = buffer_at(s, id) + skip;
    c->pieces[count].iov_len = s->length[id] - skip;
    skip = 0;
    ++count;
  }
  struct io_uring_sqe* sqe = next_sqe(s);
  if (count == 1) {
    io_uring_prep_send(sqe, c->fd, c->pieces[0].iov_base, c->pieces[0].iov_len, MSG_NOSIGNAL);
  } else {
    memset(&c->message, 0, sizeof c->message);
    c->message.msg_iov = c->pieces;
    c->message.msg_iovlen = count;
    io_uring_prep_sendmsg(sqe, c->fd, &c->message, MSG_NOSIGNAL);
  }
  io_uring_sqe_set_data64(sqe, tag(c, OP_SEND));
  c->sending = true;
}

static void give_back(struct server* s, int32_t id) {
  io_uring_buf_ring_add(s->buffer_ring, buffer_at(s, id), s->buffer_size, (unsigned short)id,
                        io_uring_buf_ring_mask(s->buffers), (int)s->returned);
  ++s->returned;
}

static void enqueue(struct server* s, struct connection* c, int32_t id, uint32_t length) {
  s->length[id] = length;
  s->next[id] = kNone;
  if (c->head == kNone) {
    c->head = id;
  } else {
    s->next[c->tail] = id;
  }
  c->tail = id;
}

static void drop_head(struct server* s, struct connection* c) {
  const int32_t id = c->head;
  c->head = s->next[id];
  c->head_sent = 0;
  give_back(s, id);
}

static void park(struct server* s, struct connection* c) {
  c->parked = true;
  c->next_parked = NULL;
  if (s->parked_first == NULL) {
    s->parked_first = c;
  } else {
    s->parked_last->next_parked = c;
  }
  s->parked_last = c;
}

// Takes every step that the connection's state allows; frees it when nothing is left to do.
static void advance(struct server* s, struct connection* c) {
  if (c->broken && !c->sending) {
    while (c->head != kNone) drop_head(s, c);
  }
  if (c->head != kNone && !c->sending) start_send(s, c);
  if (c->receiving || c->sending || c->parked) return;
  if (!c->ended && !c->broken) {
    arm_receive(s, c);
  } else if (c->head == kNone) {
    (void)shutdown(c->fd, SHUT_RDWR);
    (void)close(c->fd);
    free(c);
  }
}

// The peer is gone: a shutdown ends the armed receive, whose last completion frees us.
static void break_connection(struct connection* c) {
  if (c->broken) return;
  c->broken = true;
  (void)shutdown(c->fd, SHUT_RDWR);
}

static void on_receive(struct server* s, struct connection* c, const struct io_uring_cqe* cqe) {
  if ((cqe->flags & IORING_CQE_F_MORE) == 0) c->receiving = false;
  if ((cqe->flags & IORING_CQE_F_BUFFER) != 0) {
    const int32_t id = (int32_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    --s->free_buffers;
    if (cqe->res > 0 && !c->broken) {
      enqueue(s, c, id, (uint32_t)cqe->res);
    } else {
      give_back(s, id);
    }
  }
  if (cqe->res == 0) {
    c->ended = true;
  } else if (cqe->res == -ENOBUFS) {
    if (!c->receiving && !c->broken) park(s, c);
  } else if (cqe->res < 0 && cqe->res != -EINTR && cqe->res != -EAGAIN) {
    break_connection(c);
  }
  advance(s, c);
}

static void on_send(struct server* s, struct connection* c, int result) {
  c->sending = false;
  if (result <= 0 && result != -EINTR && result != -EAGAIN) break_connection(c);
  uint32_t left = result > 0 ? (uint32_t)result : 0;
  while (left > 0) {
    const uint32_t rest = s->length[c->head] - c->head_sent;
    if (left < rest) {
      c->head_sent += left;
      break;
    }
    left -= rest;
    drop_head(s, c);
  }
  advance(s, c);
}

static void on_accept(struct server* s, const struct io_uring_cqe* cqe) {
  const bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
  if (cqe->res < 0) {
    if (!more) arm_accept_retry(s);
    return;
  }
  struct connection* c = calloc(1, sizeof *c);
  if (c == NULL) {
    (void)close(cqe->res);
  } else {
    c->fd = cqe->res;
    c->head = c->tail = kNone;
    arm_receive(s, c);
  }
  if (!more) arm_accept(s);
}

static void on_completion(struct server* s, const struct io_uring_cqe* cqe) {
  struct connection* c = (struct connection*)(uintptr_t)(cqe->user_data & ~(uint64_t)OP_MASK);
  switch ((enum op)(cqe->user_data & OP_MASK)) {
    case OP_RECV:
      on_receive(s, c, cqe);
      break;
    case OP_SEND:
      on_send(s, c, cqe->res);
      break;
    case OP_ACCEPT:
      on_accept(s, cqe);
      break;
    case OP_ACCEPT_RETRY:
      arm_accept(s);
      break;
    case OP_SIGNAL:
      s->stop = true;
      break;
    case OP_MASK:
      break;
  }
}

// Publishes the buffers given back in this batch, then lets as many parked connections
// receive again as there are buffers: first come, first served, and no spin on an empty ring.
static void finish_batch(struct server* s) {
  if (s->returned > 0) {
    io_uring_buf_ring_advance(s->buffer_ring, (int)s->returned);
    s->free_buffers += s->returned;
    s->returned = 0;
  }
  for (unsigned n = s->free_buffers; n > 0 && s->parked_first != NULL; --n) {
    struct connection* c = s->parked_first;
    s->parked_first = c->next_parked;
    c->parked = false;
    advance(s, c);
  }
}

static void serve(struct server* s) {
  while (!s->stop) {
    const int result = io_uring_submit_and_wait(&s->ring, 1);
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) {
      peer_die(-result, "io_uring_submit_and_wait failed");
    }
    unsigned head;
    unsigned count = 0;
    struct io_uring_cqe* cqe;
    io_uring_for_each_cqe(&s->ring, head, cqe) {
      on_completion(s, cqe);
      ++count;
    }
    io_uring_cq_advance(&s->ring, count);
    finish_batch(s);
  }
}

static void make_ring(struct server* s) {
  struct io_uring_params params = {
      .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
               IORING_SETUP_CQSIZE,
      .cq_entries = kCqEntries,
  };
  const int result = io_uring_queue_init_params(kSqEntries, &s->ring, &params);
  if (result < 0) {
    peer_die(-result,
             "cannot make an io_uring (needs Linux 6.1, kernel.io_uring_disabled=0, a seccomp "
             "profile that allows it, and enough locked memory: see ulimit -l)");
  }
  const int registered = io_uring_register_ring_fd(&s->ring);
  if (registered < 0) peer_die(-registered, "cannot register the ring's descriptor");
}

static void* map_memory(size_t bytes) {
  void* memory =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) {
    peer_die(errno, "cannot map %zu bytes of buffers (give fewer or smaller ones)", bytes);
  }
  return memory;
}

static void make_buffers(struct server* s, const struct peer_options* options) {
  s->buffers = options->buffers;
  s->buffer_size = options->buffer_size;
  s->memory = map_memory((size_t)s->buffers * s->buffer_size);
  s->length = calloc(s->buffers, sizeof *s->length);
  s->next = calloc(s->buffers, sizeof *s->next);
  if (s->length == NULL || s->next == NULL) peer_die(ENOMEM, "cannot keep %u buffers", s->buffers);
  s->buffer_ring = map_memory(s->buffers * sizeof(struct io_uring_buf));
  struct io_uring_buf_reg registration = {.ring_addr = (uint64_t)(uintptr_t)s->buffer_ring,
                                          .ring_entries = s->buffers,
                                          .bgid = kBufferGroup};
  const int result = io_uring_register_buf_ring(&s->ring, &registration, 0);
  if (result < 0) peer_die(-result, "cannot register a ring of %u buffers", s->buffers);
  io_uring_buf_ring_init(s->buffer_ring);
  for (unsigned id = 0; id < s->buffers; ++id) give_back(s, (int32_t)id);
  finish_batch(s);
}

int main(int argc, char** argv) {
  struct peer_options options = {.modes = PEER_ECHO, .buffers = 1024, .buffer_size = 4096};
  peer_parse(argc, argv, "uring_echo",
             "A TCP echo server straight on liburing: multishot accept and receive, a ring of\n"
             "provided buffers, one thread. The yardstick for pelton-echo.",
             &options);
  static struct server server;
  server.signal_fd = peer_signal_fd();
  server.listen_fd = peer_listen(&options, 0);
  make_ring(&server);
  make_buffers(&server, &options);
  arm_signal(&server);
  arm_accept(&server);
  peer_announce(server.listen_fd);
  serve(&server);
  io_uring_queue_exit(&server.ring);
  return 0;
}
