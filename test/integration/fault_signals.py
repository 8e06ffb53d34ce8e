"""SIGTERM and kill -9 of pelton-echo and pelton-proxy, in each phase of a connection.

SIGTERM: what a client has begun comes to its end, and who says nothing is cut off when the drain
is over; exit status 0 and nothing left. kill -9: clients are told, and another server starts at
once on the same port or the same path.

Neighbours: fault_peers.py has the phases; test_lifecycle.py has more of the drain.
"""

import signal
import time
import unittest
import zlib

from clients import serves, talks
from faults import Fault, add_cases
from harness import HOST, Case, Server
from puppet import Puppet, endless

PHASES = {
    "before the first byte": ["rest"],
    "while a client sends": ["greet", "send 200000"],
    "with full buffers": ["greet", "fill"],
    "while it closes": ["greet", "send 200000", "end"],
}
DATA = endless(3)
PROGRAMS = ("pelton-echo", "pelton-proxy")


class Signals(Case):
    """A server, a client in some phase, and a signal."""

    @classmethod
    def setUpClass(cls):
        cls.upstream = Server("pelton-echo", [f"{HOST}:0"])
        cls.addClassCleanup(cls.upstream.close)

    def server(self, program, *options, listen=f"{HOST}:0"):
        if program == "pelton-proxy":
            options = ("--upstream", str(self.upstream.address), *options)
        return self.serve(program, listen, *options)

    def client(self, server, phase):
        sock = server.address.socket()
        sock.settimeout(None)
        puppet = Puppet(sock, DATA)
        self.addCleanup(puppet.close)
        for command in PHASES[phase]:
            puppet.do(command)
        return puppet

    def drains(self, program, phase):
        silent = phase == "before the first byte"
        server = self.server(program, "--drain-timeout", "0.3" if silent else "20")
        idle = server.fds()
        puppet = self.client(server, phase)
        if silent:
            self.eventually(lambda: server.fds() > idle, 10, "the client is not accepted")
        server.signal(signal.SIGTERM)
        if silent:
            server.ended(timeout=10)
            self.assertEqual(puppet.do("await_end"), {"received": 0})
            return
        time.sleep(0.05)
        said = puppet.do("finish")
        self.assertEqual(said["received"], said["sent"])
        self.assertEqual(said["crc"], zlib.crc32(DATA[:said["sent"]]))
        server.ended()

    def is_killed(self, program, phase, unix):
        listen = f"unix:{self.directory()}/server.sock" if unix else f"{HOST}:0"
        server = self.server(program, listen=listen)
        puppet = self.client(server, phase)
        server.kill()
        puppet.do("await_end")
        again = self.server(program, listen=str(server.address))
        self.assertEqual(str(again.address), str(server.address))
        serves(again.address)
        with again.address.socket() as sock:
            talks(sock, b"and on it goes")
        again.stop()


add_cases(Signals, Signals.drains, [
    (Fault(phase, "SIGTERM of the server", program), program, phase)
    for program in PROGRAMS for phase in PHASES])
add_cases(Signals, Signals.is_killed, [
    (Fault(phase, f"kill -9 of the server, {'unix' if unix else 'tcp'}", program),
     program, phase, unix)
    for program in PROGRAMS for phase in PHASES
    for unix in ([False, True] if phase == "while a client sends" else [False])])


if __name__ == "__main__":
    unittest.main()
