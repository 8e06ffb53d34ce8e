// SocketTransport: when it tells its protocol to pause and to resume writing.
#include <pelton/proto/socket_transport.hpp>

#include <doctest/doctest.h>

#include <support/message_of.hpp>
#include <support/transports.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;

Bytes zeros(std::size_t size) { return Bytes::adopt(std::string(size, '0')); }

TEST_CASE("writing pauses strictly above high water, inside write") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 2);
  one.transport->set_write_buffer_limits(100, 30);
  CHECK(one.transport->get_write_buffer_limits().high == 100);
  CHECK(one.transport->get_write_buffer_limits().low == 30);
  one.transport->write(zeros(100));
  CHECK(one.protocol->story() == "made");
  one.transport->write(zeros(1));
  CHECK(one.protocol->story() == "made pause");
  one.transport->write(zeros(1000));
  CHECK(one.protocol->story() == "made pause");
  CHECK(run_until(loop, [&] { return one.protocol->count("resume") == 1; }));
  CHECK(one.transport->get_write_buffer_size() == 0);
  CHECK(one.protocol->violations.empty());
}

/// Sends 64 pieces while `waiting` bytes wait for the next send, which a full socket holds up.
/// \return whether writing was resumed in between.
bool resumes_with_waiting(std::size_t waiting, std::size_t low) {
  Loop loop(small_options());
  Connection one;
  one.open(loop, small_unix_sockets());
  run_turns(loop, 2);
  one.transport->set_write_buffer_limits(waiting + 1, low);
  for (int index = 0; index < 64; ++index) one.transport->write(zeros(10));
  one.transport->write(zeros(waiting));
  CHECK(one.protocol->count("pause") == 1);
  CHECK(run_until(loop, [&] { return one.transport->get_write_buffer_size() == waiting; }));
  run_turns(loop, 5);
  CHECK(one.transport->get_write_buffer_size() == waiting);
  CHECK(one.protocol->violations.empty());
  return one.protocol->count("resume") == 1;
}

TEST_CASE("writing resumes exactly at low water") {
  constexpr std::size_t much = 200'000;  // more than the smallest socket takes
  CHECK(resumes_with_waiting(much, much));
  CHECK_FALSE(resumes_with_waiting(much, much - 1));
}

TEST_CASE("limits that are set below what is queued pause at once, and only lower ones") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 2);
  one.transport->write(zeros(1000));
  one.transport->set_write_buffer_limits(1000, {});
  CHECK(one.protocol->count("pause") == 0);
  one.transport->set_write_buffer_limits(999, {});
  CHECK(one.protocol->count("pause") == 1);
  one.transport->set_write_buffer_limits(0, {});
  CHECK(one.protocol->count("pause") == 1);
  one.transport->set_write_buffer_limits(1'000'000, {});  // asyncio resumes when a send ends, too
  CHECK(one.protocol->count("resume") == 0);
  CHECK(run_until(loop, [&] { return one.protocol->count("resume") == 1; }));
  CHECK(one.protocol->violations.empty());
}

TEST_CASE("limits that cannot be are refused and change nothing") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  CHECK(message_of<ValueError>([&] { one.transport->set_write_buffer_limits(1, 2); }) ==
        "high (1) must be >= low (2) must be >= 0");
  CHECK(one.transport->get_write_buffer_limits().high == 65536);
  CHECK(one.transport->get_write_buffer_limits().low == 16384);
}

TEST_CASE("what pause_writing and resume_writing write themselves is sent and counted") {
  Loop loop(small_options());
  Connection one;
  int written = 0;
  one.protocol->on_made = [](Transport& transport) { transport.set_write_buffer_limits(10, 0); };
  one.protocol->on_pause = [&] { one.transport->write(zeros(5)); };
  one.protocol->on_resume = [&] {
    if (++written < 50) one.transport->write(zeros(20));
  };
  one.open(loop);
  run_turns(loop, 2);
  one.transport->write(zeros(20));
  std::size_t got = 0;
  CHECK(run_until(loop, [&] {
    got += read_available(one.peer).size();
    return got == 50 * 25;
  }));
  CHECK(run_until(loop, [&] { return one.protocol->count("resume") == 50; }));
  CHECK(one.protocol->violations.empty());
}

TEST_CASE("a closing transport resumes writing as its queue goes out") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 2);
  one.transport->set_write_buffer_limits(10, {});
  one.transport->write(zeros(1000));
  one.transport->close();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->story() == "made pause resume lost");
  CHECK(read_available(one.peer).size() == 1000);
  one.transport->set_write_buffer_limits(0, {});  // harmless now
}

TEST_CASE("a dropped queue does not resume writing") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 2);
  one.transport->set_write_buffer_limits(10, {});
  one.transport->write(zeros(1000));
  one.transport->abort();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->story() == "made pause lost");
  CHECK(read_available(one.peer).empty());
}

}  // namespace
