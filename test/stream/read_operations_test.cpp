// The reads: one at a time, cancelled without a loss, and as codes instead of exceptions.
//
// Neighbours: stream/read_operations.hpp; reader_test.cpp; the ported cases of CPython.
#include <pelton/stream/read_operations.hpp>

#include <doctest/doctest.h>

#include <functional>

#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

using MakeRead = std::function<Task<std::string>(StreamReader)>;

/// Every read that can wait, each asking for more than "part".
const std::vector<MakeRead>& waiting_reads() {
  static const std::vector<MakeRead> reads{
      [](StreamReader reader) { return readline(reader); },
      [](StreamReader reader) { return readexactly(reader, 10); },
      [](StreamReader reader) { return readuntil(reader, ";"); },
      [](StreamReader reader) {
        return readuntil(reader, std::vector<std::string_view>{";", "end"});
      },
  };
  return reads;
}

std::string concurrent_text(const char* name) {
  return std::string(name) +
         "() called while another coroutine is already waiting for incoming data";
}

template <class Operation>
std::error_code code_of(StreamLoop& loop, Operation make) {
  const auto main = [&]() -> Task<std::error_code> {
    const Result<Bytes> result = co_await make();
    co_return result ? std::error_code() : result.error();
  };
  return loop.run(main());
}

}  // namespace

TEST_CASE("a second read that would wait is refused by its name, and the first goes on") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto first = loop.loop().create_task(read(reader, 100));
  loop.run_briefly();
  const auto refusal = [&](Task<std::string> second) {
    const auto error = thrown_by([&] { loop.run(std::move(second)); });
    CHECK(is_a<RuntimeError>(error));
    return describe(error);
  };
  CHECK(refusal(read(reader, 1)) == concurrent_text("read"));
  CHECK(refusal(read(reader, -1)) == concurrent_text("read"));
  CHECK(refusal(readline(reader)) == concurrent_text("readuntil"));
  CHECK(refusal(readuntil(reader, "x")) == concurrent_text("readuntil"));
  CHECK(refusal(readexactly(reader, 1)) == concurrent_text("readexactly"));
  CHECK_FALSE(first.done());
  feed(reader, "data");
  CHECK(loop.run(first) == "data");
}

TEST_CASE("a second read that need not wait is served while the first waits") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "data");
  const auto line = loop.loop().create_task(readline(reader));
  loop.run_briefly();
  CHECK(loop.run(read(reader, 2)) == "da");
  CHECK(loop.run(read(reader, 0)).empty());
  feed(reader, "tam\n");
  CHECK(loop.run(line) == "tatam\n");
}

TEST_CASE("a read whose bytes another one took in between waits again") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto first = loop.loop().create_task(readexactly(reader, 4));
  loop.run_briefly();
  const auto second = loop.loop().create_task(read(reader, 3));
  feed(reader, "abc");  // wakes the first, which runs after the second
  loop.run_briefly();
  CHECK(second.result() == "abc");
  CHECK_FALSE(first.done());
  feed(reader, "defg");
  CHECK(loop.run(first) == "defg");
}

TEST_CASE("a cancelled read loses no byte and makes room for the next") {
  for (const MakeRead& make_read : waiting_reads()) {
    StreamLoop loop;
    const StreamReader reader = loop.reader();
    feed(reader, "part");
    const auto task = loop.loop().create_task(make_read(reader));
    loop.run_briefly();
    CHECK(reader.core()->waited_for());
    CHECK(task.cancel());
    CHECK_FALSE(reader.core()->waited_for());  // at once
    loop.run_briefly();
    CHECK(task.cancelled());
    CHECK(content(reader) == "part");
    CHECK(loop.run(read(reader, 100)) == "part");
  }
}

TEST_CASE("a cancel after the feed that would end the read wins, and the bytes stay") {
  for (const MakeRead& make_read : waiting_reads()) {
    StreamLoop loop;
    const StreamReader reader = loop.reader();
    const auto task = loop.loop().create_task(make_read(reader));
    loop.run_briefly();
    feed(reader, "0123456789;end\n");
    task.cancel();
    loop.run_briefly();
    CHECK(task.cancelled());
    CHECK(content(reader) == "0123456789;end\n");
  }
}

