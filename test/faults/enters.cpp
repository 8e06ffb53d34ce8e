// The cases of entering, and the echo that they meet. See enters.hpp.
#include <faults/enters.hpp>

#include <cerrno>

#include <faults/trial.hpp>

namespace pelton::faults {
namespace {

constexpr unsigned enters_struck = 16;  // more than an echo needs from its start to its end

Task<> serve(StreamReader reader, StreamWriter writer) {
  while (Bytes data = co_await reader.read(4096)) {
    writer.write(std::move(data));
    co_await writer.drain();
  }
  writer.close();
  co_await writer.wait_closed();
}

Task<> exchange() {
  Server server = start_server(serve, "127.0.0.1", 0);
  StreamPair streams = co_await open_connection("127.0.0.1", server.addresses().front().port());
  for (int round = 0; round < 2; ++round) {
    streams.writer.write("something that is to come back");
    const Bytes back = co_await streams.reader.readexactly(30);
    check(back.view() == "something that is to come back", "an echo differs");
  }
  streams.writer.close();
  co_await streams.writer.wait_closed();
  server.close();
  co_await server.wait_closed();
}

}  // namespace

std::string EnterCase::to_string() const {
  return "--engine " + engine.to_string() + " --op enter --errno " + std::to_string(strike.error);
}

std::vector<EnterCase> enter_cases(Engine engine) {
  constexpr std::pair<int, bool> errors[] = {
      {EINTR, false}, {EAGAIN, false},  {EBUSY, false}, {ENOMEM, false},    {EBADR, false},
      {ETIME, false}, {EBADF, true},    {EFAULT, true}, {EINVAL, true},     {ENXIO, true},
      {EPERM, true},  {EBADFD, true},   {EEXIST, true}, {EOPNOTSUPP, true}, {ECANCELED, true},
      {EIO, true},    {EOVERFLOW, true}};
  std::vector<EnterCase> cases;
  for (const auto& [error, fatal] : errors) {
    for (unsigned after = 0; after < enters_struck; ++after) {
      for (const bool submits : {false, true}) {
        cases.push_back({{error, after, submits}, fatal, engine});
      }
    }
  }
  return cases;
}

void run_enter(const EnterCase& what) {
  const Case none{.row = &rows().front(), .engine = what.engine};
  Trial trial(none);
  trial.ring->strike_enter(what.strike);
  int raised = 0;
  try {
    trial.loop->run_until_complete(exchange());
  } catch (const OSError& error) {
    raised = error.code().value();
  }
  const bool struck = trial.ring->struck() == 1;
  check(raised == (what.fatal && struck ? what.strike.error : 0),
        "the run raised errno " + std::to_string(raised));
  if (!struck) trial.ring->strike_enter({.error = what.strike.error});  // it meets the close
  trial.loop->close();
  check(trial.loop->operations_in_flight() == 0, "operations are in flight after the loop's end");
}

}  // namespace pelton::faults
