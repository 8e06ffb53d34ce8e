// echo_load.c: a closed-loop load for echo servers: one message in flight per connection.
//
// One thread on epoll, non-blocking sockets, which blocks in epoll_wait and never spins. Every
// byte that comes back is compared with what was sent; one wrong byte ends the run. With
// --server-pid it also reads the server's CPU time at both ends of the measuring window. The
// result is one line of JSON on stdout.
//
// Neighbours: histogram.h (latencies), cpu_time.c (the server's CPU), ../echo_compare.py (runs
// this against two servers in turn).
// Ownership: main owns the connections; `pattern` is written once and only read afterwards.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cpu_time.h"
#include "histogram.h"

enum {
  kMaxEvents = 512,
  kPatternStarts = 65536,  // a power of two: places in the pattern where a message may begin
  kReceiveChunk = 65536,
  kStallSeconds = 5,
};

static const uint64_t kSecond = 1000000000;

struct options {
  struct sockaddr_storage address;
  socklen_t address_length;
  unsigned connections, size;
  double duration, warmup;
  pid_t server_pid;  // 0: not given
};

struct connection {
  int fd;
  bool wants_room;    // EPOLLOUT is watched, too
  uint32_t begin;     // where in the pattern the message in flight begins
  uint32_t sent;      // bytes of it that the socket took
  uint32_t received;  // bytes of it that came back
  uint64_t messages;  // that came back whole
  uint64_t started;   // when the message in flight was sent
};

struct load {
  struct options options;
  struct connection* connections;
  char* pattern;
  int epoll_fd;
  uint64_t now;
  uint64_t progress;  // when a message last came back
  uint64_t requests;  // within the window
  bool measuring;
  struct histogram latencies;
};

struct window {
  uint64_t begin, end;
  struct cpu_time server_begin, server_end, load_begin, load_end;
};

_Noreturn __attribute__((format(printf, 3, 4))) static void die(int status, int err,
                                                                const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("echo_load: ", stderr);
  vfprintf(stderr, format, arguments);
  if (err != 0) fprintf(stderr, ": %s", strerror(err));
  fputc('\n', stderr);
  va_end(arguments);
  exit(status);
}

static uint64_t clock_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * kSecond + (uint64_t)t.tv_nsec;
}

// ---- the command line ----

static void print_help(void) {
  puts(
      "usage: echo_load (--connect HOST:PORT | --unix PATH) [options]\n\n"
      "A closed-loop load for an echo server: one message in flight per connection, every\n"
      "echoed byte verified. Prints one line of JSON.\n\n"
      "  --connect HOST:PORT  a numeric IPv4 address, such as 127.0.0.1:8888\n"
      "  --unix PATH          a unix socket instead\n"
      "  --connections N      default 64\n"
      "  --size BYTES         of a message, 1 to 16777216, default 64\n"
      "  --duration S         seconds measured, default 2\n"
      "  --warmup S           seconds before that, default 0.5\n"
      "  --server-pid PID     report the CPU time of this process, all its threads together\n"
      "  --help               this text\n\n"
      "Ends 0 when every byte was right, 1 on an error or a wrong byte, 2 on a bad argument.");
}

static double parse_number(const char* option, const char* text, double low, double high,
                           bool whole) {
  char* end = NULL;
  const double value = strtod(text, &end);
  const bool good = end != text && *end == '\0' && value >= low && value <= high;
  if (!good || (whole && value != (double)(uint64_t)value)) {
    die(2, 0, "%s \"%s\" is not a %snumber from %g to %.0f; see echo_load --help", option, text,
        whole ? "whole " : "", low, high);
  }
  return value;
}

static void parse_tcp(const char* text, struct options* o) {
  char host[64];
  const char* colon = strrchr(text, ':');
  struct sockaddr_in* address = (struct sockaddr_in*)&o->address;
  memset(&o->address, 0, sizeof o->address);
  const size_t length = colon != NULL ? (size_t)(colon - text) : 0;
  if (length == 0 || length >= sizeof host) {
    die(2, 0, "--connect \"%s\" is not HOST:PORT (such as 127.0.0.1:8888)", text);
  }
  memcpy(host, text, length);
  host[length] = '\0';
  if (inet_pton(AF_INET, host, &address->sin_addr) != 1) {
    die(2, 0, "--connect \"%s\": the host is not a numeric IPv4 address", text);
  }
  address->sin_family = AF_INET;
  address->sin_port = htons((uint16_t)parse_number("--connect port", colon + 1, 1, 65535, true));
  o->address_length = sizeof *address;
}

