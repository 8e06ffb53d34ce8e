// ReaderCore: back-pressure, waking, the exception that sticks, the end of the transport.
//
// Neighbours: stream/reader_core.hpp; support/recording_transport.hpp, the transport below.
#include <pelton/stream/reader_core.hpp>

#include <doctest/doctest.h>
#include <signal.h>

#include <support/child.hpp>
#include <support/recording_transport.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

/// A reader on a recording transport.
struct Fed {
  explicit Fed(std::size_t limit) : reader(loop.reader(limit)) { reader.set_transport(transport); }
  StreamLoop loop;
  Ref<RecordingTransport> transport = make_ref<RecordingTransport>();
  StreamReader reader;
};

}  // namespace

TEST_CASE("reading pauses strictly above twice the limit, and once") {
  Fed fed(4);
  feed(fed.reader, "12345678");
  CHECK_FALSE(fed.reader.paused());
  CHECK(fed.transport->pauses == 0);
  feed(fed.reader, "9");
  CHECK(fed.reader.paused());
  CHECK(fed.transport->pauses == 1);
  feed(fed.reader, "what was under way when the pause was asked for");
  CHECK(fed.transport->pauses == 1);
  CHECK(fed.reader.to_string() == "<StreamReader 56 bytes limit=4 transport=<Transport> paused>");
}

TEST_CASE("reading resumes at the limit, not above it") {
  Fed fed(4);
  feed(fed.reader, "123456789");
  CHECK(fed.loop.run(read(fed.reader, 4)) == "1234");
  CHECK(fed.reader.paused());
  CHECK(fed.transport->resumes == 0);
  CHECK(fed.loop.run(read(fed.reader, 1)) == "5");
  CHECK_FALSE(fed.reader.paused());
  CHECK(fed.transport->resumes == 1);
  CHECK(fed.loop.run(read(fed.reader, 4)) == "6789");
  CHECK(fed.transport->resumes == 1);
}

TEST_CASE("every read that takes bytes may resume") {
  const auto resumes_after = [](std::string_view data, auto&& consume) {
    Fed fed(4);
    feed(fed.reader, data);
    CHECK(fed.reader.paused());
    consume(fed);
    return !fed.reader.paused() && fed.transport->resumes == 1;
  };
  CHECK(resumes_after("123456789", [](Fed& fed) { fed.loop.run(readexactly(fed.reader, 5)); }));
  CHECK(resumes_after("1234;5678", [](Fed& fed) { fed.loop.run(readuntil(fed.reader, ";")); }));
  CHECK(resumes_after("123\n5678\n", [](Fed& fed) {
    fed.loop.run(readline(fed.reader));
    CHECK(fed.reader.paused());  // 5 are left
    fed.loop.run(readline(fed.reader));
  }));
  CHECK(resumes_after("12345678\n", [](Fed& fed) {
    CHECK_THROWS_AS(fed.loop.run(readline(fed.reader)), ValueError);  // drops the line
  }));
  CHECK(resumes_after("123456789", [](Fed& fed) {
    CHECK_THROWS_AS(fed.loop.run(readline(fed.reader)), ValueError);  // drops everything
  }));
  CHECK(resumes_after("123456789", [](Fed& fed) {
    const auto piece = [](StreamReader reader) -> Task<> {
      const auto bytes = co_await reader.try_read_piece(5);
      CHECK(*bytes == "12345");
    };
    fed.loop.run(piece(fed.reader));
  }));
}

TEST_CASE("an overrun of readuntil takes nothing and so resumes nothing") {
  Fed fed(4);
  feed(fed.reader, "123456789");
  CHECK_THROWS_AS(fed.loop.run(readuntil(fed.reader, ";")), LimitOverrunError);
  CHECK(fed.reader.paused());
  CHECK(content(fed.reader) == "123456789");
}

TEST_CASE("a read that must wait while paused resumes first, however low its limit") {
  Fed fed(2);
  feed(fed.reader, "12345");
  CHECK(fed.reader.paused());
  const auto task = fed.loop.loop().create_task(readexactly(fed.reader, 20));
  fed.loop.run_briefly();
  CHECK_FALSE(fed.reader.paused());
  CHECK(fed.transport->resumes == 1);
  feed(fed.reader, "6789012345");  // far over: pauses, and the read that waits resumes anew
  CHECK(fed.reader.paused());
  fed.loop.run_briefly();
  CHECK_FALSE(fed.reader.paused());
  CHECK(fed.transport->resumes == 2);
  feed(fed.reader, "67890");
  CHECK(fed.loop.run(task) == "12345678901234567890");
  CHECK_FALSE(fed.reader.paused());
}

