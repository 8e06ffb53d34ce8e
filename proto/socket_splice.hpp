// SocketSplice: the bulk of one direction between two socket transports, moved by splice(2).
//
// It takes a direction over from the ring and gives it back, between two bytes of the stream:
// - draining: the source's receive is cancelled; what it delivered goes its usual way, until the
//   reader and the destination's queue are empty;
// - moving: pages go socket, pipe, socket; the ring only polls, one operation in flight;
// - ended: what was in the pipe is read into the destination's queue; the source's receive is
//   armed again and finds whatever comes next, the end of the stream included. A transport that
//   closes ends its splices at once. A destination that is aborted loses what the pipe holds, as
//   it loses its queue; over TCP its peer then sees a reset.
//
// A flow that stays bulk is read in large pieces: the source's low-water mark is raised, so that
// a wake-up brings much, and lowered when a short while passes without one, so nothing stalls. A
// flow that is bulk no longer, and one whose destination is slow and can queue what the pipe holds,
// goes back to the ring. All splices of a loop together move a bounded number of bytes in a turn;
// those who find them spent take turns.
//
// Whoever reads the source and writes to the destination notices nothing: the reader waits for
// data that is moved past it. Nothing else may write to the destination meanwhile.
//
// Ownership: a splice owns itself and its pipe, and is pinned by its operation, which pins the
// transports' sockets. The transports find theirs in a list of the thread's, for they are few.
// Neighbours: socket_transport.hpp, stream/relay.hpp, engine/splice.hpp. Thread rule: the loop's
// thread only.
#pragma once

#include <cstdint>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/splice.hpp>
#include <pelton/proto/socket_transport.hpp>

namespace pelton {

class SocketSplice final : private Timer {
 public:
  /// Begins to take over the direction, if it can be done: both are open socket transports whose
  /// direction is not spliced, SIGPIPE is ignored, there were pipes lately, and it pays.
  /// \param bytes  Counts what is moved, until one of the transports closes.
  static void begin(Transport& from, Transport& to, std::uint64_t& bytes) noexcept;

  // For SocketTransport, of transports that are marked as spliced.

  /// True while the transport's own receive must rest.
  [[nodiscard]] static bool receives_for(const SocketTransport& transport) noexcept;
  /// An operation of the transport has completed: it may be time to move.
  static void notice(const SocketTransport& transport) noexcept;
  /// The transport closes: its splices end. \param rearm  false if the loop closes. It stays marked
  /// as spliced, and keeps its socket, while the kernel has an operation of theirs.
  static void leave(const SocketTransport& transport, bool rearm) noexcept;

 private:
  enum class State : std::uint8_t { draining, moving, ended };
  /// What the timer is armed for.
  enum class Limit : std::uint8_t { source, destination, shortage, turn };

  SocketSplice(SocketTransport& from, SocketTransport& to, SplicePipe pipe,
               std::uint64_t& bytes) noexcept;
  ~SocketSplice() = default;
  [[nodiscard]] static SocketSplice* make(SocketTransport& from, SocketTransport& to,
                                          SplicePipe pipe, std::uint64_t& bytes) noexcept;
  [[nodiscard]] static bool pays(const SocketTransport& from, const SocketTransport& to) noexcept;

  [[nodiscard]] bool joins(const SocketTransport& transport) const noexcept {
    return from_.get() == &transport || to_.get() == &transport;
  }
  static void mark(SocketTransport& transport) noexcept;
  [[nodiscard]] bool drained() const noexcept;
  void proceed() noexcept;
  void move(bool ready) noexcept;
  void move_now(bool ready) noexcept;
  [[nodiscard]] bool fill(bool ready) noexcept;
  void judge(std::size_t moved) noexcept;
  void set_low_water(bool raised) noexcept;
  void wait_for_source() noexcept;
  void wait_for_destination() noexcept;
  void wait_for_turn(bool ready) noexcept;
  void give_back() noexcept;
  void limit(Limit what, Duration patience) noexcept;
  void fail(std::error_code code, bool of_destination) noexcept;
  void end(bool rearm) noexcept;
  void empty_pipe() noexcept;
  void release() noexcept;
  void on_timer() noexcept override;

  static void prepare(Op& op, io_uring_sqe& sqe) noexcept;
  static void complete(Op& op, int res, std::uint32_t flags) noexcept;
  static const OpKind kind;

  Ref<SocketTransport> from_;
  Ref<SocketTransport> to_;
  std::uint64_t* bytes_;
  SplicePipe pipe_;
  std::size_t in_pipe_ = 0;
  TimePoint give_back_at_{};  ///< when the destination will have had its time for the pipe
  Op poll_{kind, this};
  State state_ = State::draining;
  Limit limit_ = Limit::destination;
  bool ready_ = false;         ///< what was waited for is there, and it waits for its turn
  bool readable_ = false;      ///< what poll_ waits for: that from_ is readable, or to_ writable
  std::uint8_t small_ = 0;     ///< small pieces in a row
  bool raised_ = false;        ///< the low-water mark is
  std::uint8_t large_ = 0;     ///< large ones in a row
  std::uint8_t large_needed_;  ///< how many of them raise the mark
};

}  // namespace pelton
