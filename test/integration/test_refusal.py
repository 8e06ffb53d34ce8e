"""Starts that must fail: io_uring refused, addresses taken or malformed. Exit status and message.

Neighbours: seccomp.py makes the kernel refuse io_uring; harness.py.
"""

import errno
import os
import pathlib
import re
import socket
import subprocess
import unittest
import unittest.mock

from clients import serves
from harness import HOST, Case, program, tool
from seccomp import refuse_io_uring

EX_CONFIG = 78


class IoUringRefused(Case):
    """io_uring_setup(2) fails: epoll serves, with a warning; who insists on io_uring ends with 78.

    Either message says why, and what helps.
    """

    def setUp(self):
        super().setUp()
        asked = unittest.mock.patch.dict(os.environ, {"PELTON_ENGINE": "auto"})
        asked.start()
        self.addCleanup(asked.stop)

    def refused(self, number, name, *command):
        made = self.refuses(*command, "--engine", "uring", prepare=refuse_io_uring(number))
        self.assertEqual(made.child.returncode, EX_CONFIG, made.describe())
        self.explains(made.stderr, number, name)
        self.assertFalse(any("listening" in line for line in made.stdout), made.stdout)

    def explains(self, said, number, name):
        self.assertTrue(name in said or os.strerror(number) in said,
                        f"the message does not name {name}: {said}")
        for word in (r"kernel\.io_uring_disabled", r"seccomp", r"memlock"):
            self.assertRegex(said, rf"(?i){word}")
        self.assertRegex(said, r"(?i)sysctl|--security-opt|docker|ulimit|upgrade|allow",
                         "the message names no remedy")
        self.note(re.sub(r"\s+", " ", said.strip())[:300])

    def served(self, server):
        """It serves on epoll, and warned in one line, however many threads it has."""
        self.assertEqual(server.engine, "epoll")
        serves(server.address)
        server.stop()
        warnings = [line for line in server.stderr.splitlines() if "[warn]" in line]
        self.assertEqual(len(warnings), 1, server.stderr)
        self.assertIn("epoll is used instead of io_uring", warnings[0])
        self.explains(warnings[0], errno.EPERM, "EPERM")
        self.assertIn("turned down io_uring: ", server.stderr)
        self.assertGreaterEqual(server.stopped()["turned_down"], 1)

    def test_echo_serves_on_epoll(self):
        self.served(self.echo(prepare=refuse_io_uring(errno.EPERM)))

    def test_echo_serves_on_epoll_on_two_threads(self):
        self.served(self.echo("--threads", "2", prepare=refuse_io_uring(errno.EPERM)))

    def test_proxy_serves_on_epoll(self):
        upstream = self.echo()
        self.served(self.proxy(upstream.address, prepare=refuse_io_uring(errno.EPERM)))
        upstream.stop()

    def test_epoll_can_be_asked_for(self):
        server = self.echo("--engine", "epoll")
        self.assertEqual(server.engine, "epoll")
        serves(server.address)
        server.stop()
        self.assertNotIn("[warn]", server.stderr)

    def test_a_restricted_ring_serves(self):
        server = self.echo("--restrict-ring")
        serves(server.address)
        server.stop()
        restricted = server.engine == "io_uring"
        self.assertIn(f"restricted={'yes' if restricted else 'no'}", "".join(server.stdout))
        self.assertEqual("--restrict-ring has no effect" in server.stderr, not restricted)

    def test_eperm_for_echo(self):
        self.refused(errno.EPERM, "EPERM", "pelton-echo", "--listen", f"{HOST}:0")

    def test_enosys_for_echo(self):
        self.refused(errno.ENOSYS, "ENOSYS", "pelton-echo", "--listen", f"{HOST}:0")

    def test_eperm_for_echo_on_two_threads(self):
        self.refused(errno.EPERM, "EPERM", "pelton-echo", "--listen", f"{HOST}:0",
                     "--threads", "2")

    def test_the_sysctl_is_named_where_it_refuses(self):
        """With a file in its place, in a mount namespace of the program's own."""
        sysctl = "/proc/sys/kernel/io_uring_disabled"
        script = f'mount --bind "$0" {sysctl} || exit 99; exec "$@"'
        trial = subprocess.run([tool("unshare"), "--mount", "sh", "-c", script, os.devnull, "true"],
                               capture_output=True, check=False,
                               preexec_fn=refuse_io_uring(errno.EPERM))
        if trial.returncode != 0:
            self.skipTest(f"this host mounts nothing for us: {trial.stderr.decode().strip()}")
        for value, group in (("1", True), ("2", False)):
            with self.subTest(value=value):
                file = pathlib.Path(self.directory(), value)
                file.write_text(value + "\n", encoding="utf-8")
                under = [tool("unshare"), "--mount", "sh", "-c", script, file]
                made = self.refuses("pelton-echo", "--listen", f"{HOST}:0", "--engine", "uring",
                                    under=under, prepare=refuse_io_uring(errno.EPERM))
                self.assertEqual(made.child.returncode, EX_CONFIG, made.describe())
                self.assertIn(f"io_uring_disabled={value}, ", made.stderr)
                self.assertIn("`sysctl kernel.io_uring_disabled=0` allows it", made.stderr)
                self.assertEqual("kernel.io_uring_group" in made.stderr, group)

    def test_eperm_for_proxy(self):
        self.refused(errno.EPERM, "EPERM", "pelton-proxy", "--listen", f"{HOST}:0",
                     "--upstream", f"{HOST}:9")


