// CPython's test_streams.py: readuntil, readexactly, exceptions, constructors and texts.
//
// Neighbours: ported_streams_read_test.cpp; PORTED.md.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include <pelton/stream/errors.hpp>
#include <support/recording_transport.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

constexpr std::string_view three_lines = "line1\nline2\nline3\n";

using Separators = std::vector<std::string_view>;

/// Feeds `pieces`, one by one, and reads until `separator`.
std::string fed_until(StreamLoop& loop, const StreamReader& reader,
                      const std::vector<std::string_view>& pieces, std::string separator) {
  for (const std::string_view piece : pieces) feed(reader, piece);
  return loop.run(readuntil(reader, std::move(separator)));
}

}  // namespace

TEST_CASE("readuntil_separator: an empty separator, or none at all, is refused") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  CHECK_THROWS_WITH_AS(loop.run(readuntil(reader, "")),
                       "Separator should be at least one-byte string", ValueError);
  CHECK_THROWS_WITH_AS(loop.run(readuntil(reader, Separators{""})),
                       "Separator should be at least one-byte string", ValueError);
  CHECK_THROWS_WITH_AS(loop.run(readuntil(reader, Separators{})),
                       "Separator should contain at least one element", ValueError);
}

TEST_CASE("readuntil_multi_chunks: what follows the separator is kept") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  CHECK(fed_until(loop, reader, {"lineAAA"}, "AAA") == "lineAAA");
  CHECK(content(reader).empty());
  CHECK(fed_until(loop, reader, {"lineAAA"}, "AAA") == "lineAAA");
  CHECK(content(reader).empty());
  CHECK(fed_until(loop, reader, {"lineAAAxxx"}, "AAA") == "lineAAA");
  CHECK(content(reader) == "xxx");
}

TEST_CASE("readuntil_multi_chunks_1: a separator is found across pieces and near misses") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  CHECK(fed_until(loop, reader, {"QWEaa", "XYaa", "a"}, "aaa") == "QWEaaXYaaa");
  CHECK(content(reader).empty());
  CHECK(fed_until(loop, reader, {"QWEaa", "XYa", "aa"}, "aaa") == "QWEaaXYaaa");
  CHECK(content(reader).empty());
  CHECK(fed_until(loop, reader, {"aaa"}, "aaa") == "aaa");
  CHECK(content(reader).empty());
  CHECK(fed_until(loop, reader, {"Xaaa"}, "aaa") == "Xaaa");
  CHECK(content(reader).empty());
  CHECK(fed_until(loop, reader, {"XXX", "a", "a", "a"}, "aaa") == "XXXaaa");
  CHECK(content(reader).empty());
}

TEST_CASE("readuntil_eof: the end before a separator raises with the rest, which is consumed") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "some dataAA");
  reader.feed_eof();
  try {
    loop.run(readuntil(reader, "AAA"));
    FAIL("nothing was raised");
  } catch (const IncompleteReadError& error) {
    CHECK(std::string(error.what()) == "11 bytes read on a total of undefined expected bytes");
    CHECK(error.partial() == "some dataAA");
    CHECK_FALSE(error.expected().has_value());
  }
  CHECK(content(reader).empty());
}

TEST_CASE("readuntil_limit_found_sep: over the limit the data stays, separator or not") {
  StreamLoop loop;
  const StreamReader reader = loop.reader(3);
  feed(reader, "some dataAA");
  CHECK_THROWS_WITH_AS(loop.run(readuntil(reader, "AAA")),
                       "Separator is not found, and chunk exceed the limit", LimitOverrunError);
  CHECK(content(reader) == "some dataAA");
  feed(reader, "A");
  CHECK_THROWS_WITH_AS(loop.run(readuntil(reader, "AAA")),
                       "Separator is found, but chunk is longer than limit", LimitOverrunError);
  CHECK(content(reader) == "some dataAAA");
}

TEST_CASE("readuntil_multi_separator: the earliest end wins") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "line 1\nline 2\r");
  CHECK(loop.run(readuntil(reader, Separators{"\r", "\n"})) == "line 1\n");
  CHECK(loop.run(readuntil(reader, Separators{"\r", "\n"})) == "line 2\r");
  CHECK(content(reader).empty());
  // Even where the match is the longer one.
  feed(reader, "ABCDEFG");
  CHECK(loop.run(readuntil(reader, Separators{"DEF", "BCDE"})) == "ABCDE");
  CHECK(content(reader) == "FG");
}

