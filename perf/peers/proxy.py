#!/usr/bin/env python3
"""Runs HAProxy or nginx as a TCP proxy of one thread, in the foreground: a peer of pelton-proxy.

    proxy.py haproxy|haproxy_splice|nginx --upstream HOST:PORT

Writes the configuration into a temporary directory, starts the proxy on a free port of 127.0.0.1
and prints `NAME listening on 127.0.0.1:PORT pid=PID`, where PID is the process that does the work
(nginx: its one worker). SIGTERM or SIGINT ends the proxy and removes the directory; the exit
status is then 0. The settings are the proxies' defaults but for one thread, long timeouts, room
for 10,000 connections, and the half-closes that HAProxy carries over and nginx only when asked.

Neighbours: peers.py lists it; README.md compares the peers. Ownership: the proxy and its directory
belong to this process, and end with it.
"""

import argparse
import ctypes
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

CONNECTIONS = 10_000
SPLICE_PIPES = 1000
BACKLOG = 4096
START_SECONDS = 10
STOP_SECONDS = 10
ATTEMPTS = 5
SEARCH_PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)

HAPROXY = """global
    nbthread 1
    maxconn {connections}
    maxpipes {pipes}
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h{splice}
listen proxy
    bind 127.0.0.1:{port} backlog {backlog}
    server upstream {upstream}
"""
SPLICE = """
    option splice-request
    option splice-response"""

NGINX = """load_module {module};
{user}daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {directory}/pid;
error_log stderr;
events {{
    worker_connections {files};
}}
stream {{
    server {{
        listen 127.0.0.1:{port} backlog={backlog};
        proxy_pass {upstream};
        proxy_connect_timeout 10s;
        proxy_timeout 1h;
        proxy_half_close on;
        tcp_nodelay on;
    }}
}}
"""


class ProxyError(Exception):
    """Something that keeps the proxy from serving; its text is for the user."""


class Stopped(Exception):
    """A signal asked for the end."""


def parse():
    """The command line; argparse names what is wrong with it and exits 2."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=("haproxy", "haproxy_splice", "nginx"))
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT")
    options = parser.parse_args()
    match = re.fullmatch(r"[\w.-]+:(\d+)", options.upstream)
    if match is None or not 0 < int(match[1]) < 65536:
        parser.error(f"--upstream '{options.upstream}' is not HOST:PORT, such as 127.0.0.1:7000")
    return options


def room_for(connections, pipes=0):
    """How many of `connections` the limit of open files allows, beside pipes; two files each."""
    others = 2 * pipes + 200
    needed = 2 * connections + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((needed, max(needed, hard)), (hard, hard)):
        if soft >= needed:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (OSError, ValueError):
            continue
        soft = limits[0]
    if soft >= needed:
        return connections
    room = (soft - others) // 2
    print(f"proxy.py: the limit of open files, {soft}, allows {room} connections and not "
          f"{connections}; raise it with ulimit -n {needed}", file=sys.stderr)
    return room


def program(name):
    """The path of a proxy's program."""
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        raise ProxyError(f"{name} is not installed; on Debian: scripts/setup.sh --bench")
    return path


def unused_port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def haproxy_command(name, upstream, port, directory):
    """Writes HAProxy's configuration; the command that runs it."""
    path = directory / "haproxy.cfg"
    splice, pipes = (SPLICE, SPLICE_PIPES) if name == "haproxy_splice" else ("", 0)
    text = HAPROXY.format(connections=room_for(CONNECTIONS, pipes), pipes=pipes, port=port,
                          backlog=BACKLOG, splice=splice, upstream=upstream)
    path.write_text(text, encoding="utf-8")
    return [program("haproxy"), "-db", "-f", str(path)]


def nginx_command(upstream, port, directory):
    """Writes nginx's configuration; the command that runs it."""
    if not os.path.exists(STREAM_MODULE):
        raise ProxyError(f"no {STREAM_MODULE}: Debian's package libnginx-mod-stream has it "
                         "(scripts/setup.sh --bench)")
    path = directory / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    text = NGINX.format(module=STREAM_MODULE, user=user, directory=directory, port=port,
                        backlog=BACKLOG, files=2 * room_for(CONNECTIONS) + 100, upstream=upstream)
    path.write_text(text, encoding="utf-8")
    return [program("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(path)]


def end_with_parent():
    """In the child: the kernel ends it when this process dies."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def processes_of(parent):
    """The pids of a process's children."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


def listens(pid, port):
    """True once the process `pid` has a listening socket on 127.0.0.1:port."""
    wanted = f"0100007F:{port:04X}" if sys.byteorder == "little" else f"7F000001:{port:04X}"
    inodes = set()
    for line in pathlib.Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]:
        fields = line.split()
        if fields[1] == wanted and fields[3] == "0A":
            inodes.add(f"socket:[{fields[9]}]")
    try:
        descriptors = list(pathlib.Path(f"/proc/{pid}/fd").iterdir())
        return any(os.readlink(each) in inodes for each in descriptors)
    except OSError:
        return False  # it has just ended, or closed that descriptor


def worker_of(child, name, port):
    """The pid of the process that serves, once it does; None if the proxy ended instead."""
    deadline = time.monotonic() + START_SECONDS
    while child.poll() is None:
        if time.monotonic() > deadline:
            raise ProxyError(f"{name} did not listen within {START_SECONDS} s")
        pids = processes_of(child.pid) if name == "nginx" else [child.pid]
        if pids and listens(pids[0], port):
            return pids[0]
        time.sleep(0.01)
    return None


def stop(child):
    """Ends the proxy, gently and then not."""
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def serve(name, upstream, directory):
    """Runs the proxy until a signal comes."""
    said = directory / "stderr"
    for _ in range(ATTEMPTS):  # another program may take the port before the proxy does
        port = unused_port()
        if name == "nginx":
            command = nginx_command(upstream, port, directory)
        else:
            command = haproxy_command(name, upstream, port, directory)
        with said.open("wb") as out:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                     preexec_fn=end_with_parent)
        try:
            pid = worker_of(child, name, port)
            if pid is not None:
                print(f"{name} listening on 127.0.0.1:{port} pid={pid}", flush=True)
                status = child.wait()
                raise ProxyError(f"{name} ended with status {status}: {said.read_text()[-2000:]}")
        finally:
            stop(child)
        if "in use" not in said.read_text() and "cannot bind" not in said.read_text():
            break
    raise ProxyError(f"{' '.join(command)} did not start: {said.read_text()[-2000:]}")


def on_signal(*_):
    """SIGTERM and SIGINT unwind the stack, so that everything is tidied up."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # once is enough
    raise Stopped


def main():
    """Exit status 0 after a signal, 1 if the proxy does not serve."""
    options = parse()
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        with tempfile.TemporaryDirectory(prefix="pelton-proxy-") as directory:
            serve(options.name, options.upstream, pathlib.Path(directory))
    except Stopped:
        return 0
    except ProxyError as error:
        print(f"proxy.py: {error}", file=sys.stderr)
        return 1
    return 1


if __name__ == "__main__":
    sys.exit(main())
