// SocketTransport: exhausted buffer groups. Receives park, are called when buffers are back, and
// nothing that a transport does meanwhile loses a wake-up or a buffer.
#include <pelton/proto/socket_transport.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <random>

#include <support/transports.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;

using Connections = std::vector<std::unique_ptr<Connection>>;

/// `count` connections that were told of their beginning and read.
Connections open_many(Loop& loop, int count) {
  Connections all;
  for (int index = 0; index < count; ++index) {
    all.push_back(std::make_unique<Connection>());
    all.back()->open(loop);
  }
  run_turns(loop, 3);
  return all;
}

TEST_CASE("groups of one, two and four buffers serve twenty floods in order and in full") {
  for (const unsigned buffers : {1U, 2U, 4U}) {
    CAPTURE(buffers);
    Loop loop(small_options(buffers, 1024));
    Connections all = open_many(loop, 20);
    const std::string text = pattern(0, 150'000);
    std::vector<std::size_t> sent(all.size());
    CHECK(run_until(loop, [&] {
      bool done = true;
      for (std::size_t index = 0; index < all.size(); ++index) {
        const std::string_view rest = std::string_view(text).substr(sent[index]);
        sent[index] += write_available(all[index]->peer, rest);
        done = done && all[index]->protocol->received == text.size();
      }
      return done;
    }));
    for (const auto& one : all) {
      CHECK(one->protocol->data == text);
      CHECK(one->protocol->violations.empty());
    }
    CHECK(loop.stats().enobufs > 0);
    CHECK(loop.stats().parks > 0);
    CHECK(loop.buffers().lent() == 0);
  }
}

TEST_CASE("a crowd of ready sockets neither fills the completion queue nor takes every buffer") {
  LoopOptions options = small_options(64, 1024);
  options.cq_entries = 512;
  options.completions_per_turn = 4;  // far fewer than one enter brings
  Loop loop(options);
  Connections all = open_many(loop, 200);
  for (const auto& one : all) {
    RecordingProtocol& protocol = *one->protocol;
    protocol.on_data = [&protocol](const Bytes& bytes) { protocol.transport->write(bytes); };
  }
  const std::string text(64, 'x');
  for (int round = 0; round < 20; ++round) {
    for (const auto& one : all) CHECK(write_available(one->peer, text) == text.size());
    const std::uint64_t expected = text.size() * static_cast<std::size_t>(round + 1);
    CHECK(run_until(loop, [&] {
      return std::ranges::all_of(all,
                                 [&](auto& one) { return one->protocol->received == expected; });
    }));
  }
  CHECK(loop.stats().cq_overflows == 0);
  CHECK(loop.stats().parks < 200);  // and not one for each of 4,000 messages
}

TEST_CASE("sends that end at once and fill every turn do not shut out what else happens") {
  LoopOptions options = small_options(64, 1024);
  options.completions_per_turn = 4;
  Loop loop(options);
  Connections writers = open_many(loop, 16);  // more than a turn completes
  Connections other = open_many(loop, 1);
  std::vector<char> sink(1 << 16);
  // Every writer writes anew as soon as what it wrote has left; somebody reads it all meanwhile.
  std::function<void()> refill = [&] {
    for (const auto& one : writers) {
      if (one->transport->get_write_buffer_size() == 0)
        one->transport->write_copy(std::as_bytes(std::span("x")));
      while (::recv(one->peer.get(), sink.data(), sink.size(), MSG_DONTWAIT) > 0) {
      }
    }
    loop.call_soon(refill);
  };
  loop.call_soon(refill);
  run_turns(loop, 20);
  CHECK(write_available(other.front()->peer, "hello") == 5);
  run_turns(loop, 100);
  CHECK(other.front()->protocol->data == "hello");
}

TEST_CASE("receives that wait for a buffer are called without any other event") {
  Loop loop(small_options(1, 64));
  Connections all = open_many(loop, 12);
  const std::string text = pattern(0, 2'000);  // thirty buffers each
  std::size_t left = all.size();
  for (const auto& one : all) {
    RecordingProtocol& protocol = *one->protocol;
    protocol.on_data = [&](const Bytes&) {
      if (protocol.received == text.size() && --left == 0) loop.stop();
    };
    CHECK(write_available(one->peer, text) == text.size());
  }
  CHECK(run_until_stopped(loop));
  for (const auto& one : all) CHECK(one->protocol->data == text);
}

TEST_CASE("parked transports that close, abort or pause pass their turn on") {
  for (const unsigned seed : {1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U}) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    Loop loop(small_options(1 + seed % 2, 64));
    Connections all = open_many(loop, 16);
    const std::string text = pattern(0, 1'000);
    std::size_t left = 0;
    const auto finished = [&] { --left == 0 ? loop.stop() : void(); };
    for (std::size_t index = 0; index < all.size(); ++index) {
      Connection& one = *all[index];
      write_available(one.peer, text);
      if (index % 4 != 3) continue;  // one in four goes on to the end
      ++left;
      one.protocol->on_data = [&](const Bytes&) {
        if (one.protocol->received == text.size()) finished();
        // Whoever else is parked now is disturbed there.
        Connection& victim = *all[random() % all.size()];
        if (victim.protocol->on_data) return;
        const unsigned what = random() % 4;
        if (what == 0) victim.transport->close();
        if (what == 1) victim.transport->abort();
        if (what == 2) victim.transport->pause_reading();
        if (what == 3) victim.transport->resume_reading();
      };
    }
    CHECK(run_until_stopped(loop));
    for (const auto& one : all) one->transport->abort();
    CHECK(run_until(loop, [&] {
      return std::all_of(all.begin(), all.end(), [](auto& one) { return one->lost(); });
    }));
    for (const auto& one : all) CHECK(one->protocol->violations.empty());
    run_turns(loop, 3);
    CHECK(loop.operations_in_flight() == idle_operations);
    CHECK(loop.buffers().lent() == 0);
  }
}

TEST_CASE("a transport that pauses while parked reads on after its resume") {
  Loop loop(small_options(1, 64));
  Connections all = open_many(loop, 4);
  const std::string text = pattern(0, 3'000);
  for (const auto& one : all) write_available(one->peer, text);
  Connection& first = *all.front();
  for (int round = 0; round < 200; ++round) {
    first.transport->pause_reading();
    run_turns(loop, 1);
    first.transport->resume_reading();
    run_turns(loop, static_cast<int>(round % 3));
  }
  CHECK(run_until(loop, [&] {
    return std::all_of(all.begin(), all.end(),
                       [&](auto& one) { return one->protocol->data == text; });
  }));
}

TEST_CASE("protocols that keep every byte do not take the last buffer") {
  Loop loop(small_options(4, 256));
  Connections all = open_many(loop, 3);
  for (const auto& one : all) one->protocol->keep_buffers = true;
  const std::string text = pattern(0, 20'000);
  for (const auto& one : all) CHECK(write_available(one->peer, text) == text.size());
  CHECK(run_until(loop, [&] {
    return std::all_of(all.begin(), all.end(),
                       [&](auto& one) { return one->protocol->received == text.size(); });
  }));
  CHECK(loop.buffers().lent() > 0);  // what was kept was not copied
  CHECK(loop.buffers().lent() < 4);  // but for the sake of the last
  CHECK(loop.stats().copied_under_pressure > 0);
  for (const auto& one : all) {
    std::string kept;
    for (const Bytes& bytes : one->protocol->buffers) kept += bytes.view();
    CHECK(kept == text);
    one->protocol->buffers.clear();
  }
  CHECK(loop.buffers().lent() == 0);
}

TEST_CASE("buffers that are held while paused are copied out when others lack them") {
  Loop loop(small_options(4, 256));
  Connection holder;
  int asked = 0;
  holder.open(loop);
  run_turns(loop, 3);
  holder.protocol->on_pressure = [&] { ++asked; };
  holder.protocol->on_data = [&](const Bytes&) { holder.transport->pause_reading(); };
  write_available(holder.peer, pattern(0, 1'000));  // four buffers at once
  CHECK(run_until(loop, [&] { return holder.protocol->received > 0; }));
  run_turns(loop, 3);
  Connection other;
  other.open(loop);
  run_turns(loop, 3);
  std::size_t sent = 0;
  const std::string text = pattern(0, 100'000);
  CHECK(run_until(loop, [&] {
    sent += write_available(other.peer, std::string_view(text).substr(sent));
    return other.protocol->received == text.size() && asked > 0;
  }));
  CHECK(loop.buffers().lent() == 0);  // none is held in the paused transport
  holder.protocol->on_data = nullptr;
  holder.transport->resume_reading();
  CHECK(run_until(loop, [&] { return holder.protocol->received == 1'000; }));
  CHECK(is_pattern(holder.protocol->data, 0));
  CHECK(other.protocol->data == text);
}

TEST_CASE("received bytes that wait to be sent are copied out, those with the kernel are not") {
  Loop loop(small_options(4, 256));
  Connection from;
  Connection stuck;
  stuck.open(loop, small_unix_sockets());
  run_turns(loop, 2);
  const std::string filler = pattern(0, 400'000);
  stuck.transport->write(Bytes::copy(filler));  // in flight, for the peer does not read
  run_turns(loop, 3);
  from.protocol->on_data = [&](const Bytes& bytes) { stuck.transport->write(bytes); };
  from.open(loop);
  const std::string text = pattern(0, 10'000);
  write_available(from.peer, text);
  CHECK(run_until(loop, [&] { return from.protocol->received == text.size(); }));
  run_for(loop, std::chrono::milliseconds(150));  // relief is not asked for more often
  write_available(from.peer, pattern(text.size(), 600));
  CHECK(run_until(loop, [&] { return from.protocol->received == text.size() + 600; }));
  run_turns(loop, 3);
  CHECK(loop.stats().copied_under_pressure > 0);
  CHECK(loop.buffers().lent() < 4);
  std::string got;
  CHECK(run_until(loop, [&] {
    got += read_available(stuck.peer);
    return got.size() == filler.size() + text.size() + 600;
  }));
  CHECK(got == filler + pattern(0, 10'600));
  CHECK(loop.buffers().lent() == 0);
}

}  // namespace