class AddressRefused(Case):
    """Addresses that cannot be listened on."""

    def test_a_port_in_use_is_named(self):
        server = self.echo()
        taken = str(server.address)
        made = self.refuses("pelton-echo", "--listen", taken)
        self.note(f"exit status {made.child.returncode}: {made.stderr.strip()[:200]}")
        self.assertIn(taken, made.stderr)
        self.assertRegex(made.stderr, r"(?i)in use|EADDRINUSE")
        made = self.refuses("pelton-proxy", "--listen", taken, "--upstream", f"{HOST}:9")
        self.assertIn(taken, made.stderr)
        serves(server.address)
        server.stop()

    def test_a_port_in_use_among_several(self):
        with socket.create_server((HOST, 0)) as other:
            taken = f"{HOST}:{other.getsockname()[1]}"
            made = self.refuses("pelton-echo", "--listen", f"{HOST}:0", "--listen", taken)
            self.assertIn(taken, made.stderr)

    def test_an_address_that_is_not_ours(self):
        made = self.refuses("pelton-echo", "--listen", "192.0.2.1:7777")
        self.assertIn("192.0.2.1:7777", made.stderr)

    def test_malformed_addresses_are_named(self):
        for text in ("nonsense", "127.0.0.1:70000", "127.0.0.1:x", "[::1:80", "unix:"):
            with self.subTest(address=text):
                made = self.refuses("pelton-echo", "--listen", text)
                self.assertIn(text, made.stderr)

    def test_a_file_in_the_way_is_kept(self):
        path = pathlib.Path(self.directory(), "precious")
        path.write_text("not a socket\n", encoding="utf-8")
        made = self.refuses("pelton-echo", "--listen", f"unix:{path}")
        self.assertIn(str(path), made.stderr)
        self.assertEqual(path.read_text(encoding="utf-8"), "not a socket\n")

    def test_a_unix_path_that_is_too_long(self):
        made = self.refuses("pelton-echo", "--listen", f"unix:/tmp/{'x' * 200}")
        self.assertIn("xxxxxxxx", made.stderr)


class CommandLine(Case):
    """Options that make no sense."""

    def test_an_unknown_option(self):
        self.refuses("pelton-echo", "--listen", f"{HOST}:0", "--no-such-option")

    def test_values_that_make_no_sense(self):
        for option, value in (("--threads", "many"), ("--threads", "-1"), ("--buffers", "x"),
                              ("--engine", "kqueue"), ("--batch-wait", "long"),
                              ("--busy-poll", "often"), ("--limit", "0")):
            with self.subTest(option=option, value=value):
                self.refuses("pelton-echo", "--listen", f"{HOST}:0", option, value)

    def test_a_proxy_without_an_upstream(self):
        made = self.refuses("pelton-proxy", "--listen", f"{HOST}:0")
        self.assertIn("upstream", made.stderr)

    def test_help_is_no_error(self):
        for name in ("pelton-echo", "pelton-proxy"):
            with self.subTest(program=name):
                from_help = self.run_help(name)
                self.assertIn("--listen", from_help)

    def run_help(self, name):
        made = self.process(program(name), "--help")
        self.assertEqual(made.wait(10), 0, made.describe())
        return "\n".join(made.stdout)


if __name__ == "__main__":
    unittest.main()
