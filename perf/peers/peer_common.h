// peer_common.h: what the raw C echo servers share: command line, listener, signals, messages.
//
// Neighbours: peer_common.c implements it; uring_echo.c and epoll_echo.c are its only users.
// Ownership: the descriptors returned here belong to the caller; nothing here is kept after
// a call returns, and nothing here runs while echoes are being served.
#pragma once

#include <stdint.h>

struct peer_options {
  uint16_t port;         // 0: the kernel picks one
  unsigned buffers;      // a power of two
  unsigned buffer_size;  // bytes
};

// Prints "NAME: message" on stderr and exits 1. err is an errno value, 0 for none.
_Noreturn void peer_die(int err, const char* format, ...) __attribute__((format(printf, 2, 3)));

// Parses the command line into options (which holds the defaults on entry). --help exits 0;
// a bad argument names itself and its remedy on stderr and exits 2.
void peer_parse(int argc, char** argv, const char* name, const char* summary,
                struct peer_options* options);

// A listening socket on 127.0.0.1:port with TCP_NODELAY, which accepted sockets inherit.
int peer_listen(uint16_t port, int socket_flags);

// Blocks SIGTERM and SIGINT and returns a descriptor that becomes readable on either.
int peer_signal_fd(void);

// Prints the one line that tells a script where to connect, and flushes it.
void peer_announce(int listen_fd);
