// StreamReader, the handle: what copies share, what the bytes it returns are made of.
//
// Neighbours: stream/reader.hpp; reader_core_test.cpp, read_operations_test.cpp; the ported cases.
#include <pelton/stream/reader.hpp>

#include <doctest/doctest.h>

#include <support/recording_transport.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

TEST_CASE("copies of a reader are the same stream") {
  StreamLoop loop;
  const StreamReader reader = loop.reader(5);
  const StreamReader copy = reader;  // NOLINT: the copy is what is tested
  feed(reader, "data");
  CHECK(copy.buffered() == 4);
  CHECK(copy.limit() == 5);
  CHECK(loop.run(read(copy, 2)) == "da");
  CHECK(content(reader) == "ta");
  copy.feed_eof();
  CHECK_FALSE(reader.at_eof());
  CHECK(loop.run(read(reader)) == "ta");
  CHECK(copy.at_eof());
}

TEST_CASE("the default limit is 64 KiB") {
  StreamLoop loop;
  CHECK(loop.reader().limit() == 65536);
}

TEST_CASE("bytes that lie in one piece are returned where they lie") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const Bytes fed = Bytes::adopt("0123456789 first line\n12345 some\nmore of it");
  reader.feed_data(fed);
  const auto main = [&]() -> Task<> {
    const Bytes first = co_await reader.read(10);
    CHECK(first.data() == fed.data());
    const Bytes line = co_await reader.readline();
    CHECK(line.data() == fed.data() + 10);
    const Bytes part = co_await reader.readexactly(5);
    CHECK(part.data() == line.end());
    const Bytes until = co_await reader.readuntil("e");
    CHECK(until.data() == part.end());
    const auto piece = co_await reader.try_read_piece(1 << 20);
    CHECK(piece->data() == until.end());
    CHECK(piece->end() == fed.end());
  };
  loop.run(main());
}

TEST_CASE("bytes across two pieces are joined, and a piece is never") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const Bytes first = Bytes::adopt(std::string(3000, 'a'));
  const Bytes second = Bytes::adopt(std::string(3000, 'b'));
  reader.feed_data(first);
  reader.feed_data(second);
  const auto main = [&]() -> Task<> {
    const Bytes joined = co_await reader.readexactly(3001);
    CHECK(joined.view() == std::string(3000, 'a') + "b");
    const auto piece = co_await reader.try_read_piece(1 << 20);
    CHECK(piece->data() == second.data() + 1);
    reader.feed_data(first);
    reader.feed_data(second);
    const auto third = co_await reader.try_read_piece(1 << 20);
    CHECK(third->data() == first.data());
    CHECK(third->size() == 3000);
  };
  loop.run(main());
}

TEST_CASE("bytes that were read outlive their reader") {
  StreamLoop loop;
  Bytes kept;
  const auto main = [&]() -> Task<> {
    const StreamReader reader;
    feed(reader, "some data that is longer than what fits into a handle");
    kept = co_await reader.read(9);
  };
  loop.run(main());
  CHECK(kept == "some data");
}

TEST_CASE("several separators may be written in place") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "a;b\nc\r\nd");
  const auto main = [&]() -> Task<> {
    CHECK(co_await reader.readuntil(";", "\n") == "a;");
    CHECK(co_await reader.readuntil("\r\n", "\n", "x") == "b\n");
    CHECK(co_await reader.readuntil("\r\n") == "c\r\n");
    feed(reader, "\n");
    CHECK(co_await reader.readuntil() == "d\n");
  };
  loop.run(main());
}

TEST_CASE("lines are iterated by readline until an empty one") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "one\n\nthree");
  reader.feed_eof();
  const auto main = [&]() -> Task<std::vector<std::string>> {
    std::vector<std::string> lines;
    while (const Bytes line = co_await reader.readline()) lines.push_back(line.to_string());
    co_return lines;
  };
  CHECK(loop.run(main()) == std::vector<std::string>{"one\n", "\n", "three"});
}

TEST_CASE("the text of a reader tells everything at once") {
  StreamLoop loop;
  const StreamReader reader = loop.reader(1);
  reader.set_transport(make_ref<RecordingTransport>());
  feed(reader, "data");
  reader.feed_eof();
  reader.set_exception(failure_of(ValueError("broken")));
  CHECK(reader.to_string() ==
        "<StreamReader 4 bytes eof limit=1 exception=broken transport=<Transport> paused>");
}
