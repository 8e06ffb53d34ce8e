#!/usr/bin/env python3
"""One client of a redis-server: PING and wait, again and again; latencies in nanoseconds.

    redis_ping.py HOST PORT SECONDS

redis-benchmark counts latencies in steps of 8 us, which is a tenth of what is measured with one
client. This blocks in recv() for each answer, never spins, checks each, and prints one JSON object
with the percentiles of all round trips.

Neighbours: loads.py runs it, on the load's core, for the work with one client.
Ownership: one socket, closed at the end.
"""

import json
import socket
import sys
import time

PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"
STALL_SECONDS = 5


def round_trips(sock, seconds):
    """The nanoseconds of each round trip within `seconds`."""
    taken = []
    clock, send, receive = time.perf_counter_ns, sock.sendall, sock.recv
    end = clock() + int(seconds * 1e9)
    begin = clock()
    while begin < end:
        send(PING)
        answer = receive(64)
        while len(answer) < len(PONG):
            more = receive(64)
            if not more:
                raise ConnectionError("the connection was closed")
            answer += more
        now = clock()
        if answer != PONG:
            raise ConnectionError(f"not an answer to PING: {answer!r}")
        taken.append(now - begin)
        begin = now
    return taken


def percentile(ordered, percent):
    """The value below or at which so many percent of them lie, in microseconds."""
    place = min(int(len(ordered) * percent / 100), len(ordered) - 1)
    return ordered[place] / 1e3


def main(arguments):
    """Exit status: 0 done, 1 the connection failed, 2 usage."""
    if len(arguments) != 3:
        print("usage: redis_ping.py HOST PORT SECONDS", file=sys.stderr)
        return 2
    host, port, seconds = arguments[0], int(arguments[1]), float(arguments[2])
    try:
        with socket.create_connection((host, port), timeout=STALL_SECONDS) as sock:
            # SO_RCVTIMEO, not Python's own timeout, which asks poll() before every call.
            sock.settimeout(None)
            timeout = STALL_SECONDS.to_bytes(8, sys.byteorder) + bytes(8)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            started = time.perf_counter()
            taken = round_trips(sock, seconds)
            passed = time.perf_counter() - started
    except OSError as error:
        print(f"redis_ping.py: {host}:{port}: {error}", file=sys.stderr)
        return 1
    ordered = sorted(taken)
    values = {f"p{p:g}_us": percentile(ordered, p) for p in (50, 90, 99, 99.9, 99.99)}
    print(json.dumps({"requests": len(taken), "requests_per_second": len(taken) / passed,
                      "min_us": ordered[0] / 1e3, **values, "max_us": ordered[-1] / 1e3}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
