"""Seeded scripts for the stream oracles: what compare.py feeds to both sides.

Script `index` of seed `seed` depends on these two alone, so that any one can be made again.
cpython_oracle.py describes the commands. The weights lean on what readers get wrong: limits that
are a few bytes, separators that overlap themselves or each other and arrive in pieces, counts at
and around the buffered size, reads that meet a pending one, ends and errors in odd places.
"""

import random

FIXED_SEPARATORS = [
    [b"\n"], [b"\r\n"], [b"a"], [b"aa"], [b"aba"], [b"aab"], [b"abab"], [b"\r\n\r\n"],
    [b"\n", b"\r\n"], [b"\r", b"\n", b"\r\n"], [b"b", b"ab"], [b"ab", b"b"], [b"aa", b"aaa"],
    [b"abc", b"bcd", b"c"], [b"aab", b"ab", b"b"], [b"abcd", b"bc"], [b"x", b"longseparator"],
    [b"a", b"a"], [b"\n", b"aaaaaaaa\n"], [b"ba", b"ab"],
]
ALPHABETS = [b"a", b"ab", b"abc", b"a\n", b"ab\r\n", b"abcdx\n", bytes(range(256))]
ERRORS = ["Connection lost", "reset", "[Errno 104] Connection reset by peer", "broken: pipe, 1"]
COMMANDS = {
    "feed": 44, "read": 11, "readline": 9, "readexactly": 9, "readuntil": 15,
    "cancel": 5, "eof": 2.2, "exception": 1.2, "comment": 0.3,
}
NAMES, WEIGHTS = list(COMMANDS), list(COMMANDS.values())


class Generator:
    """One script. `lines()` is all that is asked of it."""

    def __init__(self, seed, index):
        self.rng = random.Random(f"{seed}:{index}")
        rng = self.rng
        self.limit = self.pick_limit()
        self.alphabet = rng.choice(ALPHABETS)
        self.separators = self.pick_separators()
        self.buffered = 0   # a guess, good enough to aim counts at
        self.owed = []      # pieces of a separator that later feeds bring

    def pick_limit(self):
        roll = self.rng.random()
        if roll < 0.55:
            return self.rng.randint(1, 8)
        if roll < 0.90:
            return self.rng.randint(1, 64)
        return self.rng.choice([100, 255, 256, 1000, 4096, 65536])

    def pick_separators(self):
        rng = self.rng
        if rng.random() < 0.6:
            return rng.choice(FIXED_SEPARATORS)
        return [bytes(rng.choices(self.alphabet, k=rng.choice([1, 1, 2, 2, 3, 4, 7])))
                for _ in range(rng.choice([1, 1, 2, 2, 3, 5]))]

    def lines(self):
        rng = self.rng
        made = [f"new {self.limit}"]
        left = rng.randint(4, 26)
        while left > 0:
            name = rng.choices(NAMES, WEIGHTS)[0]
            made.append(getattr(self, "make_" + name)())
            left -= 1
            if name in ("eof", "exception"):
                left = min(left, rng.randint(1, 6))  # little can happen after these
        if rng.random() < 0.3:
            made.append("eof")
            made.append(self.make_read())
        return made

    def make_feed(self):
        data = self.payload()
        self.buffered += len(data)
        return f"feed {data.hex()}" if data else "feed"

    def payload(self):
        rng = self.rng
        if rng.random() < 0.02:
            return b""
        data = bytearray()
        if self.owed:
            data += self.owed.pop()
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            data += self.piece()
        if self.limit > 256 and rng.random() < 0.1:
            data += bytes(rng.choices(self.alphabet, k=rng.randint(1, 3 * min(self.limit, 1500))))
        return bytes(data)

    def piece(self):
        rng = self.rng
        separator = rng.choice(self.separators)
        roll = rng.random()
        if roll < 0.45:
            span = min(self.limit, 70)
            size = rng.choice([1, 2, rng.randint(1, 6), span, span + 1, rng.randint(1, 3 * span)])
            return bytes(rng.choices(self.alphabet, k=size))
        if roll < 0.65 or len(separator) < 2:
            return separator
        cut = rng.randint(1, len(separator) - 1)
        if roll < 0.85:
            self.owed.append(separator[cut:])
        return separator[:cut]

    def count(self):
        rng = self.rng
        near = [self.limit, self.limit + 1, 2 * self.limit, 2 * self.limit + 1, self.buffered,
                self.buffered + 1, rng.randint(1, 12), rng.randint(1, 3 * self.limit), 100000]
        return max(1, rng.choice(near))

    def make_read(self):
        roll = self.rng.random()
        if roll < 0.07:
            return "read 0"
        if roll < 0.17:
            return f"read {self.rng.choice([-1, -1, -1, -2, -1000])}"
        count = self.count()
        self.buffered = max(0, self.buffered - count)
        return f"read {count}"

    def make_readline(self):
        return "readline"

    def make_readexactly(self):
        roll = self.rng.random()
        if roll < 0.05:
            return "readexactly 0"
        if roll < 0.10:
            return f"readexactly {self.rng.choice([-1, -2, -65536])}"
        count = self.count()
        if count <= self.buffered:
            self.buffered -= count
        return f"readexactly {count}"

    def make_readuntil(self):
        rng = self.rng
        roll = rng.random()
        if roll < 0.02:
            return "readuntil"
        chosen = list(self.separators)
        if roll < 0.04:
            chosen.insert(rng.randrange(len(chosen) + 1), b"")
        elif roll < 0.20:
            chosen = [rng.choice(chosen)]
        elif roll < 0.30:
            chosen.append(b"\n")
        rng.shuffle(chosen)
        if chosen == [b""]:
            return "readuntil"
        return "readuntil " + ",".join(each.hex() for each in chosen)

    def make_cancel(self):
        return "cancel"

    def make_eof(self):
        return "eof"

    def make_exception(self):
        return f"exception {self.rng.choice(ERRORS)}"

    def make_comment(self):
        return f"# {self.rng.choice(['feed 61', 'a comment', 'new 0'])}"


def script(seed, index):
    """The lines of script `index` of seed `seed`; the first is its `new LIMIT`."""
    return Generator(seed, index).lines()
