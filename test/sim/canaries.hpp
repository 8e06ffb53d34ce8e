// Canaries: deliberate bugs in pelton's sources, behind PELTON_CANARY(name), one on at a time.
//
// A simulator that does not catch them within a thousand seeds is blind. engine/simulation.hpp has
// the macro; what a canary does is said here and where it sits.
#pragma once

#include <string_view>

namespace pelton::sim {

struct Canary {
  std::string_view name;
  std::string_view text;
};

inline constexpr Canary canaries[] = {
    {"double_recycle", "a completion without a buffer gives buffer 0 back"},
    {"leaked_buffer", "what arrives while a transport closes keeps its buffer"},
    {"early_free", "an abort frees the bytes that a send in flight points to"},
    {"missing_receive_rearm", "a receive that ended with data is not armed again"},
    {"missing_accept_rearm", "an accept that ended with a connection is not armed again"},
    {"missing_send_rearm", "the rest of a short send is not sent"},
    {"short_send_ignored", "a short send counts as a whole one"},
    {"send_overlap", "a send is started beside another one"},
    {"lost_end", "an end of stream that comes while reading is paused is forgotten"},
    {"lost_half_close", "write_eof() is forgotten where bytes were still to be sent"},
    {"early_half_close", "write_eof() does not wait for the bytes that were still to be sent"},
    {"reset_as_end", "a reset that a send came upon counts as the end of the stream"},
    {"close_drops_queue", "close() drops what was still to be sent"},
    {"early_close", "a socket is closed before its operations have ended"},
    {"pause_ignored", "data is delivered although reading is paused"},
    {"held_overtaken", "data overtakes what was held while reading was paused"},
    {"held_forgotten", "held data is not delivered when reading goes on"},
    {"lost_cancel", "a cancel that finds the submission queue full is forgotten"},
    {"end_judged_by_result", "an operation that ended with a result counts as going on"},
    {"lost_completion", "completions beyond a turn's budget are thrown away"},
    {"lost_wake_up", "posts from other threads are heard once only"},
    {"parked_for_ever", "who waits for a buffer is never called"},
    {"drain_early", "drain() is woken above low water"},
    {"drain_late", "drain() is woken at half of low water only"},
    {"drain_never", "drain() is not woken"},
    {"leaked_descriptor", "a connection that is accepted while the listener closes stays open"},
    {"leaked_connect", "a socket whose connect nobody waits for any more stays open"},
    {"unordered_timers", "a timer that is taken back leaves the heap out of order"},
};

}  // namespace pelton::sim
