// SocketTransport's sending half: one send in flight, its pieces, write_eof, what comes too late.
#include <pelton/proto/socket_transport.hpp>

#include <doctest/doctest.h>

#include <malloc.h>
#include <sys/mman.h>

#include <thread>

#include <support/log_capture.hpp>
#include <support/message_of.hpp>
#include <support/transports.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;
using Events = std::vector<std::string>;

Bytes text_bytes(std::string_view text) { return Bytes::copy(text); }

void write_text(Transport& transport, std::string_view text) {
  transport.write_copy(std::as_bytes(std::span(text)));
}

/// Runs the loop and reads until the peer has `size` bytes. \return what it has.
std::string take(Loop& loop, const OwnedFd& peer, std::size_t size) {
  std::string got;
  CHECK(run_until(loop, [&] { return (got += read_available(peer)).size() >= size; }));
  return got;
}

TEST_CASE("many small writes of one turn leave in one send, whichever way they were written") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 2);
  for (int index = 0; index < 50; ++index) one.transport->write(text_bytes("abcdefghi "));
  CHECK(loop.stats().send_submitted == 0);  // nothing is sent inside write()
  CHECK(one.transport->get_write_buffer_size() == 500);
  CHECK(take(loop, one.peer, 500).size() == 500);
  CHECK(loop.stats().send_submitted == 1);
  for (int index = 0; index < 5000; ++index) write_text(*one.transport, "0123456789");
  CHECK(take(loop, one.peer, 50'000).size() == 50'000);
  CHECK(loop.stats().send_submitted == 2);  // gathered: few pieces
  CHECK(loop.stats().bytes_sent == 50'500);
  CHECK(one.transport->get_write_buffer_size() == 0);
}

TEST_CASE("more pieces than one message takes leave in several, in order") {
  Loop loop(small_options());
  for (const int pieces : {63, 64, 65, 1000}) {
    CAPTURE(pieces);
    Connection one;
    one.open(loop);
    run_turns(loop, 2);
    const std::uint64_t sends = loop.stats().send_submitted;
    std::string text;
    for (int index = 0; index < pieces; ++index) {
      const std::string piece = pattern(text.size(), 1 + static_cast<std::size_t>(index) % 97);
      one.transport->write(text_bytes(piece));
      text += piece;
    }
    CHECK(take(loop, one.peer, text.size()) == text);
    CHECK(loop.stats().send_submitted - sends == static_cast<unsigned>((pieces + 63) / 64));
  }
}

TEST_CASE("one send is in flight however much is written meanwhile") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, small_unix_sockets());
  run_turns(loop, 2);
  const std::size_t receive_and_send = idle_operations + 2;
  std::string text;
  for (int round = 0; round < 300; ++round) {
    const std::string piece = pattern(text.size(), 900);
    round % 2 == 0 ? one.transport->write(text_bytes(piece)) : write_text(*one.transport, piece);
    text += piece;
    run_turns(loop, 1);
    REQUIRE(loop.operations_in_flight() <= receive_and_send);
  }
  CHECK(loop.operations_in_flight() == receive_and_send);
  CHECK(take(loop, one.peer, text.size()) == text);
  CHECK(loop.stats().send_submitted < 30);  // what waited left together
}