TEST_CASE("readuntil_multi_separator_limit: of equal ends the shortest separator is judged") {
  StreamLoop loop;
  const StreamReader reader = loop.reader(3);
  feed(reader, "some dataA");
  CHECK_THROWS_WITH_AS(loop.run(readuntil(reader, Separators{"A", "ome dataA"})),
                       "Separator is found, but chunk is longer than limit", LimitOverrunError);
  CHECK(content(reader) == "some dataA");
}

TEST_CASE("readuntil_multi_separator_negative_offset: a separator longer than what is buffered") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "data");
  const auto task = loop.loop().create_task(readuntil(reader, Separators{"A", "long sep"}));
  loop.loop().call_soon([reader] { feed(reader, "Z"); });
  loop.loop().call_soon([reader] { feed(reader, "Aaaa"); });
  CHECK(loop.run(task) == "dataZA");
  CHECK(content(reader) == "aaa");
}

TEST_CASE("readuntil_bytearray: any memory can hold the separator") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "some data\r\n");
  const std::vector<char> memory{'\r', '\n'};
  const auto main = [&]() -> Task<std::string> {
    co_return (co_await reader.readuntil(std::string_view(memory.data(), memory.size())))
        .to_string();
  };
  CHECK(loop.run(main()) == "some data\r\n");
  CHECK(content(reader).empty());
}

TEST_CASE("readexactly_zero_or_less: none is nothing, less is refused") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, three_lines);
  CHECK(loop.run(readexactly(reader, 0)).empty());
  CHECK(content(reader) == three_lines);
  CHECK_THROWS_WITH_AS(loop.run(readexactly(reader, -1)),
                       "readexactly size can not be less than zero", ValueError);
  CHECK(content(reader) == three_lines);
}

TEST_CASE("readexactly: waits for the whole count and keeps what is more") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto task = loop.loop().create_task(
      readexactly(reader, static_cast<std::ptrdiff_t>(2 * three_lines.size())));
  loop.loop().call_soon([reader] {
    feed(reader, three_lines);
    feed(reader, three_lines);
    feed(reader, three_lines);
  });
  CHECK(loop.run(task) == std::string(three_lines) + std::string(three_lines));
  CHECK(content(reader) == three_lines);
}

TEST_CASE("readexactly_limit: readexactly is not bounded by the limit") {
  StreamLoop loop;
  const StreamReader reader = loop.reader(3);
  feed(reader, "chunk");
  CHECK(loop.run(readexactly(reader, 5)) == "chunk");
  CHECK(content(reader).empty());
}

TEST_CASE("readexactly_eof: the end before the count raises with what there was") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto task = loop.loop().create_task(
      readexactly(reader, static_cast<std::ptrdiff_t>(2 * three_lines.size())));
  loop.loop().call_soon([reader] {
    feed(reader, three_lines);
    reader.feed_eof();
  });
  try {
    static_cast<void>(loop.run(task));
    FAIL("nothing was raised");
  } catch (const IncompleteReadError& error) {
    CHECK(error.partial() == three_lines);
    CHECK(error.expected() == 2 * three_lines.size());
    CHECK(std::string(error.what()) == "18 bytes read on a total of 36 expected bytes");
  }
  CHECK(content(reader).empty());
}

TEST_CASE("readexactly_exception: a reader that failed raises at the next readexactly") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "line\n");
  CHECK(loop.run(readexactly(reader, 2)) == "li");
  reader.set_exception(failure_of(ValueError("broken")));
  CHECK_THROWS_WITH_AS(loop.run(readexactly(reader, 2)), "broken", ValueError);
}

TEST_CASE("exception: the exception that was set can be asked for") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  CHECK_FALSE(reader.exception());
  const auto exception = std::make_exception_ptr(ValueError("broken"));
  reader.set_exception(Failure(exception));
  CHECK(reader.exception().exception() == exception);
}

TEST_CASE("exception_waiter: an exception that is set ends the read that waits") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto waiting = loop.loop().create_task(readline(reader));
  loop.loop().call_soon([reader] { reader.set_exception(failure_of(ValueError("broken"))); });
  loop.run_briefly();
  CHECK(waiting.done());
  CHECK_THROWS_WITH_AS(static_cast<void>(waiting.result()), "broken", ValueError);
}