static void parse_unix(const char* path, struct options* o) {
  struct sockaddr_un* address = (struct sockaddr_un*)&o->address;
  memset(&o->address, 0, sizeof o->address);
  if (path[0] == '\0' || strlen(path) >= sizeof address->sun_path) {
    die(2, 0, "--unix \"%s\": the path must have 1 to %zu bytes", path,
        sizeof address->sun_path - 1);
  }
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, strlen(path));
  o->address_length = sizeof *address;
}

static void parse_options(int argc, char** argv, struct options* o) {
  static const struct option longs[] = {{"connect", required_argument, NULL, 'a'},
                                        {"unix", required_argument, NULL, 'u'},
                                        {"connections", required_argument, NULL, 'c'},
                                        {"size", required_argument, NULL, 's'},
                                        {"duration", required_argument, NULL, 'd'},
                                        {"warmup", required_argument, NULL, 'w'},
                                        {"server-pid", required_argument, NULL, 'p'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  *o = (struct options){.connections = 64, .size = 64, .duration = 2, .warmup = 0.5};
  int choice;
  while ((choice = getopt_long(argc, argv, "", longs, NULL)) != -1) {
    if (choice == 'a' || choice == 'u') {
      if (o->address_length != 0) die(2, 0, "give one of --connect and --unix, once");
      (choice == 'a' ? parse_tcp : parse_unix)(optarg, o);
    } else if (choice == 'c') {
      o->connections = (unsigned)parse_number("--connections", optarg, 1, 1000000, true);
    } else if (choice == 's') {
      o->size = (unsigned)parse_number("--size", optarg, 1, 16 << 20, true);
    } else if (choice == 'd') {
      o->duration = parse_number("--duration", optarg, 0.01, 3600, false);
    } else if (choice == 'w') {
      o->warmup = parse_number("--warmup", optarg, 0, 3600, false);
    } else if (choice == 'p') {
      o->server_pid = (pid_t)parse_number("--server-pid", optarg, 1, INT32_MAX, true);
    } else if (choice == 'h') {
      print_help();
      exit(0);
    } else {
      die(2, 0, "the command line was not understood; see echo_load --help");
    }
  }
  if (optind < argc) die(2, 0, "\"%s\" belongs to no option; see echo_load --help", argv[optind]);
  if (o->address_length == 0) die(2, 0, "give --connect HOST:PORT or --unix PATH");
}

// ---- start-up ----

// Random bytes, so that a message shifted, stale or another connection's does not compare equal.
static char* make_pattern(size_t size) {
  char* pattern = malloc(kPatternStarts + size);
  if (pattern == NULL) die(1, ENOMEM, "cannot allocate the pattern");
  uint64_t state = 0x9e3779b97f4a7c15;
  for (size_t i = 0; i < kPatternStarts + size; ++i) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    pattern[i] = (char)(state >> 32);
  }
  return pattern;
}

// Lets the process open as many descriptors as its hard limit allows.
static void raise_descriptor_limit(unsigned connections) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) die(1, errno, "cannot read RLIMIT_NOFILE");
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
  if (connections + 16 > limit.rlim_max) {
    die(2, 0, "--connections %u needs more descriptors than the hard limit of %" PRIu64 " allows",
        connections, (uint64_t)limit.rlim_max);
  }
}

