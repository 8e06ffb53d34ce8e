// peer_common.c: command line, listener, signals and messages of the peers in C and C++.
//
// Neighbours: peer_common.h declares it; the peers call it at start-up.
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
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
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

static const char* mode_words(unsigned modes) {
  if (modes == PEER_ECHO) return "[echo]";
  if (modes == PEER_LINES) return "[lines]";
  return "[echo|lines]";
}

static void print_help(const char* summary, const struct peer_options* defaults) {
  printf("usage: %s %s (--port N | --unix PATH)%s\n\n%s\n\n", program_name,
         mode_words(defaults->modes), defaults->buffers > 0 ? " [OPTION]..." : "", summary);
  if ((defaults->modes & PEER_ECHO) != 0) {
    puts("  echo                what is received goes back; the default");
  }
  if ((defaults->modes & PEER_LINES) != 0) {
    puts("  lines               each line is answered by a line of the same bytes");
  }
  puts(
      "  --port N            TCP port on 127.0.0.1; 0 picks a free one\n"
      "  --unix PATH         listen on a unix socket; a stale one at PATH is replaced");
  if (defaults->buffers > 0) {
    printf(
        "  --buffers N         receive buffers, a power of two up to %d (default %u)\n"
        "  --buffer-size BYTES size of each, %d to %d (default %u)\n",
        kMaxBuffers, defaults->buffers, kMinBufferSize, kMaxBufferSize, defaults->buffer_size);
  }
  printf(
      "  --help              this text\n\n"
      "Prints \"%s listening on 127.0.0.1:PORT\" (or unix:PATH) when it serves; ends 0 on SIGTERM\n"
      "or SIGINT.\n",
      program_name);
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

static void parse_mode(const char* word, struct peer_options* options) {
  enum peer_mode mode = 0;
  if (strcmp(word, "echo") == 0) mode = PEER_ECHO;
  if (strcmp(word, "lines") == 0) mode = PEER_LINES;
  if ((options->modes & mode) == 0) {
    char message[200];
    snprintf(message, sizeof message, "\"%.60s\" is no mode of this program; it takes %s", word,
             mode_words(options->modes));
    usage_error(message);
  }
  options->mode = mode;
}

static void check_options(const struct peer_options* options, bool have_port) {
  if (have_port == (options->unix_path != NULL)) {
    usage_error("give either --port (0 to have one picked) or --unix PATH");
  }
  if (options->unix_path != NULL &&
      strlen(options->unix_path) >= sizeof((struct sockaddr_un*)NULL)->sun_path) {
    usage_error("the path of --unix is longer than the 107 bytes that a socket address holds");
  }
  if ((options->buffers & (options->buffers - 1)) != 0) {
    usage_error("--buffers is not a power of two (such as 256 or 1024)");
  }
}

// As many descriptors as the hard limit allows: a server of 10,000 connections needs them.
static void raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);  // a lower limit serves fewer
}

void peer_parse(int argc, char** argv, const char* name, const char* summary,
                struct peer_options* options) {
  static const struct option longs[] = {
      {"port", required_argument, NULL, 'p'},    {"unix", required_argument, NULL, 'u'},
      {"buffers", required_argument, NULL, 'b'}, {"buffer-size", required_argument, NULL, 's'},
      {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
  program_name = name;
  const struct peer_options defaults = *options;
  options->mode = (options->modes & PEER_ECHO) != 0 ? PEER_ECHO : PEER_LINES;
  bool have_port = false;
  int choice;
  while ((choice = getopt_long(argc, argv, "", longs, NULL)) != -1) {
    if ((choice == 'b' || choice == 's') && defaults.buffers == 0) {
      usage_error("this program has no buffers to choose");
    }
    switch (choice) {
      case 'p':
        options->port = (uint16_t)parse_number("--port", optarg, 0, 65535);
        have_port = true;
        break;
      case 'u':
        options->unix_path = optarg;
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
  if (optind < argc) parse_mode(argv[optind++], options);
  if (optind < argc) usage_error("more than one word without an option was given");
  check_options(options, have_port);
  raise_descriptor_limit();
}

void peer_remove_stale(const char* path) {
  struct stat status;
  if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode)) (void)unlink(path);
}

static int listen_unix(const char* path, int socket_flags) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | socket_flags, 0);
  if (fd < 0) peer_die(errno, "cannot make a socket");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  peer_remove_stale(path);
  if (bind(fd, (const struct sockaddr*)&address, sizeof address) != 0 ||
      listen(fd, kBacklog) != 0) {
    peer_die(errno, "cannot listen on unix:%s", path);
  }
  return fd;
}

int peer_listen(const struct peer_options* options, int socket_flags) {
  if (options->unix_path != NULL) return listen_unix(options->unix_path, socket_flags);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | socket_flags, 0);
  if (fd < 0) peer_die(errno, "cannot make a socket");
  const int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
    peer_die(errno, "cannot set the listener's options");
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options->port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, (const struct sockaddr*)&address, sizeof address) != 0 ||
      listen(fd, kBacklog) != 0) {
    peer_die(errno, "cannot listen on 127.0.0.1:%u (give --port 0 to pick a free one)",
             options->port);
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
  union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
  } address;
  memset(&address, 0, sizeof address);
  socklen_t length = sizeof address;
  if (getsockname(listen_fd, &address.any, &length) != 0) {
    peer_die(errno, "cannot read the listener's address");
  }
  if (address.any.sa_family == AF_UNIX) {
    printf("%s listening on unix:%.*s\n", program_name, (int)sizeof address.un.sun_path,
           address.un.sun_path);
  } else {
    printf("%s listening on 127.0.0.1:%u\n", program_name, (unsigned)ntohs(address.in.sin_port));
  }
  if (fflush(stdout) != 0) peer_die(errno, "cannot write to stdout");
}
