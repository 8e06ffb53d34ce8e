// SocketTransport: receives and sends that the kernel ends by itself, as it does for want of
// memory. Here a request to cancel everything on the descriptor, which the transport does not know
// of, makes it do so.
#include <pelton/proto/socket_transport.hpp>

#include <doctest/doctest.h>

#include <pelton/engine/sqe.hpp>
#include <support/transports.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;

/// Cancels what is in flight on a descriptor, behind the back of whoever started it.
class CancelOnDescriptor {
 public:
  CancelOnDescriptor(Loop& loop, int fd) : loop_(loop), fd_(fd) {}
  /// \return how many operations were found.
  int operator()() {
    result_ = -1;
    loop_.start(op_);
    CHECK(run_until(loop_, [&] { return !op_.in_flight(); }));
    return result_;
  }

 private:
  static void prepare(Op& op, io_uring_sqe& sqe) noexcept {
    sqe.opcode = IORING_OP_ASYNC_CANCEL;
    sqe.fd = op.owner<CancelOnDescriptor>().fd_;
    sqe.cancel_flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL;
  }
  static void complete(Op& op, int res, std::uint32_t) noexcept {
    op.owner<CancelOnDescriptor>().result_ = res;
  }
  static constexpr OpKind kind{"cancel_on_descriptor", prepare, complete};

  Loop& loop_;
  int fd_;
  int result_ = -1;
  Op op_{kind, this};
};

TEST_CASE("a receive that the kernel ends by itself is armed again after a rest") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 3);
  CancelOnDescriptor cancel(loop, one.protocol->fd);
  const std::uint64_t armed = loop.stats().recv_submitted;
  const TimePoint begun = Clock::now();
  CHECK(cancel() == 1);
  CHECK(run_until(loop, [&] { return loop.stats().no_memory == 1; }));
  one.transport->pause_reading();  // who asks for it meanwhile must wait as well
  one.transport->resume_reading();
  write_available(one.peer, "heard later");
  CHECK(run_until(loop, [&] { return loop.stats().recv_submitted > armed; }));
  CHECK(Clock::now() - begun >= std::chrono::milliseconds(10));
  CHECK(run_until(loop, [&] { return one.protocol->data == "heard later"; }));
  CHECK(one.protocol->story() == "made data");
}

TEST_CASE("sends that the kernel ends by themselves are tried again after a rest") {
  for (const bool closing : {false, true}) {
    CAPTURE(closing);
    Loop loop(small_options());
    Connection one;
    one.open(loop, small_unix_sockets());
    run_turns(loop, 2);
    const std::string text = pattern(0, 60'000);
    one.transport->write(Bytes::copy(text));
    run_turns(loop, 3);
    if (closing) one.transport->close();
    run_turns(loop, 3);
    CancelOnDescriptor cancel(loop, one.protocol->fd);
    std::string got;
    for (int round = 0; round < 5; ++round) {
      CHECK(cancel() >= 1);
      const std::uint64_t sends = loop.stats().send_submitted;
      run_turns(loop, 20);  // twenty turns are over in less than the rest
      CHECK(loop.stats().send_submitted - sends <= 2);
      one.transport->write_copy({});
      if (!closing && round == 2) one.transport->write(Bytes::from_static("."));
      run_for(loop, std::chrono::milliseconds(15));
      got += read_available(one.peer, 3'000);
      run_turns(loop, 3);
    }
    const std::string expected = closing ? text : text + ".";
    CHECK(run_until(loop, [&] {
      got += read_available(one.peer);
      return got.size() >= expected.size();
    }));
    CHECK(got == expected);
    if (closing) CHECK(run_until(loop, [&] { return one.lost(); }));
    CHECK(loop.stats().no_memory > 0);
    CHECK(one.protocol->violations.empty());
  }
}

TEST_CASE("a transport that ends while it rests ends at once, and so does its loop") {
  for (const bool by_loop : {false, true}) {
    Connection one;
    Loop loop(small_options());
    one.open(loop);
    run_turns(loop, 3);
    CancelOnDescriptor cancel(loop, one.protocol->fd);
    CHECK(cancel() == 1);
    CHECK(run_until(loop, [&] { return loop.stats().no_memory == 1; }));
    one.transport->abort();
    if (!by_loop) {
      CHECK(run_until(loop, [&] { return one.lost(); }));
      run_for(loop, std::chrono::milliseconds(20));
    }
    loop.close();
    CHECK(one.transport->ref_count() == 1);
    CHECK(loop.stats().connections_closed == 1);
  }
}

}  // namespace