static int connect_one(const struct options* o, unsigned index) {
  const int fd = socket(o->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die(1, errno, "cannot make socket %u of %u", index + 1, o->connections);
  const struct timeval patience = {.tv_sec = kStallSeconds, .tv_usec = 0};
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (o->address.ss_family == AF_INET) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  if (connect(fd, (const struct sockaddr*)&o->address, o->address_length) != 0) {
    die(1, errno, "connection %u of %u failed (is the server running, with room for it?)",
        index + 1, o->connections);
  }
  return fd;
}

static void watch(const struct load* l, int operation, struct connection* c) {
  struct epoll_event event = {.events = c->wants_room ? EPOLLIN | EPOLLOUT : EPOLLIN,
                              .data = {.ptr = c}};
  if (epoll_ctl(l->epoll_fd, operation, c->fd, &event) != 0) die(1, errno, "epoll_ctl failed");
}

static void open_connections(struct load* l) {
  const struct options* o = &l->options;
  raise_descriptor_limit(o->connections);
  l->pattern = make_pattern(o->size);
  l->connections = calloc(o->connections, sizeof *l->connections);
  l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (l->connections == NULL) die(1, ENOMEM, "cannot keep %u connections", o->connections);
  if (l->epoll_fd < 0) die(1, errno, "cannot make an epoll instance");
  for (unsigned i = 0; i < o->connections; ++i) {
    struct connection* c = &l->connections[i];
    c->fd = connect_one(o, i);
    watch(l, EPOLL_CTL_ADD, c);
  }
}

// ---- the load ----

static void send_more(const struct load* l, struct connection* c) {
  const uint32_t size = l->options.size;
  const ssize_t sent =
      send(c->fd, l->pattern + c->begin + c->sent, size - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent >= 0) {
    c->sent += (uint32_t)sent;
  } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
    die(1, errno, "sending on connection %td failed", c - l->connections);
  }
  const bool wants_room = c->sent < size;
  if (wants_room != c->wants_room) {
    c->wants_room = wants_room;
    watch(l, EPOLL_CTL_MOD, c);
  }
}

// Each message begins elsewhere in the pattern, by connection and by message.
static void start_message(const struct load* l, struct connection* c) {
  const uint64_t index = (uint64_t)(c - l->connections);
  c->begin = (uint32_t)((index * 7919 + c->messages * 40503) & (kPatternStarts - 1));
  c->sent = 0;
  c->received = 0;
  c->started = l->now;
  send_more(l, c);
}

_Noreturn static void mismatch(const struct load* l, const struct connection* c, const char* got,
                               size_t size) {
  const char* wanted = l->pattern + c->begin + c->received;
  size_t i = 0;
  while (i < size && got[i] == wanted[i]) ++i;
  die(1, 0,
      "wrong echo: connection %td, message %" PRIu64 ", byte %zu is 0x%02x and should be 0x%02x",
      c - l->connections, c->messages, c->received + i, (unsigned char)got[i],
      (unsigned char)wanted[i]);
}

static void receive_some(struct load* l, struct connection* c) {
  static char chunk[kReceiveChunk];
  // One byte more than is due, so that a server that answers too much is found out.
  const size_t due = l->options.size - c->received;
  const size_t room = due + 1 < sizeof chunk ? due + 1 : sizeof chunk;
  const ssize_t result = recv(c->fd, chunk, room, MSG_DONTWAIT);
  if (result < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return;
    die(1, errno, "receiving on connection %td failed", c - l->connections);
  }
  const size_t got = (size_t)result;
  if (got == 0) die(1, 0, "the server closed connection %td", c - l->connections);
  if (got > c->sent - c->received) {
    die(1, 0, "connection %td: the server sent more than it was given", c - l->connections);
  }
  if (memcmp(chunk, l->pattern + c->begin + c->received, got) != 0) mismatch(l, c, chunk, got);
  c->received += (uint32_t)got;
  if (c->received < l->options.size) return;
  l->now = clock_now();
  l->progress = l->now;
  ++c->messages;
  if (l->measuring) {
    ++l->requests;
    histogram_add(&l->latencies, l->now - c->started);
  }
  start_message(l, c);
}