TEST_CASE("a feed after the cancel does not bring the read back") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto task = loop.loop().create_task(read(reader, 100));
  loop.run_briefly();
  task.cancel();
  feed(reader, "data");
  loop.run_briefly();
  CHECK(task.cancelled());
  CHECK(content(reader) == "data");
}

TEST_CASE("a cancelled read(-1) loses what it had collected, as in asyncio") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "collected");
  const auto task = loop.loop().create_task(read(reader, -1));
  loop.run_briefly();
  CHECK(content(reader).empty());
  task.cancel();
  loop.run_briefly();
  feed(reader, "kept");
  CHECK(loop.run(read(reader, 100)) == "kept");
}

TEST_CASE("a read that is destroyed while it waits leaves the reader as it was") {
  for (const MakeRead& make_read : waiting_reads()) {
    StreamLoop loop;
    const StreamReader reader = loop.reader();
    feed(reader, "part");
    const auto task = loop.loop().create_task(make_read(reader));
    loop.run_briefly();
    task.state()->destroy();
    CHECK(task.cancelled());
    CHECK_FALSE(reader.core()->waited_for());
    feed(reader, "ly");
    CHECK(loop.run(read(reader, 100)) == "partly");
  }
}

TEST_CASE("a read that was woken and is destroyed before it runs takes nothing") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto task = loop.loop().create_task(read(reader, 100));
  loop.run_briefly();
  feed(reader, "data");
  task.state()->destroy();
  loop.run_briefly();
  CHECK(content(reader) == "data");
}

TEST_CASE("an exception that is set after the feed leaves the woken read its bytes") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto task = loop.loop().create_task(read(reader, 100));
  loop.run_briefly();
  feed(reader, "data");
  reader.set_exception(failure_of(ValueError("broken")));
  CHECK(loop.run(task) == "data");
  CHECK_THROWS_AS(loop.run(read(reader, 1)), ValueError);
}

TEST_CASE("the end wakes each kind of read") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "part");
  const auto line = loop.loop().create_task(readline(reader));
  loop.run_briefly();
  reader.feed_eof();
  CHECK(loop.run(line) == "part");
  const auto error = thrown_by([&] { loop.run(readexactly(reader, 3)); });
  CHECK(describe(error) == "0 bytes read on a total of 3 expected bytes");
  CHECK(is_a<EOFError>(error));
  CHECK(describe(thrown_by([&] { loop.run(readuntil(reader, "x")); })) ==
        "0 bytes read on a total of undefined expected bytes");
  CHECK(loop.run(read(reader, 3)).empty());
  CHECK(loop.run(readexactly(reader, 0)).empty());
}

TEST_CASE("readuntil tells how much can be skipped without meeting the separator") {
  StreamLoop loop;
  const StreamReader reader = loop.reader(4);
  const auto consumed = [&](std::string separator) {
    try {
      loop.run(readuntil(reader, std::move(separator)));
    } catch (const LimitOverrunError& error) {
      return error.consumed();
    }
    return std::size_t{0};
  };
  feed(reader, "0123456789");
  CHECK(consumed("abc") == 8);
  CHECK(consumed("a") == 10);
  CHECK(consumed("78") == 7);
  CHECK(content(reader) == "0123456789");
  CHECK(loop.run(readuntil(reader, "4")) == "01234");  // exactly the limit before it
}

TEST_CASE("readuntil looks for every separator anew after a read took bytes in between") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "aaaa");
  const auto task = loop.loop().create_task(readuntil(reader, "b"));
  loop.run_briefly();
  CHECK(loop.run(read(reader, 3)) == "aaa");
  feed(reader, "b");
  loop.run_briefly();
  // As in CPython, the search goes on where it had stopped, behind this one.
  CHECK_FALSE(task.done());
  feed(reader, "acab");
  CHECK(loop.run(task) == "abacab");
}

