"""Peers that reset, close, end one side, are stopped, or are killed with -9, in each phase of a
connection.

The peer is a process of its own (puppet.py): a client of pelton-echo, a client of pelton-proxy, or
the proxy's upstream, with bulk spliced or copied. Phases: before the first byte; in the middle of
what it sends; with every buffer towards it full; while the connection closes. After each fault the
other side is told, or gets every byte; a client that has nothing to do with it is served; and no
descriptor is left.

Neighbours: faults.py makes the cases; fault_signals.py does it to the servers.
"""

import signal
import socket
import threading
import time
import unittest
import zlib

from clients import receive_all, talks
from faults import Fault, add_cases
from harness import HOST, MIB, Case, Server, sanitized
from puppet import Puppet, endless

FROM_CLIENT = endless(1)
REQUEST = FROM_CLIENT[:MIB]
FROM_UPSTREAM = endless(2)
SMALL_BUFFER = 256 * 1024  # so that little fills it
STOPPED_SECONDS = 0.1
TOLD_SECONDS = 10
PHASES = {
    "before the first byte": ["rest"],
    "while it sends": ["send 200000"],
    "with full buffers": ["fill"],
    "while it closes": ["send 200000", "end"],
}


def echo_on(sock):
    """Echoes until the other side ends or fails."""
    try:
        while data := sock.recv(65536):
            sock.sendall(data)
    except OSError:
        pass
    finally:
        sock.close()


class Stand:
    """A server, its witness (a client that goes on talking), and for a proxy its upstream, whose
    connections are accepted one by one."""

    def __init__(self, program, *options):
        self.listener = socket.create_server((HOST, 0), backlog=64)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self.listener.settimeout(TOLD_SECONDS)
        self.is_proxy = program == "pelton-proxy"
        if self.is_proxy:
            options = ("--upstream", f"{HOST}:{self.listener.getsockname()[1]}", *options)
        self.server = Server(program, [f"{HOST}:0"], *options)
        self.witness, _ = self.talker()
        talks(self.witness, b"hello")
        self.descriptors = self.server.fds()

    def connect(self):
        """A client's socket, and for a proxy the upstream's."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        client.settimeout(TOLD_SECONDS)
        client.connect(self.server.address.name)
        if not self.is_proxy:
            return client, None
        upstream, _ = self.listener.accept()
        upstream.settimeout(TOLD_SECONDS)
        return client, upstream

    def talker(self):
        """A client whose words come back, and the thread that sees to it, if any."""
        client, upstream = self.connect()
        if not upstream:
            return client, None
        upstream.settimeout(None)
        thread = threading.Thread(target=echo_on, args=(upstream,), daemon=True)
        thread.start()
        return client, thread

    def close(self):
        self.witness.close()
        try:
            if self.server.alive():
                self.server.stop()
        finally:
            self.server.close()
            self.listener.close()


class Peers(Case):
    """One fault of one peer."""

    stands = {}

    @classmethod
    def setUpClass(cls):
        cls.stands = {}

    @classmethod
    def tearDownClass(cls):
        for stand in cls.stands.values():
            stand.close()

    def stand(self, *command):
        made = self.stands.get(command)
        if made is None or not made.server.alive():
            made = self.stands[command] = Stand(*command)
        return made

    def puppet(self, sock, data, phase):
        made = Puppet(sock, data)
        self.addCleanup(made.close)
        for command in PHASES[phase]:
            said = made.do(command)
        if phase == "with full buffers":
            self.assertLess(said["sent"], len(data), "the server takes everything")
        return made

    def client(self, command, phase, fault):
        """The client is the puppet; whoever is behind the server echoes."""
        stand = self.stand(*command)
        sock, thread = stand.talker()
        puppet = self.puppet(sock, FROM_CLIENT, phase)
        if self.strikes(stand, puppet, fault):
            said = puppet.do("finish")
            self.assertEqual(said["received"], said["sent"])
            self.assertEqual(said["crc"], zlib.crc32(FROM_CLIENT[:said["sent"]]))
        if thread:
            thread.join(TOLD_SECONDS)
            self.assertFalse(thread.is_alive(), "the upstream is not told of the client's end")
        self.all_is_well(stand)

    def upstream(self, command, phase, fault):
        """The upstream of the proxy is the puppet."""
        stand = self.stand(*command)
        client, sock = stand.connect()
        self.addCleanup(client.close)
        puppet = self.puppet(sock, FROM_UPSTREAM, phase)
        if self.strikes(stand, puppet, fault):
            puppet.tell("finish")
            sender = threading.Thread(target=self.send_all, args=(client,), daemon=True)
            sender.start()
            self.assertTrue(FROM_UPSTREAM.startswith(back := receive_all(client)))
            sender.join(TOLD_SECONDS)
            said = puppet.answer()
            self.assertEqual(len(back), said["sent"])
            self.assertEqual(said["received"], len(REQUEST))
            self.assertEqual(said["crc"], zlib.crc32(REQUEST))
        else:
            self.told(client)
        client.close()
        self.all_is_well(stand)

    def send_all(self, client):
        client.sendall(REQUEST)
        client.shutdown(socket.SHUT_WR)

    def told(self, client):
        """The client gets no other bytes than the upstream's, and then the end."""
        back = b""
        try:
            while part := client.recv(MIB):
                back += part
        except TimeoutError:
            self.fail("the client is not told of the upstream's end")
        except OSError:
            pass
        self.assertTrue(FROM_UPSTREAM.startswith(back), "other bytes than the upstream sent")

    def strikes(self, stand, puppet, fault):
        """\\return whether the puppet can go on."""
        if fault == "SIGSTOP":
            puppet.signal(signal.SIGSTOP)
            talks(stand.witness, b"while it is stopped")
            time.sleep(STOPPED_SECONDS)
            puppet.signal(signal.SIGCONT)
            return True
        if fault == "half-close":
            if not puppet.ended:
                puppet.do("end")
            return True
        if fault == "kill -9":
            puppet.kill()
        else:
            puppet.do({"RST": "reset", "close": "hang_up"}[fault])
        return False

    def all_is_well(self, stand):
        talks(stand.witness, b"and still it echoes")
        self.eventually(lambda: stand.server.fds() == stand.descriptors, TOLD_SECONDS,
                        lambda: f"{stand.server.fds()} descriptors, {stand.descriptors} before: "
                                + stand.server.describe())
        client, thread = stand.talker()
        talks(client, b"a new one")
        client.close()
        if thread:
            thread.join(TOLD_SECONDS)
            self.assertFalse(thread.is_alive())


FAULTS = ("RST", "close", "half-close", "SIGSTOP", "kill -9")


def rows():
    """Everything for the echo and the splicing proxy; what ends badly for the copying one."""
    for command, sides in ((("pelton-echo",), ["client"]),
                           (("pelton-proxy",), ["client", "upstream"]),
                           (("pelton-proxy", "--splice", "off"), ["client", "upstream"])):
        for side in sides:
            for phase in PHASES:
                for fault in FAULTS:
                    few = len(command) > 1 and fault not in ("RST", "kill -9")
                    if few or (sanitized() and fault in ("close", "SIGSTOP")):
                        continue
                    check = Peers.client if side == "client" else Peers.upstream
                    yield check, Fault(f"{side} {phase}", fault, " ".join(command)), \
                        command, phase, fault


for method, *row in rows():
    add_cases(Peers, method, [row])


if __name__ == "__main__":
    unittest.main()
