"""Starts servers pinned to a core, waits for their start-up line, ends them.

Neighbours: contenders.py says which commands; loads.py puts the load on what runs here.
Ownership: each server lives inside one `with serving(...)`, which starts it and ends it by its
pid, also when the load fails or the user interrupts. It dies with this process, too.
"""

import contextlib
import ctypes
import os
import re
import select
import shlex
import signal
import subprocess
import tempfile
import time

START_SECONDS = 15
STOP_SECONDS = 10
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
LISTENING = re.compile(r"\blistening on (unix:\S+|\S+:\d+)(?:.*?\bpid=(\d+))?")


class RunError(Exception):
    """A run that could not be made; its text is for the user."""


class Server:
    """One that serves: its address, its start-up line, and the process whose CPU counts."""

    def __init__(self, process, address, line, cpu_pid):
        self.process = process
        self.address = address
        self.line = line
        self.cpu_pid = cpu_pid

    @property
    def host_port(self):
        """(host, port) of a TCP address."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), port


def pinned(core):
    """What a child does before it becomes a program: stay on one core, die with its parent."""
    def prepare():
        os.sched_setaffinity(0, {core})
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return prepare


def start_up(line):
    """(address, pid or None) of a start-up line; None where it is not one."""
    match = LISTENING.search(line)
    return match and (match[1], int(match[2]) if match[2] else None)


def read_line(process, deadline):
    """The next line of a server's output; None when the deadline passed, "" when it ended."""
    line = b""
    while not line.endswith(b"\n"):  # unbuffered: a line may come in pieces
        left = deadline - time.monotonic()
        ready, _, _ = select.select([process.stdout], [], [], max(left, 0))
        if not ready:
            return None
        piece = process.stdout.readline()
        if not piece:
            break
        line += piece
    return line.decode(errors="replace")


def wait_until_serving(process, command, recognise):
    """What `recognise` makes of the first line that it knows, and that line."""
    deadline = time.monotonic() + START_SECONDS
    while line := read_line(process, deadline):
        if found := recognise(line):
            return found, line.strip()
    if line == "":  # end of file: the status follows at once
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(1)
            raise RunError(f"{shlex.join(command)} ended with status {code} before it served")
    raise RunError(f"{shlex.join(command)} printed no start-up line within {START_SECONDS} s")


def stop(process, command, clean):
    """Ends a server by SIGTERM; `clean`: it must then end with status 0."""
    if process.poll() is not None:
        raise RunError(f"{shlex.join(command)} ended by itself with status {process.returncode}")
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"{shlex.join(command)} was still there {STOP_SECONDS} s after "
                       "SIGTERM") from error
    if clean and code != 0:
        raise RunError(f"{shlex.join(command)} ended with status {code} on SIGTERM, not 0")


def end_at_all_costs(process):
    """SIGTERM, so that wrappers end what they started; SIGKILL when that does not do."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def serving(command, core, cwd, recognise=start_up, address=None, clean=True):
    """A Server, from its start-up line until SIGTERM has ended it.

    `recognise` gives (address, pid) for the line, or anything true with `address` given.
    """
    with tempfile.TemporaryFile("w+") as said:
        try:
            # A session of its own: Ctrl-C is for us, who then end the server in order.
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, bufsize=0,
                                       stdin=subprocess.DEVNULL, cwd=cwd,
                                       preexec_fn=pinned(core), start_new_session=True)
        except OSError as error:
            raise RunError(f"cannot start {shlex.join(command)}: {error}") from error
        try:
            found, line = wait_until_serving(process, command, recognise)
            pid = process.pid
            if address is None:
                address, pid = found[0], found[1] or process.pid
            yield Server(process, address, line, pid)
            stop(process, command, clean)
        except RunError as error:
            said.seek(0)
            words = said.read()[-1500:].strip()
            raise RunError(f"{error}{f': {words}' if words else ''}") from error
        finally:
            end_at_all_costs(process)
            process.stdout.close()


def run_load(command, core, cwd, timeout):
    """Runs a load to its end; its stdout. Raises RunError where it fails or takes too long."""
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, text=True, cwd=cwd,
                                   preexec_fn=pinned(core), start_new_session=True)
    except OSError as error:
        raise RunError(f"cannot start {shlex.join(command)}: {error}") from error
    try:
        out, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"{shlex.join(command)} did not end within {timeout:.0f} s") from error
    finally:
        end_at_all_costs(process)
    if process.returncode != 0:
        words = (said.strip() or out.strip())[-1500:]
        raise RunError(f"{shlex.join(command)} ended with status {process.returncode}: {words}")
    return out
