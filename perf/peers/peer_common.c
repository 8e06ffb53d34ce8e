// peer_common.c: command line, listener, signals and messages of the raw C echo servers.
//
// Neighbours: peer_common.h declares it; uring_echo.c and epoll_echo.c call it at start-up.
// Ownership: only the program's name is remembered here, for messages.
#define _GNU_SOURCE
#include "peer_common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { kBacklog = 4096, kMaxBuffers = 32768, kMinBufferSize = 64, kMaxBufferSize = 1 << 20 };

static const char* program_name = "peer";

void peer_die(int err, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s: ", program_name);
  vfprintf(stderr, format, arguments);
  if (err != 0) fprintf(stderr, ": %s", strerror(err));
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

static void print_help(const char* summary, const struct peer_options* defaults) {
  printf(
      "usage: %s --port N [--buffers N] [--buffer-size BYTES]\n\n%s\n\n"
      "  --port N            TCP port on 127.0.0.1; 0 picks a free one\n"
      "  --buffers N         receive buffers, a power of two up to %d (default %u)\n"
      "  --buffer-size BYTES size of each, %d to %d (default %u)\n"
      "  --help              this text\n\n"
      "Prints \"%s listening on 127.0.0.1:PORT\" when it serves; ends 0 on SIGTERM or SIGINT.\n",
      program_name, summary, kMaxBuffers, defaults->buffers, kMinBufferSize, kMaxBufferSize,
      defaults->buffer_size, program_name);
}

_Noreturn static void usage_error(const char* message) {
  fprintf(stderr, "%s: %s; see %s --help\n", program_name, message, program_name);
  exit(2);
}

static unsigned parse_number(const char* option, const char* text, unsigned low, unsigned high) {
  char* end = NULL;
  errno = 0;
  const unsigned long value = strtoul(text, &end, 10);
  if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || value < low || value > high) {
    char message[200];
    snprintf(message, sizeof message, "%s \"%.60s\" is not a number from %u to %u", option, text,
             low, high);
    usage_error(message);
  }
  return (unsigned)value;
}

void peer_parse(int argc, char** argv, const char* name, const char* summary,
                struct peer_options* options) {
  static const struct option longs[] = {{"port", required_argument, NULL, 'p'},
                                        {"buffers", required_argument, NULL, 'b'},
                                        {"buffer-size", required_argument, NULL, 's'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  program_name = name;
  const struct peer_options defaults = *options;
  bool have_port = false;
  int choice;
  while ((choice = getopt_long(argc, argv, "", longs, NULL)) != -1) {
    switch (choice) {
      case 'p':
        options->port = (uint16_t)parse_number("--port", optarg, 0, 65535);
        have_port = true;
        break;
      case 'b':
        options->buffers = parse_number("--buffers", optarg, 1, kMaxBuffers);
        break;
      case 's':
        options->buffer_size =
            parse_number("--buffer-size", optarg, kMinBufferSize, kMaxBufferSize);
        break;
      case 'h':
        print_help(summary, &defaults);
        exit(0);
      default:
        usage_error("the command line was not understood");
    }
  }
  if (optind < argc) usage_error("an argument without an option was given");
  if (!have_port) usage_error("--port is missing (give 0 to have one picked)");
  if ((options->buffers & (options->buffers - 1)) != 0) {
    usage_error("--buffers is not a power of two (such as 256 or 1024)");
  }
}

int peer_listen(uint16_t port, int socket_flags) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | socket_flags, 0);
  if (fd < 0) peer_die(errno, "cannot make a socket");
  const int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
    peer_die(errno, "cannot set the listener's options");
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, (const struct sockaddr*)&address, sizeof address) != 0 ||
      listen(fd, kBacklog) != 0) {
    peer_die(errno, "cannot listen on 127.0.0.1:%u (give --port 0 to pick a free one)", port);
  }
  return fd;
}

int peer_signal_fd(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) peer_die(errno, "cannot block signals");
  const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) peer_die(errno, "cannot make a signalfd");
  return fd;
}

void peer_announce(int listen_fd) {
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  if (getsockname(listen_fd, (struct sockaddr*)&address, &length) != 0) {
    peer_die(errno, "cannot read the listener's address");
  }
  printf("%s listening on 127.0.0.1:%u\n", program_name, (unsigned)ntohs(address.sin_port));
  if (fflush(stdout) != 0) peer_die(errno, "cannot write to stdout");
}
