"""Python's asyncio streams against pelton-echo and pelton-proxy: bytes in, the same bytes out.

Each transfer is cut into chunks of 1 byte to 1 MB and compared by SHA-256. See clients.pump().
"""

import asyncio
import os
import unittest

from clients import echo_rounds, open_stream, pump
from harness import HOST, MIB, QUICK, Case, have_ipv6

TOTAL = (10 if QUICK else 100) * 1000 * 1000


class AsyncioAgainstEcho(Case):
    """asyncio.open_connection() as the client of pelton-echo."""

    def transfer(self, server, total=TOTAL):
        chunks = asyncio.run(pump(server.address, total, seed=11))
        self.note(f"{total // 1000000} MB in {chunks} chunks over {server.address}")

    def test_100_mb_over_ipv4(self):
        server = self.echo()
        self.transfer(server)
        server.stop()

    @unittest.skipUnless(have_ipv6(), "no IPv6 on this host")
    def test_100_mb_over_ipv6(self):
        server = self.echo(listen="[::1]:0")
        self.assertTrue(server.address.text.startswith("[::1]:"), server.address.text)
        self.transfer(server)
        server.stop()

    def test_100_mb_over_a_unix_socket(self):
        server = self.echo(listen=f"unix:{self.directory()}/echo.sock")
        self.transfer(server)
        server.stop()

    def test_an_abstract_unix_address(self):
        server = self.echo(listen=f"unix:@pelton-test-{os.getpid()}")
        self.assertTrue(server.address.text.startswith("unix:@pelton-test-"), server.address.text)
        self.transfer(server, 5 * MIB)
        server.stop()

    def test_several_listeners_at_once(self):
        directory = self.directory()
        listen = [f"{HOST}:0", f"{HOST}:0", f"unix:{directory}/a", f"unix:@pelton-b-{os.getpid()}"]
        server = self.echo(listen=listen)
        self.assertEqual(len({str(each) for each in server.addresses}), 4)
        for address in server.addresses:
            asyncio.run(pump(address, 2 * MIB, seed=3))
        figures = server.stop()
        self.assertEqual(figures["accepted"], 4)

    def test_every_interface(self):
        server = self.echo(listen=":0")
        asyncio.run(pump(server.address, MIB, seed=4))
        server.stop()

    def test_many_clients_on_two_threads(self):
        server = self.echo("--threads", "2")

        async def everybody():
            await asyncio.gather(*(pump(server.address, 2 * MIB, seed) for seed in range(16)))

        asyncio.run(everybody())
        total = asyncio.run(echo_rounds(server.address, 100, 30, lambda rng: rng.randint(1, 9000)))
        self.note(f"16 transfers of 2 MiB; then 100 clients echoed {total} bytes in turns")
        figures = server.stop()
        self.assertEqual(figures["accepted"], 116)

    def test_chunks_of_one_byte(self):
        server = self.echo()
        asyncio.run(pump(server.address, 20000, seed=5, largest=2))
        server.stop()

    def test_a_reader_limit_far_below_the_message(self):
        server = self.echo("--limit", "1024")
        self.transfer(server, 20 * MIB)
        server.stop()


class AsyncioThroughProxy(Case):
    """The same through pelton-proxy in front of pelton-echo."""

    def through(self, echo_listen, proxy_listen):
        echo = self.echo(listen=echo_listen)
        proxy = self.proxy(echo.address, listen=proxy_listen)
        chunks = asyncio.run(pump(proxy.address, TOTAL, seed=12))
        self.note(f"{TOTAL // 1000000} MB in {chunks} chunks, {proxy.address} to {echo.address}")
        proxy.stop()
        echo.stop()

    def test_100_mb_tcp_to_tcp(self):
        self.through(f"{HOST}:0", f"{HOST}:0")

    def test_100_mb_unix_to_unix(self):
        directory = self.directory()
        self.through(f"unix:{directory}/echo.sock", f"unix:{directory}/proxy.sock")

    def test_100_mb_tcp_to_unix(self):
        self.through(f"unix:{self.directory()}/echo.sock", f"{HOST}:0")

    def test_many_clients_on_two_threads(self):
        echo = self.echo("--threads", "2")
        proxy = self.proxy(echo.address, "--threads", "2")
        asyncio.run(echo_rounds(proxy.address, 100, 30, lambda rng: rng.randint(1, 9000)))
        figures = proxy.stop()
        self.assertGreaterEqual(figures["accepted"], 100)
        echo.stop()

    def figures_of(self, total, *options):
        echo = self.echo()
        proxy = self.proxy(echo.address, *options)
        asyncio.run(pump(proxy.address, total, seed=13, largest=8 * MIB))
        figures = proxy.stop()
        echo.stop()
        return figures

    def test_bulk_is_spliced_both_ways_at_once(self):
        total = 10 * TOTAL
        figures = self.figures_of(total)
        self.note(f"{figures['bytes_spliced'] * 50 // total} % of {total} bytes each way"
                  f" were spliced, in {figures['splices']} stretches")
        self.assertGreaterEqual(figures["splices"], 1)
        self.assertGreater(figures["bytes_spliced"], total // 10)

    def test_nothing_is_spliced_where_it_is_off(self):
        self.assertEqual(self.figures_of(TOTAL // 5, "--splice", "off")["splices"], 0)

    def test_an_upstream_that_refuses_ends_the_client(self):
        directory = self.directory()
        proxy = self.proxy(f"unix:{directory}/nobody.sock")

        async def ask():
            async with asyncio.timeout(10):
                reader, writer = await open_stream(proxy.address)
                try:
                    writer.write(b"hello")
                    self.assertEqual(await reader.read(), b"")
                except ConnectionError:
                    pass
                writer.close()

        for _ in range(10):
            asyncio.run(ask())
        proxy.stop()


if __name__ == "__main__":
    unittest.main()
