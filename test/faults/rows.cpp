// The rows of the matrix: what pelton does around each operation, and what is to come of each
// errno. See trial.hpp.
#include <cerrno>
#include <csignal>
#include <initializer_list>

#include <sys/socket.h>

#include <faults/trial.hpp>

namespace pelton::faults {
namespace {

constexpr std::string_view farewell = "bye";
constexpr std::size_t farewell_bytes = 256 * 1024;

// --- What is to come of an errno ---

bool is_one_of(int error, std::initializer_list<int> errors) {
  return std::find(errors.begin(), errors.end(), error) != errors.end();
}

Outcome of_receive(int error, When when) {
  if (when == When::closing) return Outcome::unharmed;  // nobody wants to read any more
  const bool again = is_one_of(error, {EINTR, EAGAIN, ECANCELED, ENOBUFS, ENOMEM});
  return again ? Outcome::unharmed : Outcome::lost;
}

Outcome of_send(int error, When) {
  const bool again = is_one_of(error, {EINTR, EAGAIN, ECANCELED, ENOBUFS, ENOMEM});
  return again ? Outcome::unharmed : Outcome::lost;
}

Outcome of_accept(int error, When when) {
  if (when == When::closing) return Outcome::unharmed;
  if (is_one_of(error, {EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP})) return Outcome::stopped;
  const bool again = is_one_of(error, {ECONNABORTED, EINTR, EAGAIN, ECANCELED, EPROTO});
  return again ? Outcome::unharmed : Outcome::paused;
}

Outcome of_connect(int, When when) {
  return when == When::closing ? Outcome::unharmed : Outcome::raised;
}

Outcome of_no_account(int, When) { return Outcome::unharmed; }

// --- Servers ---

std::string message(const Trial& trial) {
  // Of several buffers where a relay is to send several pieces at once.
  const std::size_t size = trial.what.row->opcode == IORING_OP_SENDMSG ? 3000 : 100;
  std::string text(size, ' ');
  for (std::size_t index = 0; index < size; ++index) text[index] = static_cast<char>(index % 251);
  return text;
}

/// In one piece, or in two that are sent together.
void answer(Trial& trial, StreamWriter& writer, std::string text) {
  if (trial.what.row->opcode == IORING_OP_SENDMSG && text.size() > 1) {
    writer.write(text.substr(0, 1));
    text.erase(0, 1);
  }
  writer.write(std::move(text));
}

Task<> wait_closed(Trial& trial, StreamWriter& writer) {
  try {
    co_await writer.wait_closed();
  } catch (const OSError& error) {
    if (trial.heard == 0) trial.heard = error.code().value();
  }
  ++trial.handlers;
}

/// Echoes. At a farewell it says much, and closes: then the error of a closing connection strikes.
Task<> echo(Trial& trial, StreamReader reader, StreamWriter writer) {
  try {
    while (Bytes data = co_await reader.read(64 * 1024)) {
      if (data.view() == farewell) {
        const bool striking = trial.what.when == When::closing && !trial.what.row->of_loop;
        if (striking && trial.what.row->opcode != IORING_OP_RECV) trial.strike_next();
        answer(trial, writer, std::string(farewell_bytes, 'x'));
        if (striking && trial.what.row->opcode == IORING_OP_RECV) trial.strike_now();
        break;
      }
      answer(trial, writer, data.to_string());
      co_await writer.drain();
    }
  } catch (const OSError& error) {
    trial.heard = error.code().value();
  }
  writer.close();
  co_await wait_closed(trial, writer);
}

Task<> exchange(Trial& trial, Client& client) {
  const std::string text = message(trial);
  client.send(text);
  check(co_await client.receive(text.size()) == text, "an echo differs, or has ended");
}

Task<> exchange_with_new_client(Trial& trial, SocketAddress address) {
  Client client(address);
  co_await exchange(trial, client);
}

Task<> close(Trial& trial, Server& server, unsigned handlers) {
  server.close();
  co_await server.wait_closed();
  co_await until([&] { return trial.handlers == handlers; }, "a handler has not ended");
}

// --- Rows of an echo ---

/// The connection that the error has struck, seen from outside.
Task<> meet_outcome(Trial& trial, Client& client) {
  if (trial.expected() == Outcome::unharmed) {
    const std::string text = message(trial);
    check(co_await client.receive(text.size()) == text, "an echo differs, or has ended");
    check(trial.heard == 0, "a handler heard of an error that harms nobody");
  } else {
    static_cast<void>(co_await client.drain());
    co_await until([&] { return trial.handlers == 1; }, "the lost connection has not ended");
    check(trial.heard == trial.what.error, "heard errno " + std::to_string(trial.heard));
  }
}

Task<> run_echo(Trial& trial) {
  Server server = start_server(
      [&trial](StreamReader reader, StreamWriter writer) {
        return echo(trial, std::move(reader), std::move(writer));
      },
      "127.0.0.1", 0);
  const SocketAddress address = server.addresses().front();
  const When when = trial.what.when;
  if (when == When::first) trial.strike_next();
  {
    Client client(address);
    if (when != When::first) {
      co_await exchange(trial, client);
      co_await exchange(trial, client);
    }
    if (when == When::mid && trial.what.row->opcode == IORING_OP_RECV) trial.strike_now();
    if (when == When::mid && trial.what.row->opcode != IORING_OP_RECV) trial.strike_next();
    if (when != When::closing) {
      client.send(message(trial));
      co_await meet_outcome(trial, client);
    } else {
      client.send(farewell);
      const std::string said = co_await client.drain();
      co_await until([&] { return trial.handlers == 1; }, "the closed connection has not ended");
      const bool unharmed = trial.expected() == Outcome::unharmed;
      check(!unharmed || said.size() == farewell_bytes, "a farewell is cut short");
      check(trial.heard == (unharmed ? 0 : trial.what.error), "heard another errno");
    }
    co_await exchange_with_new_client(trial, address);
  }
  co_await close(trial, server, 2);
}

Task<> run_accept(Trial& trial) {
  Server server = start_server(
      [&trial](StreamReader reader, StreamWriter writer) {
        return echo(trial, std::move(reader), std::move(writer));
      },
      "127.0.0.1", 0);
  const SocketAddress address = server.addresses().front();
  const When when = trial.what.when;
  if (when == When::first) trial.strike_next();
  co_await sleep(Duration::zero());
  if (when != When::first) co_await exchange_with_new_client(trial, address);
  if (when != When::first) trial.strike_now();
  unsigned handlers = when == When::first ? 0 : 1;
  if (when != When::closing) {
    co_await until([&] { return trial.ring->struck() == 1; }, "no accept was struck");
    co_await sleep(Duration::zero());
    const LoopStats& stats = trial.loop->stats();
    check(stats.accept_pauses == (trial.expected() == Outcome::paused ? 1 : 0), "pauses of accept");
    if (trial.expected() == Outcome::paused) trial.loop->report_descriptor_free();
    if (trial.expected() == Outcome::stopped) {
      Client refused(address);
      static_cast<void>(co_await refused.drain());
    } else {
      co_await exchange_with_new_client(trial, address);
      ++handlers;
    }
  }
  co_await close(trial, server, handlers);
}

/// Answers to cancels: of a receive while its connection closes, of one that is paused; of the
/// loop's own at its end.
Task<> run_cancel(Trial& trial) {
  bool reads = false;
  std::string read;
  const auto hold = [](Trial& of, bool& may_read, std::string& into, StreamReader reader,
                       StreamWriter writer) -> Task<> {
    co_await until([&] { return may_read; }, "a handler may not read");
    try {
      while (Bytes data = co_await reader.read(64 * 1024)) into += data.to_string();
    } catch (const OSError&) {
    }
    writer.close();
    co_await wait_closed(of, writer);
  };
  ServerOptions options;
  options.limit = 1024;
  const bool pauses = trial.what.when == When::mid;
  Server server = start_server(
      [&](StreamReader reader, StreamWriter writer) {
        return pauses ? hold(trial, reads, read, std::move(reader), std::move(writer))
                      : echo(trial, std::move(reader), std::move(writer));
      },
      "127.0.0.1", 0, options);
  const std::string sent(8 * 1024, 'y');
  {
    Client client(server.addresses().front());
    if (pauses) {
      trial.strike_next();
      client.send(sent);
      co_await until([&] { return trial.ring->struck() == 1; }, "reading was not paused");
      reads = true;
      co_await until([&] { return read == sent; }, "what was read after a pause");
    } else {
      if (trial.what.when == When::first) trial.strike_next();
      client.send(farewell);
      check((co_await client.drain()).size() == farewell_bytes, "a farewell is cut short");
    }
  }
  co_await close(trial, server, 1);
}

// --- Rows of a connect ---

Task<int> open(Trial& trial, SocketAddress address) {
  try {
    StreamPair streams = co_await open_connection(address.host(), address.port());
    streams.writer.close();
    co_await wait_closed(trial, streams.writer);
  } catch (const OSError& error) {
    co_return error.code().value();
  }
  co_return 0;
}

Task<> run_connect(Trial& trial) {
  Listening outside;
  const When when = trial.what.when;
  if (when != When::first) check(co_await open(trial, outside.address()) == 0, "a connect fails");
  trial.strike_next();
  if (when == When::closing) {
    TaskHandle<int> task = trial.loop->create_task(open(trial, outside.address()));
    co_await sleep(Duration::zero());  // it has begun to connect
    task.cancel();
    co_await until([&] { return task.done(); }, "a cancelled connect has not ended");
    check(task.cancelled(), "a connect was not cancelled");
    co_await until([&] { return trial.ring->struck() == 1; }, "no connect was struck");
  } else {
    const int error = co_await open(trial, outside.address());
    check(error == (trial.expected() == Outcome::raised ? trial.what.error : 0),
          "a connect raised errno " + std::to_string(error));
  }
  check(co_await open(trial, outside.address()) == 0, "a later connect fails");
}

// --- Rows of the loop itself ---

Task<> run_mailbox(Trial& trial) {
  for (int round = 0; round < 3; ++round) {
    if (round == 1 && trial.what.when == When::mid) trial.strike_now();
    bool arrived = false;
    trial.loop->call_soon_threadsafe([&arrived] { arrived = true; });
    co_await until([&] { return arrived; }, "a post has not arrived");
    co_await sleep(Duration::zero());
  }
}

Task<> run_signals(Trial& trial) {
  int arrived = 0;
  trial.loop->add_signal_handler(SIGUSR1, [&arrived] { ++arrived; });
  for (int round = 1; round <= 3; ++round) {
    co_await sleep(Duration::zero());
    if (round == 2 && trial.what.when == When::mid) trial.strike_now();
    std::raise(SIGUSR1);
    co_await until([&] { return arrived == round; }, "a signal has not arrived");
  }
  co_await sleep(Duration::zero());  // its read is under way again
}

}  // namespace

Task<> run_relay(Trial& trial);
Task<> run_splice(Trial& trial);

const std::vector<Row>& rows() {
  static const std::vector<Row> all = {
      {"accept", IORING_OP_ACCEPT, run_accept, of_accept},
      {"recv", IORING_OP_RECV, run_echo, of_receive},
      {"send", IORING_OP_SEND, run_echo, of_send},
      {"sendmsg", IORING_OP_SENDMSG, run_echo, of_send},
      {"relay-recv", IORING_OP_RECV, run_relay, of_receive},
      {"relay-send", IORING_OP_SEND, run_relay, of_send},
      {"relay-sendmsg", IORING_OP_SENDMSG, run_relay, of_send},
      {"connect", IORING_OP_CONNECT, run_connect, of_connect},
      {"relay-connect", IORING_OP_CONNECT, run_relay, of_connect},
      {"mailbox-read", IORING_OP_READ, run_mailbox, of_no_account, true},
      {"signals-read", IORING_OP_READ, run_signals, of_no_account, true, 1},
      {"splice-poll", IORING_OP_POLL_ADD, run_splice, of_no_account},
      {"cancel", IORING_OP_ASYNC_CANCEL, run_cancel, of_no_account, true},
  };
  return all;
}

}  // namespace pelton::faults