TEST_CASE("try_ reads give bytes, or a code for each of asyncio's exceptions") {
  StreamLoop loop;
  const StreamReader reader = loop.reader(4);
  feed(reader, "012345678");
  CHECK(code_of(loop, [&] { return reader.try_readuntil(";"); }) == StreamErrc::limit_overrun);
  CHECK(code_of(loop, [&] { return reader.try_readuntil(""); }) == StreamErrc::invalid_argument);
  CHECK(code_of(loop, [&] { return reader.try_readexactly(-1); }) == StreamErrc::invalid_argument);
  CHECK(content(reader) == "012345678");
  CHECK(code_of(loop, [&] { return reader.try_readline(); }) == StreamErrc::invalid_argument);
  CHECK(content(reader).empty());
  feed(reader, "ab\nc");
  const auto main = [&]() -> Task<> {
    CHECK(*co_await reader.try_readline() == "ab\n");
    CHECK(*co_await reader.try_read(1) == "c");
    CHECK((*co_await reader.try_read(0)).empty());
  };
  loop.run(main());
  const auto waiting = loop.loop().create_task(read(reader, 1));
  loop.run_briefly();
  CHECK(code_of(loop, [&] { return reader.try_read(1); }) == StreamErrc::concurrent_read);
  CHECK(code_of(loop, [&] { return reader.try_read_piece(1); }) == StreamErrc::concurrent_read);
  feed(reader, "rest");
  CHECK(loop.run(waiting) == "r");
  reader.feed_eof();
  CHECK(code_of(loop, [&] { return reader.try_readexactly(9); }) == StreamErrc::incomplete_read);
  CHECK(content(reader).empty());
  CHECK(code_of(loop, [&] { return reader.try_readuntil(";"); }) == StreamErrc::incomplete_read);
  CHECK_FALSE(code_of(loop, [&] { return reader.try_read_piece(1); }));
  reader.set_exception(Failure(errno_code(ECONNRESET)));
  CHECK(code_of(loop, [&] { return reader.try_read(1); }) == errno_code(ECONNRESET));
}

TEST_CASE("a code for an exception that has none is EIO") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  reader.set_exception(failure_of(ValueError("broken")));
  CHECK(code_of(loop, [&] { return reader.try_read(1); }) == errno_code(EIO));
}

TEST_CASE("a try_ read that is cancelled raises Cancelled") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto try_read = [&]() -> Task<> { static_cast<void>(co_await reader.try_read(1)); };
  const auto task = loop.loop().create_task(try_read());
  loop.run_briefly();
  task.cancel();
  loop.run_briefly();
  CHECK(task.cancelled());
  feed(reader, "data");
  CHECK(content(reader) == "data");
}

TEST_CASE("a try_ read that waits hears of the failure as a code") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  const auto try_read = [&]() -> Task<std::error_code> {
    const auto result = co_await reader.try_read_piece(1);
    co_return result ? std::error_code() : result.error();
  };
  const auto task = loop.loop().create_task(try_read());
  loop.run_briefly();
  reader.set_exception(Failure(errno_code(EPIPE)));
  CHECK(loop.run(task) == errno_code(EPIPE));
}

TEST_CASE("a read that is awaited a second time says so") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  reader.feed_data("hello");
  const auto twice = [](StreamReader from, std::ptrdiff_t count) -> Task<> {
    auto read = from.read(count);
    static_cast<void>(co_await read);
    static_cast<void>(co_await read);
  };
  CHECK_THROWS_AS(loop.run(twice(reader, 2)), pelton::RuntimeError);    // answered by the buffer
  CHECK_THROWS_AS(loop.run(twice(reader, 100)), pelton::RuntimeError);  // the same, all of it
  reader.feed_eof();
  CHECK_THROWS_AS(loop.run(twice(reader, 2)), pelton::RuntimeError);  // answered by the end
}

TEST_CASE("a read that is made and not awaited takes nothing") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  reader.feed_data("line\nrest");
  {
    const auto line = reader.readline();
    const auto until = reader.try_readuntil("\n");
    const auto all = reader.read();
  }
  CHECK(reader.buffered() == 9);
  CHECK_FALSE(reader.core()->waited_for());
  CHECK(reader.core()->ref_count() == 1);
  CHECK(loop.run(readline(reader)) == "line\n");
}

TEST_CASE("a million reads of ready bytes do not grow the stack") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, std::string(1'000'000, 'x'));
  const auto main = [&]() -> Task<std::size_t> {
    std::size_t count = 0;
    while (reader.buffered() > 0) count += (co_await reader.read(1)).size();
    co_return count;
  };
  CHECK(loop.run(main()) == 1'000'000);
}
