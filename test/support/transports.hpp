// What tests of transports share: a protocol that writes down what it is told and whether it was
// told so in a lawful order, connected sockets, and a way to run a loop until something is so.
//
// Header only, for it needs proto. Neighbours: the tests of proto/ and of the engine's sockets.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <pelton/proto/socket_transport.hpp>
#include <support/loops.hpp>
#include <support/sockets.hpp>
#include <support/tasks.hpp>

namespace pelton::test {

/// Keeps what it is told. Its hooks run inside the call, after it was written down, and may throw.
class RecordingProtocol final : public Protocol {
 public:
  std::function<void(Transport&)> on_made;
  std::function<void(const Bytes&)> on_data;
  std::function<bool()> on_eof;
  std::function<void()> on_lost;
  std::function<void()> on_pause;
  std::function<void()> on_resume;
  std::function<void()> on_pressure;

  bool keep_open = false;           ///< what eof_received answers, where there is no hook
  bool keep_data = true;            ///< false: only counted
  bool keep_buffers = false;        ///< true: the Bytes themselves are kept
  Transport* transport = nullptr;   ///< from connection_made on
  std::vector<std::string> events;  ///< consecutive data is one event
  std::string data;
  std::vector<Bytes> buffers;
  std::uint64_t received = 0;
  int fd = -1;  ///< the transport's, as connection_made found it
  Failure failure;
  std::vector<std::string> violations;

  [[nodiscard]] bool lost() const { return lost_; }
  /// The events, with blanks between.
  [[nodiscard]] std::string story() const {
    std::string text;
    for (const std::string& event : events) text += (text.empty() ? "" : " ") + event;
    return text;
  }
  [[nodiscard]] int count(std::string_view event) const {
    return static_cast<int>(std::count(events.begin(), events.end(), event));
  }

  void connection_made(Transport& made) override {
    require(transport == nullptr, "made twice");
    transport = &made;
    const ExtraInfo socket = made.get_extra_info("socket");
    if (const int* number = std::get_if<int>(&socket)) fd = *number;
    note("made");
    if (on_made) on_made(made);
  }
  void data_received(Bytes bytes) override {
    require(transport != nullptr, "data before made");
    require(!bytes.empty(), "empty data");
    require(transport && transport->is_reading(), "data while paused or closing");
    require(!ended_, "data after the end");
    received += bytes.size();
    if (keep_data) data += bytes.view();
    if (keep_buffers) buffers.push_back(bytes);
    note("data");
    if (on_data) on_data(bytes);
  }
  bool eof_received() override {
    require(transport && transport->is_reading(), "eof while paused or closing");
    require(!std::exchange(ended_, true), "eof twice");
    note("eof");
    return on_eof ? on_eof() : keep_open;
  }
  void connection_lost(const Failure& why) override {
    require(transport != nullptr, "lost before made");
    require(!lost_, "lost twice");
    require(
        transport && std::holds_alternative<std::monostate>(transport->get_extra_info("socket")),
        "lost before the socket was closed");
    failure = why;
    note("lost");
    lost_ = true;
    if (on_lost) on_lost();
  }
  void pause_writing() override {
    require(!std::exchange(writing_paused_, true), "paused twice");
    note("pause");
    if (on_pause) on_pause();
  }
  void resume_writing() override {
    require(std::exchange(writing_paused_, false), "resumed without a pause");
    note("resume");
    if (on_resume) on_resume();
  }
  void relieve_buffer_pressure() noexcept override {
    if (on_pressure) on_pressure();
  }

 private:
  void require(bool lawful, const char* what) {
    if (!lawful) violations.emplace_back(what);
  }
  void note(const char* event) {
    require(!lost_, "called after lost");
    if (events.empty() || events.back() != "data" || std::string_view(event) != "data") {
      events.emplace_back(event);
    }
  }
  bool ended_ = false;
  bool writing_paused_ = false;
  bool lost_ = false;
};

/// A transport, its protocol, and the other end of its socket.
struct Connection {
  Ref<RecordingProtocol> protocol = make_ref<RecordingProtocol>();
  Ref<SocketTransport> transport;
  OwnedFd peer;

  /// Opens the transport; hooks that connection_made needs are to be set before.
  void open(Loop& loop, std::pair<OwnedFd, OwnedFd> sockets = unix_sockets()) {
    peer = std::move(sockets.second);
    transport = SocketTransport::open(loop, std::move(sockets.first), protocol);
  }
  /// The same without a turn between, as a server's accept does it.
  void open_now(Loop& loop, std::pair<OwnedFd, OwnedFd> sockets = unix_sockets()) {
    peer = std::move(sockets.second);
    transport = SocketTransport::open_now(loop, std::move(sockets.first), protocol);
  }
  [[nodiscard]] bool lost() const { return protocol->lost(); }
};

/// Few and small buffers and queues: their edges are what is tested.
[[nodiscard]] inline LoopOptions small_options(unsigned buffers = 16, std::size_t bytes = 4096) {
  LoopOptions options;
  options.sq_entries = 64;
  options.cq_entries = 1024;
  options.buffer_count = buffers;
  options.buffer_bytes = bytes;
  return options;
}

inline Task<bool> poll_until(const std::function<bool()>& goal, TimePoint deadline) {
  while (!goal()) {
    if (Clock::now() > deadline) co_return false;
    co_await sleep(std::chrono::microseconds(200));
  }
  co_return true;
}

/// Runs `loop` until `goal()`, looking often. \return false if that is not so after a long while.
[[nodiscard]] inline bool run_until(Loop& loop, const std::function<bool()>& goal) {
  return loop.run_until_complete(poll_until(goal, Clock::now() + std::chrono::seconds(60)));
}

/// Runs `loop` until somebody stops it; no timer but the watchdog's makes it turn meanwhile.
/// \return false if the watchdog had to.
[[nodiscard]] inline bool run_until_stopped(Loop& loop) {
  bool in_time = true;
  CallHandle watchdog = loop.call_later(std::chrono::seconds(60), [&] {
    in_time = false;
    loop.stop();
  });
  loop.run_forever();
  watchdog.cancel();
  return in_time;
}

inline void run_turns(Loop& loop, int count) { loop.run_until_complete(turns(count)); }

/// The operations of a loop that serves nobody: the one that other threads wake it with.
constexpr std::size_t idle_operations = 1;

/// True if `fd` is a descriptor of this process.
[[nodiscard]] inline bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

}  // namespace pelton::test