TEST_CASE("a peer that reads slowly gets every byte, over TCP as over unix sockets") {
  Loop loop(small_options());
  for (const bool tcp : {false, true}) {
    Connection one;
    one.open(loop, tcp ? small_tcp_sockets() : small_unix_sockets());
    run_turns(loop, 2);
    const std::string text = pattern(0, 300'000);
    for (std::size_t at = 0; at < text.size(); at += 30'000) {
      one.transport->write(text_bytes(std::string_view(text).substr(at, 30'000)));
    }
    std::string got;
    CHECK(run_until(loop, [&] {
      got += read_available(one.peer, 5'000);
      return got.size() == text.size();
    }));
    CHECK(got == text);
    CHECK(one.protocol->story() == "made pause resume");
    CHECK(one.protocol->violations.empty());
  }
}

TEST_CASE("data written before the beginning is sent after it") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  write_text(*one.transport, "soon");
  CHECK(take(loop, one.peer, 4) == "soon");
}

TEST_CASE("empty writes are nothing") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  one.transport->write({});
  write_text(*one.transport, "");
  run_turns(loop, 5);
  CHECK(loop.stats().send_submitted == 0);
  CHECK(one.transport->get_write_buffer_size() == 0);
}

TEST_CASE("a piece larger than one send may be leaves in several") {
  // A gibibyte and a bit of zeros, which the kernel keeps in one page.
  const std::size_t size = (std::size_t{1} << 30) + 12'345;
  void* const zeros =
      mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(zeros != MAP_FAILED);
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  std::size_t got = 0;
  std::thread reader([&got, fd = one.peer.get()] {
    std::vector<char> space(1 << 20);
    for (;;) {
      wait_ready(fd, POLLIN);
      const ssize_t count = ::recv(fd, space.data(), space.size(), 0);
      if (count == 0) return;
      if (count > 0) got += static_cast<std::size_t>(count);
    }
  });
  one.transport->write(Bytes::from_static({static_cast<const char*>(zeros), size}));
  one.transport->close();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  one.transport->abort();
  reader.join();
  CHECK(got == size);
  CHECK(loop.stats().send_submitted == 2);
  CHECK(loop.stats().bytes_sent == size);
  CHECK_FALSE(one.protocol->failure);
  munmap(zeros, size);
}

TEST_CASE("a transport that sent much and idles keeps no memory for it") {
  const auto heap = [] {  // a sanitizer's answers zero
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  Loop loop(small_options());
  std::vector<Connection> all(32);
  for (Connection& one : all) one.open(loop);
  run_turns(loop, 3);
  const std::size_t before = heap();
  const std::string text = pattern(0, 100'000);
  for (Connection& one : all) {
    write_text(*one.transport, text);
    CHECK(take(loop, one.peer, text.size()).size() == text.size());
  }
  CHECK(heap() < before + all.size() * text.size() / 8);
}

// --- write_eof ---

TEST_CASE("write_eof without a queue ends the output at once and leaves the input open") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, tcp_sockets());
  run_turns(loop, 2);
  one.transport->write_eof();
  CHECK(peek(one.peer) == 0);
  CHECK_FALSE(one.transport->is_closing());
  CHECK(write_available(one.peer, "still heard") == 11);
  CHECK(run_until(loop, [&] { return one.protocol->data == "still heard"; }));
  one.transport->write_eof();  // idempotent
  one.peer.reset();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->story() == "made data eof lost");
  CHECK_FALSE(one.protocol->failure);
}

TEST_CASE("write_eof ends the output after the queue") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, small_unix_sockets());
  const std::string text = pattern(0, 200'000);
  one.transport->write(text_bytes(text));
  one.transport->write_eof();
  run_turns(loop, 5);
  CHECK(peek(one.peer) == 1);
  CHECK(take(loop, one.peer, text.size()) == text);
  CHECK(run_until(loop, [&] { return peek(one.peer) == 0; }));
  CHECK_FALSE(one.lost());
}

TEST_CASE("write_eof in the callback that resumes writing ends the output once") {
  Loop loop(small_options());
  Connection one;
  one.protocol->on_made = [](Transport& transport) { transport.set_write_buffer_limits(0, 0); };
  one.protocol->on_resume = [&] { one.transport->write_eof(); };
  one.open(loop);
  run_turns(loop, 2);
  write_text(*one.transport, "last words");
  CHECK(take(loop, one.peer, 10) == "last words");
  CHECK(run_until(loop, [&] { return peek(one.peer) == 0; }));
}

TEST_CASE("write after write_eof raises, also once the connection is over") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 2);
  one.transport->write_eof();
  const auto write = [&] { one.transport->write(text_bytes("x")); };
  const std::string text = "Cannot call write() after write_eof()";
  CHECK(message_of<RuntimeError>(write) == text);
  CHECK(message_of<RuntimeError>([&] { one.transport->write({}); }) == text);
  CHECK(message_of<RuntimeError>([&] { write_text(*one.transport, "x"); }) == text);
  one.transport->close();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(message_of<RuntimeError>(write) == text);
}

