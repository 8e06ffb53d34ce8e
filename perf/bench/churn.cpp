// A lane's work. See churn.hpp.
#include "perf/bench/churn.hpp"

namespace pelton::bench {

Task<> Churn::lane(unsigned number) {
  struct Active {
    unsigned& count;
    explicit Active(unsigned& the_count) : count(the_count) { ++count; }
    ~Active() { --count; }
  } const active(active_);
  while (!context_.ending) {
    std::string failure;
    try {
      co_await visit(number);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    if (!failure.empty()) fail(number, failure);
  }
}

Task<> Churn::visit(unsigned number) {
  const Patterns& patterns = context_.patterns;
  const TimePoint begun = Clock::now();
  Result<OwnedFd> socket = co_await dialer_.dial();
  if (!socket) {
    fail(number, dialer_.explain(socket.error()));
    co_return;
  }
  ++context_.signs_of_life;
  StreamPair pair = co_await open_connection(std::move(*socket));
  const std::size_t position = patterns.request.start_of(number);
  std::size_t at = position;
  for (std::size_t left = patterns.request_bytes; left > 0;) {
    const std::string_view piece = patterns.request.at(at, left);
    at = patterns.request.after(at, piece.size());
    left -= piece.size();
    pair.writer.write(Bytes::from_static(piece));
  }
  if (co_await read_back(pair.reader, number, position)) {
    const TimePoint now = Clock::now();
    context_.record(now, now - begun);
    context_.count(now, 1, patterns.reply_bytes);
  }
  pair.writer.close();
  co_await pair.writer.wait_closed();
  ++context_.signs_of_life;
}

/// Reads one message. \return false where it failed, which ends the run.
Task<bool> Churn::read_back(StreamReader reader, unsigned number, std::size_t position) {
  const Pattern& reply = context_.patterns.reply;
  for (std::size_t left = context_.patterns.reply_bytes; left > 0;) {
    Result<Bytes> data = co_await reader.try_read_piece(left);
    if (!data || data->empty()) {
      fail(number,
           data ? "the server closed it before its echo was complete" : data.error().message());
      co_return false;
    }
    if (const auto difference = reply.difference(position, data->view())) {
      fail(number, "wrong bytes at offset " +
                       std::to_string(context_.patterns.reply_bytes - left + difference->offset) +
                       " of the echo");
      co_return false;
    }
    position = reply.after(position, data->size());
    left -= data->size();
  }
  co_return true;
}

void Churn::fail(unsigned number, const std::string& what) {
  context_.ending = true;
  context_.fail("connection " + std::to_string(number) + ": " + what);
}

}  // namespace pelton::bench
