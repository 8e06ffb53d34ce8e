// CPython's test_streams.py: feeding, read and readline. Each case has its name there.
//
// Neighbours: ported_streams_until_test.cpp, ported_streams_network_test.cpp, and PORTED.md,
// which lists what has no counterpart.
#include <doctest/doctest.h>

#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

constexpr std::string_view lines = "line1\nline2\nline3\n";

}  // namespace

TEST_CASE("feed_empty_data: no bytes fed, none buffered") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "");
  CHECK(content(reader).empty());
  CHECK(reader.buffered() == 0);
}

TEST_CASE("feed_nonempty_data: bytes fed are buffered") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, lines);
  CHECK(content(reader) == lines);
}

TEST_CASE("read_zero: nothing is read and nothing lost") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, lines);
  CHECK(loop.run(read(reader, 0)).empty());
  CHECK(content(reader) == lines);
}

TEST_CASE("read: a read that waits gets what is fed") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto task = loop.loop().create_task(read(reader, 30));
  loop.loop().call_soon([reader] { feed(reader, lines); });
  CHECK(loop.run(task) == lines);
  CHECK(content(reader).empty());
}

TEST_CASE("read_line_breaks: the count cuts, not the line or the piece") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "line1");
  feed(reader, "line2");
  CHECK(loop.run(read(reader, 5)) == "line1");
  CHECK(content(reader) == "line2");
}

TEST_CASE("read_eof: the end ends a read that waits, with no bytes") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto task = loop.loop().create_task(read(reader, 1024));
  loop.loop().call_soon([reader] { reader.feed_eof(); });
  CHECK(loop.run(task).empty());
  CHECK(content(reader).empty());
}

TEST_CASE("read_until_eof: read(-1) joins all pieces up to the end") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto task = loop.loop().create_task(read(reader, -1));
  loop.loop().call_soon([reader] {
    feed(reader, "chunk1\n");
    feed(reader, "chunk2");
    reader.feed_eof();
  });
  CHECK(loop.run(task) == "chunk1\nchunk2");
  CHECK(content(reader).empty());
}

TEST_CASE("read_exception: a reader that failed raises at the next read") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "line\n");
  CHECK(loop.run(read(reader, 2)) == "li");
  reader.set_exception(failure_of(ValueError("broken")));
  CHECK_THROWS_WITH_AS(loop.run(read(reader, 2)), "broken", ValueError);
}

TEST_CASE("invalid_limit: a limit of zero is refused") {
  StreamLoop loop;
  // A negative limit cannot be written: the parameter is unsigned.
  CHECK_THROWS_WITH_AS(static_cast<void>(loop.reader(0)), "Limit cannot be <= 0", ValueError);
}

TEST_CASE("read_limit: read is not bounded by the limit") {
  StreamLoop loop;
  const StreamReader reader = loop.reader(3);
  feed(reader, "chunk");
  CHECK(loop.run(read(reader, 5)) == "chunk");
  CHECK(content(reader).empty());
}

TEST_CASE("readline: a line is joined from its pieces and the rest is kept") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "chunk1 ");
  const auto task = loop.loop().create_task(readline(reader));
  loop.loop().call_soon([reader] {
    feed(reader, "chunk2 ");
    feed(reader, "chunk3 ");
    feed(reader, "\n chunk4");
  });
  CHECK(loop.run(task) == "chunk1 chunk2 chunk3 \n");
  CHECK(content(reader) == " chunk4");
}

TEST_CASE("readline_limit_with_existing_data: a line too long is dropped, what follows is kept") {
  StreamLoop loop;
  const StreamReader ended = loop.reader(3);
  feed(ended, "li");
  feed(ended, "ne1\nline2\n");
  CHECK_THROWS_AS(loop.run(readline(ended)), ValueError);
  CHECK(content(ended) == "line2\n");

  // Its end has not come: everything is dropped.
  const StreamReader open = loop.reader(3);
  feed(open, "li");
  feed(open, "ne1");
  feed(open, "li");
  CHECK_THROWS_AS(loop.run(readline(open)), ValueError);
  CHECK(content(open).empty());
}

TEST_CASE("at_eof: true once the end was fed and every byte read") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  CHECK_FALSE(reader.at_eof());
  feed(reader, "some data\n");
  CHECK_FALSE(reader.at_eof());
  loop.run(readline(reader));
  CHECK_FALSE(reader.at_eof());
  feed(reader, "some data\n");
  reader.feed_eof();
  CHECK_FALSE(reader.at_eof());
  loop.run(readline(reader));
  CHECK(reader.at_eof());
}

TEST_CASE("readline_limit: a line over the limit that comes while readline waits is dropped") {
  StreamLoop loop;
  const StreamReader one = loop.reader(7);
  loop.loop().call_soon([one] {
    feed(one, "chunk1");
    feed(one, "chunk2");
    feed(one, "chunk3\n");
    one.feed_eof();
  });
  CHECK_THROWS_AS(loop.run(readline(one)), ValueError);
  CHECK(content(one).empty());

  const StreamReader two = loop.reader(7);
  loop.loop().call_soon([two] {
    feed(two, "chunk1");
    feed(two, "chunk2\n");
    feed(two, "chunk3\n");
    two.feed_eof();
  });
  CHECK_THROWS_AS(loop.run(readline(two)), ValueError);
  CHECK(content(two) == "chunk3\n");
}

TEST_CASE("readline_limit: a line of exactly the limit passes, one byte more does not") {
  StreamLoop loop;
  const StreamReader reader = loop.reader(7);
  feed(reader, "1234567\n");
  CHECK(loop.run(readline(reader)) == "1234567\n");
  CHECK(content(reader).empty());
  feed(reader, "12345678\n");
  CHECK_THROWS_WITH_AS(loop.run(readline(reader)),
                       "Separator is found, but chunk is longer than limit", ValueError);
  CHECK(content(reader).empty());
  feed(reader, "12345678");
  CHECK_THROWS_WITH_AS(loop.run(readline(reader)),
                       "Separator is not found, and chunk exceed the limit", ValueError);
  CHECK(content(reader).empty());
}

TEST_CASE("readline_nolimit_nowait: a line that is buffered already is returned") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, lines.substr(0, 6));
  feed(reader, lines.substr(6));
  CHECK(loop.run(readline(reader)) == "line1\n");
  CHECK(content(reader) == "line2\nline3\n");
}

TEST_CASE("readline_eof: the end makes a partial line whole") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "some data");
  reader.feed_eof();
  CHECK(loop.run(readline(reader)) == "some data");
}

TEST_CASE("readline_empty_eof: at the end a line is empty") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  reader.feed_eof();
  CHECK(loop.run(readline(reader)).empty());
}

TEST_CASE("readline_read_byte_count: read goes on behind a line, across lines") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, lines);
  loop.run(readline(reader));
  CHECK(loop.run(read(reader, 7)) == "line2\nl");
  CHECK(content(reader) == "ine3\n");
}

TEST_CASE("readline_exception: a reader that failed raises at the next readline") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "line\n");
  CHECK(loop.run(readline(reader)) == "line\n");
  reader.set_exception(failure_of(ValueError("broken")));
  CHECK_THROWS_WITH_AS(loop.run(readline(reader)), "broken", ValueError);
  CHECK(content(reader).empty());
}