// Carries the load until the clock reads `until`.
static void run_until(struct load* l, uint64_t until) {
  static struct epoll_event events[kMaxEvents];
  l->now = clock_now();
  l->progress = l->now;
  while (l->now < until) {
    const uint64_t left_ms = (until - l->now) / 1000000 + 1;
    const int timeout = left_ms < 1000 ? (int)left_ms : 1000;
    const int count = epoll_wait(l->epoll_fd, events, kMaxEvents, timeout);
    if (count < 0 && errno != EINTR) die(1, errno, "epoll_wait failed");
    for (int i = 0; i < count; ++i) {
      struct connection* c = events[i].data.ptr;
      if ((events[i].events & EPOLLOUT) != 0 && c->wants_room) send_more(l, c);
      if ((events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) receive_some(l, c);
    }
    if (count <= 0) l->now = clock_now();
    if (l->now - l->progress > kStallSeconds * kSecond) {
      die(1, 0, "no echo came back for %d seconds", kStallSeconds);
    }
  }
}

static void read_cpu(const struct options* o, struct cpu_time* server, struct cpu_time* load) {
  if (!cpu_time_of(getpid(), load)) die(1, errno, "cannot read /proc/self/task/*/schedstat");
  if (o->server_pid == 0) return;
  if (!cpu_time_of(o->server_pid, server)) {
    die(1, errno, "cannot read the CPU time of --server-pid %d", (int)o->server_pid);
  }
  if (server->running == 0) {
    die(1, 0, "--server-pid %d: its schedstat reads zero (a kernel without CONFIG_SCHED_INFO?)",
        (int)o->server_pid);
  }
}

static uint64_t nanoseconds(double seconds) { return (uint64_t)(seconds * 1e9); }

static void measure(struct load* l, struct window* w) {
  const struct options* o = &l->options;
  l->now = clock_now();
  for (unsigned i = 0; i < o->connections; ++i) start_message(l, &l->connections[i]);
  run_until(l, clock_now() + nanoseconds(o->warmup));
  read_cpu(o, &w->server_begin, &w->load_begin);
  w->begin = clock_now();
  l->measuring = true;
  run_until(l, w->begin + nanoseconds(o->duration));
  l->measuring = false;
  w->end = clock_now();
  read_cpu(o, &w->server_end, &w->load_end);
  if (l->requests == 0) die(1, 0, "not one echo came back within %g seconds", o->duration);
  if (w->server_end.running < w->server_begin.running) {
    die(1, 0, "a thread of the server ended while it was measured, so its CPU time is not known");
  }
}

// ---- the result ----

static void print_result(const struct load* l, const struct window* w) {
  const struct histogram* h = &l->latencies;
  const double length = (double)(w->end - w->begin);
  const double requests = (double)l->requests;
  printf("{\"connections\": %u, \"size\": %u, \"requests\": %" PRIu64 ", \"seconds\": %.6f, ",
         l->options.connections, l->options.size, l->requests, length / 1e9);
  printf("\"requests_per_second\": %.1f, ", requests / (length / 1e9));
  printf("\"p50_us\": %.3f, \"p90_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f, ",
         histogram_quantile(h, 0.5) / 1e3, histogram_quantile(h, 0.9) / 1e3,
         histogram_quantile(h, 0.99) / 1e3, histogram_quantile(h, 0.999) / 1e3);
  printf("\"max_us\": %.3f, ", (double)h->highest / 1e3);
  if (l->options.server_pid != 0) {
    const double running = (double)(w->server_end.running - w->server_begin.running);
    const double waiting = (double)w->server_end.waiting - (double)w->server_begin.waiting;
    printf("\"server_cpu_us_per_request\": %.4f, ", running / requests / 1e3);
    printf("\"server_cpu_percent\": %.1f, ", 100 * running / length);
    printf("\"server_wait_percent\": %.2f, ", 100 * waiting / length);
  } else {
    printf("\"server_cpu_us_per_request\": null, ");
    printf("\"server_cpu_percent\": null, \"server_wait_percent\": null, ");
  }
  printf("\"load_cpu_percent\": %.1f, ",
         100 * (double)(w->load_end.running - w->load_begin.running) / length);
  printf("\"load_wait_percent\": %.2f}\n",
         100 * (double)(w->load_end.waiting - w->load_begin.waiting) / length);
  if (fflush(stdout) != 0) die(1, errno, "cannot write to stdout");
}

int main(int argc, char** argv) {
  static struct load load;
  struct window window = {0};
  parse_options(argc, argv, &load.options);
  open_connections(&load);
  measure(&load, &window);
  print_result(&load, &window);
  return 0;
}