TEST_CASE("a transport that cannot pause is not asked again") {
  Fed fed(1);
  fed.transport->pausable = false;
  feed(fed.reader, "1234");
  CHECK_FALSE(fed.reader.paused());
  CHECK(fed.transport->pauses == 0);
  CHECK(fed.reader.to_string() == "<StreamReader 4 bytes limit=1>");
  feed(fed.reader, "5678");
  CHECK(fed.loop.run(read(fed.reader, 8)) == "12345678");
}

TEST_CASE("a reader without a transport takes whatever it is fed") {
  StreamLoop loop;
  const StreamReader reader = loop.reader(1);
  feed(reader, std::string(100'000, 'x'));
  CHECK_FALSE(reader.paused());
  CHECK(loop.run(readexactly(reader, 100'000)).size() == 100'000);
}

TEST_CASE("an exception sticks, and comes before the bytes that are buffered") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  feed(reader, "line\n");
  reader.set_exception(failure_of(ValueError("broken")));
  for (int round = 0; round < 2; ++round) {
    CHECK_THROWS_WITH_AS(loop.run(read(reader, 0)), "broken", ValueError);
    CHECK_THROWS_WITH_AS(loop.run(read(reader, 1)), "broken", ValueError);
    CHECK_THROWS_WITH_AS(loop.run(read(reader, -1)), "broken", ValueError);
    CHECK_THROWS_WITH_AS(loop.run(readline(reader)), "broken", ValueError);
    CHECK_THROWS_WITH_AS(loop.run(readuntil(reader, "i")), "broken", ValueError);
    CHECK_THROWS_WITH_AS(loop.run(readexactly(reader, 0)), "broken", ValueError);
  }
  CHECK(content(reader) == "line\n");
  // Arguments are judged first.
  CHECK_THROWS_WITH_AS(loop.run(readexactly(reader, -1)),
                       "readexactly size can not be less than zero", ValueError);
  CHECK_THROWS_WITH_AS(loop.run(readuntil(reader, "")),
                       "Separator should be at least one-byte string", ValueError);
}

TEST_CASE("a failure that is a code becomes its exception at each read") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  reader.set_exception(Failure(errno_code(ECONNRESET)));
  CHECK_THROWS_AS(loop.run(read(reader, 1)), ConnectionResetError);
  CHECK_THROWS_AS(loop.run(readline(reader)), ConnectionResetError);
}

TEST_CASE("a later exception takes the place of an earlier one") {
  StreamLoop loop;
  const StreamReader reader = loop.reader();
  reader.set_exception(failure_of(ValueError("first")));
  reader.set_exception(failure_of(RuntimeError("second")));
  CHECK_THROWS_WITH_AS(loop.run(read(reader, 1)), "second", RuntimeError);
}

TEST_CASE("a reader that was paused is read to its end after the transport has gone") {
  Fed fed(2);
  feed(fed.reader, "12345");
  CHECK(fed.reader.paused());
  fed.reader.core()->drop_transport();
  fed.reader.feed_eof();
  CHECK(fed.loop.run(read(fed.reader, 2)) == "12");
  CHECK(fed.loop.run(read(fed.reader, 2)) == "34");
  CHECK(fed.loop.run(read(fed.reader, 2)) == "5");
  CHECK(fed.reader.at_eof());
  CHECK(fed.transport->resumes == 0);
}

TEST_CASE("a read that waits on a paused reader whose transport has gone waits all the same") {
  Fed fed(2);
  feed(fed.reader, "12345");
  fed.reader.core()->drop_transport();
  const auto task = fed.loop.loop().create_task(readexactly(fed.reader, 6));
  fed.loop.run_briefly();
  CHECK_FALSE(task.done());
  feed(fed.reader, "6");
  CHECK(fed.loop.run(task) == "123456");
}

TEST_CASE("feeding after the end is a bug and aborts") {
  const ChildEnd end = run_in_child([] {
    StreamLoop loop;
    const StreamReader reader = loop.reader();
    reader.feed_eof();
    feed(reader, "late");
    return 0;
  });
  CHECK(end.signal == SIGABRT);
  CHECK(end.output.find("assertion failed: !eof_") != std::string::npos);
}

TEST_CASE("a second transport is a bug and aborts") {
  const ChildEnd end = run_in_child([] {
    Fed fed(1);
    fed.reader.set_transport(make_ref<RecordingTransport>());
    return 0;
  });
  CHECK(end.signal == SIGABRT);
  CHECK(end.output.find("assertion failed: !transport_") != std::string::npos);
}