TEST_CASE("both ends half-close, one after the other") {
  Loop loop(small_options());
  auto sockets = tcp_sockets();
  Connection left;
  Connection right;
  left.protocol->keep_open = right.protocol->keep_open = true;
  left.transport = SocketTransport::open(loop, std::move(sockets.first), left.protocol);
  right.transport = SocketTransport::open(loop, std::move(sockets.second), right.protocol);
  const std::string request = pattern(0, 500'000);
  const std::string reply = pattern(77, 700'000);
  left.transport->write(text_bytes(request));
  left.transport->write_eof();
  right.protocol->on_eof = [&] {
    right.transport->write(text_bytes(reply));
    right.transport->write_eof();
    return true;
  };
  CHECK(run_until(loop, [&] { return left.protocol->count("eof") == 1; }));
  CHECK(right.protocol->data == request);
  CHECK(left.protocol->data == reply);
  CHECK_FALSE(left.transport->is_closing());
  left.transport->close();
  right.transport->close();
  CHECK(run_until(loop, [&] { return left.lost() && right.lost(); }));
  CHECK_FALSE(left.protocol->failure);
  CHECK_FALSE(right.protocol->failure);
}

// --- Too late ---

TEST_CASE("writes after the loss are dropped and the fifth is logged") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 2);
  one.transport->abort();
  const LogCapture log;
  for (int index = 0; index < 4; ++index) write_text(*one.transport, "x");
  CHECK(log.lines().empty());
  one.transport->write({});  // not counted
  CHECK(log.lines().empty());
  write_text(*one.transport, "x");
  CHECK(log.lines() == Events{"socket.send() raised exception."});
  one.transport->write(text_bytes("x"));
  CHECK(log.lines().size() == 2);
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.transport->get_write_buffer_size() == 0);
  CHECK(loop.stats().send_submitted == 0);
}

TEST_CASE("writes after close are dropped if the queue was empty and sent if it was not") {
  Loop loop(small_options());
  Connection empty;
  empty.open(loop);
  Connection busy;
  busy.open(loop);
  run_turns(loop, 2);
  empty.transport->close();
  write_text(*empty.transport, "dropped");
  write_text(*busy.transport, "queued ");
  busy.transport->close();
  write_text(*busy.transport, "and added");
  CHECK(run_until(loop, [&] { return empty.lost() && busy.lost(); }));
  CHECK(read_available(empty.peer).empty());
  CHECK(read_available(busy.peer) == "queued and added");
}

TEST_CASE("a write after the last byte of a closed transport was sent is dropped") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 2);
  one.protocol->on_lost = [&] { write_text(*one.transport, "inside connection_lost"); };
  write_text(*one.transport, "queued");
  one.transport->close();
  CHECK(run_until(loop, [&] {
    if (one.transport->get_write_buffer_size() == 0) write_text(*one.transport, "?");
    return one.lost();
  }));
  write_text(*one.transport, "after connection_lost");
  CHECK(one.transport->get_write_buffer_size() == 0);
  run_turns(loop, 5);
  CHECK(loop.stats().send_submitted == 1);
  CHECK(loop.operations_in_flight() == idle_operations);
  CHECK_FALSE(one.protocol->failure);
  CHECK(read_available(one.peer) == "queued");
  CHECK(one.transport->ref_count() == 1);
}

}  // namespace
