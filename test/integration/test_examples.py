"""pelton's examples, the asyncio documentation's four, against Python's asyncio and http.server.

They print what asyncio's do, with or without the quotes that Python's !r puts around text.
"""

import asyncio
import http.server
import re
import signal
import threading
import time
import unittest

from harness import HOST, Case, program, unused_port

HEADERS = {"X-Buckets": "twenty two", "X-Wheel": "pelton", "X-Empty": "", "Server": "a test"}


class Headers(http.server.BaseHTTPRequestHandler):
    """Answers every path with HEADERS."""

    def answer(self):
        self.send_response_only(200)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "5")
        self.end_headers()

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()
        self.wfile.write(b"body\n")

    def log_message(self, *_):
        pass


class Examples(Case):
    """Each example is a program of its own."""

    def run_example(self, name, *arguments, timeout=20):
        made = self.process(program(name), *arguments)
        status = made.wait(timeout)
        self.assertEqual(status, 0, made.describe())
        return "\n".join(made.stdout)

    def against_asyncio(self, *message):
        """example_tcp_echo_client against asyncio.start_server(); what each side saw."""
        async def everything():
            seen = []

            async def handle(reader, writer):
                data = await reader.read(65536)
                seen.append(data)
                writer.write(data)
                await writer.drain()
                writer.close()
                await writer.wait_closed()

            server = await asyncio.start_server(handle, HOST, 0)
            port = server.sockets[0].getsockname()[1]
            child = await asyncio.create_subprocess_exec(
                program("example_tcp_echo_client"), HOST, str(port), *message,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
            try:
                out, err = await asyncio.wait_for(child.communicate(), 20)
            except BaseException:
                child.kill()
                raise
            server.close()
            return child.returncode, out.decode(), err.decode(), seen

        return asyncio.run(everything())

    def test_echo_client_against_asyncio(self):
        status, out, err, seen = self.against_asyncio("Hello from pelton")
        self.assertEqual(status, 0, out + err)
        self.assertEqual(seen, [b"Hello from pelton"])
        self.assertRegex(out, r"(?m)^Received: ['\"]?Hello from pelton['\"]?$")

    def test_echo_client_has_a_message_of_its_own(self):
        status, out, err, seen = self.against_asyncio()
        self.assertEqual(status, 0, out + err)
        self.assertEqual(len(seen), 1)
        self.assertRegex(out, rf"(?m)^Received: ['\"]?{re.escape(seen[0].decode())}['\"]?$")

    def test_echo_client_against_pelton_echo(self):
        server = self.echo()
        out = self.run_example("example_tcp_echo_client", server.address.host,
                               server.address.port, "ping")
        self.assertRegex(out, r"(?m)^Received: ['\"]?ping['\"]?$")
        server.stop()

    def test_echo_client_says_that_nobody_listens(self):
        made = self.process(program("example_tcp_echo_client"), HOST, unused_port(), "x")
        self.assertGreater(made.wait(20), 0, made.describe())
        self.assertRegex(made.stderr, r"(?i)refused")

    def test_echo_server_driven_by_asyncio(self):
        port = unused_port()
        server = self.process(program("example_tcp_echo_server"), HOST, port)
        self.wait_for(port)

        async def one(index):
            reader, writer = await asyncio.open_connection(HOST, port)
            message = f"message {index}".encode()
            writer.write(message)
            self.assertEqual(await reader.readexactly(len(message)), message)
            writer.write_eof()
            self.assertEqual(await reader.read(), b"")
            writer.close()
            await writer.wait_closed()

        async def everybody():
            async with asyncio.timeout(20):
                await asyncio.gather(*(one(index) for index in range(20)))

        asyncio.run(everybody())
        self.assertTrue(server.alive(), server.describe())
        server.signal(signal.SIGINT)
        self.assertIn(server.wait(10), (0, 130, -signal.SIGINT), server.describe())
        self.assertRegex("\n".join(server.stdout), r"message 19")

    def wait_for(self, port):
        """Until somebody accepts on the port; that connection is closed again."""
        async def knock():
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()

        for _ in range(100):
            try:
                asyncio.run(knock())
                return
            except OSError:
                time.sleep(0.1)
        self.fail(f"nobody listens on port {port}")

    def test_http_headers(self):
        server = http.server.ThreadingHTTPServer((HOST, 0), Headers)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            port = server.server_address[1]
            out = self.run_example("example_http_headers", f"http://{HOST}:{port}/path/page.html")
        finally:
            server.shutdown()
            server.server_close()
            thread.join(10)
        self.assertRegex(out, r"HTTP/1\.[01] 200")
        for name, value in HEADERS.items():
            self.assertRegex(out, rf"(?m){name}: ?{re.escape(value)}\s*$")
        self.assertNotIn("body", out)

    def test_open_socket(self):
        out = self.run_example("example_open_socket")
        self.assertRegex(out, r"(?m)^Received: b?['\"]?abc['\"]?$")


if __name__ == "__main__":
    unittest.main()
