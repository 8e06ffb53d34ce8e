// The rows of a relay: a client, pelton between, a server outside. See trial.hpp.
#include <sys/socket.h>

#include <csignal>

#include <faults/trial.hpp>

namespace pelton::faults {
namespace {

constexpr std::size_t bulk_bytes = 3 * 512 * 1024;
constexpr std::size_t piece_bytes = 16 * 1024;

/// What a test of a relay holds: the server, and what its handlers came to.
struct Between {
  Trial& trial;
  SocketAddress upstream;
  bool splices = false;
  std::vector<TaskHandle<>> tasks;
};

void shrink(const StreamPair& streams) {
  const int bytes = 32 * 1024;
  const ExtraInfo socket = streams.writer.get_extra_info("socket");
  static_cast<void>(setsockopt(std::get<int>(socket), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes));
}

Task<> carry(Between& between, StreamReader reader, StreamWriter writer) {
  Trial& trial = between.trial;
  StreamPair here(std::move(reader), std::move(writer));
  try {
    StreamPair there = co_await open_connection(between.upstream.host(), between.upstream.port());
    shrink(there);
    const RelayOptions options{.splice = between.splices};
    const RelayResult result = co_await relay(std::move(here), std::move(there), options);
    // The other direction may hear that its destination is gone.
    const bool second = result.error_second.value() == trial.what.error || !result.error_first;
    trial.heard = (second ? result.error_second : result.error_first).value();
  } catch (const OSError& error) {
    trial.heard = error.code().value();
  } catch (...) {  // cancelled: whoever did so knows
  }
  if (here.writer.valid()) here.writer.close();
  ++trial.handlers;
}

Server start(Between& between) {
  return start_server(
      [&between](StreamReader reader, StreamWriter writer) {
        between.tasks.push_back(
            between.trial.loop->create_task(carry(between, std::move(reader), std::move(writer))));
      },
      "127.0.0.1", 0);
}

std::string text_of(std::size_t size) {
  std::string text(size, ' ');
  for (std::size_t index = 0; index < size; ++index) text[index] = static_cast<char>(index % 251);
  return text;
}

Task<> exchange(Client& from, Client& to, std::size_t size) {
  const std::string text = text_of(size);
  from.send(text);
  check(co_await to.receive(size) == text, "what is relayed differs, or has ended");
}

/// A new client is served once the error is over.
Task<> exchange_with_new_client(const SocketAddress& address, const Listening& outside) {
  Client client(address);
  Client upstream = co_await outside.accept();
  co_await exchange(client, upstream, 100);
  co_await exchange(upstream, client, 3000);
}

Task<> close(Between& between, Server& server, unsigned handlers) {
  server.close();
  co_await server.wait_closed();
  co_await until([&] { return between.trial.handlers == handlers; }, "a relay has not ended");
  const LoopStats& stats = between.trial.loop->stats();
  co_await until([&] { return stats.connections_opened == stats.connections_closed; },
                 "a transport has not ended");
}

/// An error of a connection that closes, which nobody is left to hear of.
Task<> strike_closing(Between& between, Client& client, Client& upstream, std::size_t size) {
  Trial& trial = between.trial;
  if (trial.what.row->opcode == IORING_OP_RECV) {
    between.tasks.front().cancel();
    co_await sleep(Duration::zero());
    static_cast<void>(trial.ring->strike_now(
        {.opcode = IORING_OP_RECV, .error = trial.what.error, .more = trial.what.more}));
  } else {
    ::shutdown(client.fd(), SHUT_WR);
    check((co_await upstream.drain()).empty(), "the end was not passed on");
    trial.strike_next();
    upstream.send(text_of(size));
    ::shutdown(upstream.fd(), SHUT_WR);
    const std::string said = co_await client.drain();
    const bool unharmed = trial.expected() == Outcome::unharmed;
    check(!unharmed || said == text_of(size), "what a relay sends last is cut short");
  }
  static_cast<void>(co_await client.drain());
  co_await until([&] { return trial.handlers == 1; }, "a closed relay has not ended");
}

Task<> strike_open(Between& between, Client& client, Client& upstream, std::size_t size) {
  Trial& trial = between.trial;
  client.send(text_of(size));
  if (trial.expected() == Outcome::unharmed) {
    check(co_await upstream.receive(size) == text_of(size), "what is relayed differs");
    check(trial.heard == 0, "a relay heard of an error that harms nobody");
    co_return;
  }
  static_cast<void>(co_await client.drain());
  static_cast<void>(co_await upstream.drain());
  co_await until([&] { return trial.handlers == 1; }, "a lost relay has not ended");
  check(trial.heard == trial.what.error, "heard errno " + std::to_string(trial.heard));
}

}  // namespace

Task<> run_relay(Trial& trial) {
  Listening outside;
  Between between{trial, outside.address(), false, {}};
  Server server = start(between);
  const SocketAddress address = server.addresses().front();
  const unsigned opcode = trial.what.row->opcode;
  const std::size_t size = opcode == IORING_OP_SENDMSG ? 3000 : 100;
  const When when = trial.what.when;
  if (when == When::mid && opcode == IORING_OP_CONNECT) {
    co_await exchange_with_new_client(address, outside);
    co_await until([&] { return trial.handlers == 1; }, "an earlier relay has not ended");
    trial.handlers = 0;
    trial.heard = 0;
    between.tasks.clear();
  }
  if (when == When::first || opcode == IORING_OP_CONNECT) trial.strike_next();
  {
    Client client(address);
    if (opcode == IORING_OP_CONNECT && trial.expected() == Outcome::raised) {
      static_cast<void>(co_await client.drain());
      check(trial.heard == trial.what.error, "a relay did not hear why it cannot connect");
    } else if (opcode == IORING_OP_CONNECT && when == When::closing) {
      co_await until([&] { return !between.tasks.empty(); }, "no handler has begun");
      co_await sleep(Duration::zero());
      between.tasks.front().cancel();
      static_cast<void>(co_await client.drain());
    } else {
      Client upstream = co_await outside.accept();
      if (when != When::first) {
        co_await exchange(client, upstream, 100);
        co_await exchange(upstream, client, 100);
      }
      if (when == When::mid && opcode == IORING_OP_RECV) trial.strike_now();
      if (when == When::mid && opcode != IORING_OP_RECV && opcode != IORING_OP_CONNECT) {
        trial.strike_next();
      }
      if (when == When::closing) {
        co_await strike_closing(between, client, upstream, size);
      } else {
        co_await strike_open(between, client, upstream, size);
      }
    }
  }
  co_await until([&] { return trial.handlers == 1; }, "the struck relay has not ended");
  if (opcode == IORING_OP_CONNECT)
    co_await until([&] { return trial.ring->struck() == 1; }, "no connect was struck");
  outside.clear();
  co_await exchange_with_new_client(address, outside);
  co_await close(between, server, 2);
}

/// Bulk, so that splice(2) takes over: its polls are struck.
Task<> run_splice(Trial& trial) {
  std::signal(SIGPIPE, SIG_IGN);
  Listening outside;
  Between between{trial, outside.address(), true, {}};
  Server server = start(between);
  const When when = trial.what.when;
  if (when != When::closing) trial.strike_next(when == When::first ? 0 : 2);
  {
    Client client(server.addresses().front());
    Client upstream = co_await outside.accept();
    const std::string text = text_of(bulk_bytes);
    std::size_t sent = 0;
    std::string received;
    const TimePoint deadline = Clock::now() + std::chrono::seconds(5);
    const LoopStats& stats = trial.loop->stats();
    while (received.size() < text.size()) {
      const ssize_t count =
          ::send(client.fd(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (count > 0) sent += static_cast<std::size_t>(count);
      // Slowly, so that the relay's queue is long, which makes a flow bulk.
      if (sent >= text.size() / 4) received += co_await upstream.receive(piece_bytes);
      check(Clock::now() < deadline, "a bulk transfer stalls");
      co_await sleep(Duration::zero());
      if (when != When::closing || stats.splices == 0) continue;
      if (trial.ring->strike_now(
              {.opcode = IORING_OP_POLL_ADD, .error = trial.what.error, .more = trial.what.more})) {
        between.tasks.front().cancel();
        break;
      }
    }
    if (when == When::closing) received += co_await upstream.drain();
    check(std::string_view(text).starts_with(received), "what is spliced differs");
    check(trial.loop->stats().splices > 0, "nothing was spliced");
  }
  co_await close(between, server, 1);
}

}  // namespace pelton::faults
