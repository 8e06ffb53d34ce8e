// Knobs: what goes wrong in a simulated run, and how often.
//
// A run draws which knobs are on and their weights, so that faults are met alone and in company.
// In its quiet phase all are at zero. To add one: a line here, and where the fault belongs
// `world.strikes(Knob::name)`.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "sim/random.hpp"

namespace pelton::sim {

// name, the greatest weight in a thousand, what happens
#define PELTON_SIM_KNOBS(KNOB)                                                               \
  KNOB(short_receive, 600, "a receive fills a part of its buffer")                           \
  KNOB(receive_ends, 200, "a receive ends with data, F_MORE clear")                          \
  KNOB(receive_enobufs, 80, "a receive finds no buffer although there are some")             \
  KNOB(receive_enomem, 60, "a receive ends with ENOMEM")                                     \
  KNOB(receive_eintr, 60, "a receive ends with EINTR")                                       \
  KNOB(receive_eagain, 60, "a receive ends with EAGAIN")                                     \
  KNOB(receive_ecanceled, 60, "a receive ends with ECANCELED that nobody asked for")         \
  KNOB(end_takes_buffer, 200, "the end of a stream comes with a buffer of no bytes")         \
  KNOB(short_send, 300, "a send ends before its last byte")                                  \
  KNOB(slow_send, 600, "a send moves a part and waits")                                      \
  KNOB(send_eintr, 80, "a send ends with EINTR")                                             \
  KNOB(send_enomem, 60, "a send ends with ENOMEM")                                           \
  KNOB(send_enobufs, 60, "a send ends with ENOBUFS")                                         \
  KNOB(send_eagain, 60, "a send ends with EAGAIN")                                           \
  KNOB(send_ecanceled, 60, "a send ends with ECANCELED that nobody asked for")               \
  KNOB(send_meets_reset, 700, "a send comes upon a reset before the receive, and ends late") \
  KNOB(accept_emfile, 100, "an accept ends with EMFILE or ENFILE")                           \
  KNOB(accept_enomem, 100, "an accept ends with ENOMEM or ENOBUFS")                          \
  KNOB(accept_econnaborted, 100, "an accept ends with ECONNABORTED or EPROTO")               \
  KNOB(accept_eintr, 100, "an accept ends with EINTR")                                       \
  KNOB(accept_ends, 300, "an accept ends with a connection, F_MORE clear")                   \
  KNOB(socket_emfile, 100, "socket(2) fails with EMFILE")                                    \
  KNOB(connect_refused, 200, "a connect is refused")                                         \
  KNOB(connect_fails, 100, "a connect has another error")                                    \
  KNOB(connect_timeout, 100, "a connect fails after a while")                                \
  KNOB(connect_hangs, 150, "a connect has no answer for seconds")                            \
  KNOB(program_cancels, 100, "a task of the program is cancelled")                           \
  KNOB(program_aborts, 20, "the program closes or aborts every connection")                  \
  KNOB(peer_resets, 30, "a peer resets its connection")                                      \
  KNOB(peer_resets_unread, 200, "a peer resets its connection while it has bytes unread")    \
  KNOB(peer_resets_full, 300, "a peer resets its connection while its window is full")       \
  KNOB(peer_closes, 30, "a peer closes before its time")                                     \
  KNOB(peer_half_closes, 50, "a peer ends its stream before its time")                       \
  KNOB(peer_is_slow, 500, "a peer reads little, and late")                                   \
  KNOB(reset_overtakes, 500, "a reset destroys what was on its way")                         \
  KNOB(fragments, 600, "the network delivers in pieces")                                     \
  KNOB(delays, 600, "the network delivers late")                                             \
  KNOB(enter_eintr, 100, "an enter is interrupted")                                          \
  KNOB(enter_in_vain, 100, "a wait ends before its time, with nothing")                      \
  KNOB(enter_ebusy, 50, "an enter answers EBUSY and takes nothing")                          \
  KNOB(enter_eagain, 50, "an enter answers EAGAIN and takes nothing")                        \
  KNOB(enter_takes_few, 200, "an enter takes a part of the submissions")                     \
  KNOB(wake_up_fails, 100, "the read of a wake-up ends with an error")                       \
  KNOB(late_completion, 500, "a completion comes late")                                      \
  KNOB(reordering, 900, "completions come in another order")                                 \
  KNOB(issues_late, 500, "an operation does not end where it is issued, though it could")    \
  KNOB(cancel_already, 300, "a cancel answers EALREADY and its target ends later")           \
  KNOB(cancel_interrupts, 300, "a cancelled operation ends with EINTR")                      \
  KNOB(cancel_loses, 300, "a cancelled receive brings data first")                           \
  KNOB(timer_skew, 300, "a wait lasts longer than it was told")

enum class Knob : std::uint8_t {
#define PELTON_SIM_KNOB(name, most, text) name,
  PELTON_SIM_KNOBS(PELTON_SIM_KNOB)
#undef PELTON_SIM_KNOB
      count
};

class Knobs {
 public:
  static constexpr std::size_t count = static_cast<std::size_t>(Knob::count);

  /// Every weight zero.
  Knobs() noexcept = default;
  /// A share of the knobs, from none to nearly all, with a weight each.
  static Knobs draw(Random& random) noexcept;

  [[nodiscard]] unsigned weight(Knob knob) const noexcept {
    return weights_[static_cast<std::size_t>(knob)];
  }
  /// "short_receive=120 ...", those that are on.
  [[nodiscard]] std::string to_string() const;
  /// One line for each knob: name, greatest weight, what happens.
  [[nodiscard]] static std::string describe_all();

 private:
  std::array<std::uint16_t, count> weights_{};
};

}  // namespace pelton::sim
