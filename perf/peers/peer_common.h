// peer_common.h: what the peers in C and C++ share: command line, listener, signals, messages.
//
// Neighbours: peer_common.c implements it; uring_echo.c, epoll_echo.c, libuv_echo.c, asio_peer.cpp
// and pelton_lines.cpp use it at start-up.
// Ownership: the descriptors returned here belong to the caller; of a unix path only what the
// options hold is kept, and nothing here runs while messages are being served.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum peer_mode {
  PEER_ECHO = 1,   // what was received goes back
  PEER_LINES = 2,  // each line is answered by a line of the same bytes
};

struct peer_options {
  unsigned modes;         // in: the modes that this peer has, PEER_ECHO | PEER_LINES
  enum peer_mode mode;    // out: the chosen one; the first that the peer has where none was said
  uint16_t port;          // 0: the kernel picks one
  const char* unix_path;  // NULL: listen on 127.0.0.1:port
  unsigned buffers;       // a power of two; 0 on entry: the peer has no such option
  unsigned buffer_size;   // bytes
};

// Prints "NAME: message" on stderr and exits 1. err is an errno value, 0 for none.
void peer_die(int err, const char* format, ...) __attribute__((noreturn, format(printf, 2, 3)));

// Parses the command line into options (which holds the defaults on entry). --help exits 0;
// a bad argument names itself and its remedy on stderr and exits 2.
void peer_parse(int argc, char** argv, const char* name, const char* summary,
                struct peer_options* options);

// A listening socket: on the unix path where there is one, else on 127.0.0.1:port with
// TCP_NODELAY, which accepted sockets inherit.
int peer_listen(const struct peer_options* options, int socket_flags);

// Removes the socket file that an earlier process left at `path`, so that it can be bound again.
void peer_remove_stale(const char* path);

// Blocks SIGTERM and SIGINT and returns a descriptor that becomes readable on either.
int peer_signal_fd(void);

// Prints the one line that tells a script where to connect, and flushes it.
void peer_announce(int listen_fd);

#ifdef __cplusplus
}
#endif