TEST_CASE("exception_cancel: an exception may be set after the read that waited was cancelled") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto task = loop.loop().create_task(readline(reader));
  loop.run_briefly();
  CHECK(reader.core()->waited_for());
  task.cancel();
  loop.run_briefly();
  reader.set_exception(failure_of(RuntimeError("message")));
  loop.run_briefly();
  CHECK(task.cancelled());
  CHECK_FALSE(reader.core()->waited_for());
}

TEST_CASE("streamreader_constructor_without_loop: raises") {
  CHECK_THROWS_WITH_AS(StreamReader(), "no running event loop", RuntimeError);
}

TEST_CASE("streamreader_constructor_use_running_loop: needs no loop to be named") {
  StreamLoop loop;
  const auto main = []() -> Task<std::string> { co_return StreamReader().to_string(); };
  CHECK(loop.run(main()) == "<StreamReader>");
}

TEST_CASE("streamreader_constructor_use_global_loop: a loop that does not run yet is named") {
  StreamLoop loop;
  const StreamReader reader(stream_limit_default, loop.loop());
  CHECK(reader.to_string() == "<StreamReader>");
}

TEST_CASE("streamreaderprotocol_constructor_without_loop: a loop is a parameter") {
  CHECK_FALSE(std::is_constructible_v<StreamReaderProtocol, StreamReader>);
  CHECK_THROWS_WITH_AS(static_cast<void>(Loop::running()), "no running event loop", RuntimeError);
}

TEST_CASE("streamreaderprotocol_constructor_use_running_loop: it belongs to that loop") {
  StreamLoop loop;
  const auto main = []() -> Task<Loop*> {
    co_return &make_ref<StreamReaderProtocol>(Loop::running(), StreamReader())->loop();
  };
  CHECK(loop.run(main()) == &loop.loop());
}

TEST_CASE("streamreaderprotocol_constructor_use_global_loop: it belongs to the loop named") {
  StreamLoop loop;
  const auto protocol = make_ref<StreamReaderProtocol>(loop.loop(), loop.reader());
  CHECK(&protocol->loop() == &loop.loop());
}

TEST_CASE("__repr__: nothing but the name") {
  StreamLoop loop;
  CHECK(loop.reader().to_string() == "<StreamReader>");
}

TEST_CASE("__repr__nondefault_limit: a limit of one's own shows") {
  StreamLoop loop;
  CHECK(loop.reader(123).to_string() == "<StreamReader limit=123>");
}

TEST_CASE("__repr__eof: the end shows") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  reader.feed_eof();
  CHECK(reader.to_string() == "<StreamReader eof>");
}

TEST_CASE("__repr__data: the number of bytes shows") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "data");
  CHECK(reader.to_string() == "<StreamReader 4 bytes>");
}

TEST_CASE("__repr__exception: the exception shows") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  reader.set_exception(failure_of(RuntimeError("broken")));
  CHECK(reader.to_string() == "<StreamReader exception=broken>");
}

TEST_CASE("__repr__waiter: a read that waits shows") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto task = loop.loop().create_task(read(reader, 1));
  loop.run_briefly();
  CHECK(reader.to_string() == "<StreamReader waiter=<pending>>");
  task.cancel();
  loop.run_briefly();
  CHECK(reader.to_string() == "<StreamReader>");
}

TEST_CASE("__repr__transport: a transport shows") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  reader.set_transport(make_ref<RecordingTransport>());
  CHECK(reader.to_string() == "<StreamReader transport=<Transport>>");
}

TEST_CASE("IncompleteReadError_pickleable: copies keep text and data") {
  const IncompleteReadError error(Bytes::copy("abc"), 10);
  const IncompleteReadError copy = error;  // NOLINT: the copy is what is tested
  CHECK(std::strcmp(copy.what(), error.what()) == 0);
  CHECK(copy.partial() == "abc");
  CHECK(copy.expected() == 10);
}

TEST_CASE("LimitOverrunError_pickleable: copies keep text and data") {
  const LimitOverrunError error("message", 10);
  const LimitOverrunError copy = error;  // NOLINT: the copy is what is tested
  CHECK(std::string(copy.what()) == "message");
  CHECK(copy.consumed() == 10);
}
