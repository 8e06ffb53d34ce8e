// Canaries: deliberate bugs in pelton's sources, behind PELTON_CANARY(name), one on at a time.
//
// A simulator that does not catch them within a thousand seeds is blind, and one that catches them
// by chance, by something else than what the bug does, is no better. engine/simulation.hpp has the
// macro; what a canary does is said here and where it sits. Neighbour: canary_run.cpp.
#pragma once

#include <string_view>

namespace pelton::sim {

struct Canary {
  std::string_view name;
  std::string_view text;
  std::string_view expected;       ///< what the failure says: one of these, between '|'
  std::string_view scenario = {};  ///< the only one that is run for it; empty for any
};

inline constexpr std::string_view no_end = "not come to their end|not come to its end";
inline constexpr std::string_view false_end =
    "the end of a stream was told that the peer did not end|a read found an end that the peer";

inline constexpr Canary canaries[] = {
    {"double_recycle", "a completion without a buffer gives buffer 0 back",
     "buffer 0 is offered twice|engine/buffers.cpp"},
    {"leaked_buffer", "what arrives while a transport closes keeps its buffer",
     "buffers are still lent"},
    {"early_free", "an abort frees the bytes that a send in flight points to",
     "what a send points to has changed|heap-use-after-free"},
    {"missing_receive_rearm", "a receive that ended with data is not armed again", no_end},
    {"missing_accept_rearm", "an accept that ended with a connection is not armed again", no_end},
    {"missing_send_rearm", "the rest of a short send is not sent", no_end},
    {"short_send_ignored", "a short send counts as a whole one",
     "that are not what was sent|came back|arrived"},
    {"send_overlap", "a send is started beside another one", "assertion failed: !op.in_flight()"},
    {"lost_end", "an end of stream that comes while reading is paused is forgotten", no_end},
    {"lost_half_close", "write_eof() is forgotten where bytes were still to be sent", no_end},
    {"early_half_close", "write_eof() does not wait for the bytes that were still to be sent",
     "nothing had disturbed it|without a cause|arrived"},
    {"reset_as_end", "a reset that a short send came upon counts as the end of the stream",
     false_end, "transport"},
    {"reset_before_send", "a reset that a send in flight comes upon counts as the end, too",
     false_end, "transport"},
    {"close_drops_queue", "close() drops what was still to be sent", "came back|arrived"},
    {"early_close", "a socket is closed before its operations have ended",
     "closed with operations in flight"},
    {"pause_ignored", "data is delivered although reading is paused",
     "data_received came while reading is paused"},
    {"held_overtaken", "data overtakes what was held while reading was paused",
     "is not what was sent"},
    {"held_forgotten", "held data is not delivered when reading goes on", no_end},
    {"data_after_close", "data that arrives after close() is delivered",
     "data_received came after close()|although its transport is closing"},
    {"lost_twice", "connection_lost comes twice", "connection_lost came at the wrong time"},
    {"lost_cancel", "a cancel that finds the submission queue full is forgotten",
     "operations are still in flight|assertion failed: Clock::now() < deadline"},
    {"end_judged_by_result", "an operation that ended with a result counts as going on",
     "assertion failed: !op.in_flight()"},
    {"lost_completion", "completions beyond a turn's budget are thrown away",
     "not what was sent|not come to their end"},
    {"lost_wake_up", "posts from other threads are heard once only",
     "a post from another thread does not arrive"},
    {"sleeps_on", "the loop sleeps until its next timer although tasks are ready",
     "unobserved, connections do not|unobserved, the program does not"},
    {"sleeps_past_timer", "the loop sleeps without a limit although a timer is set",
     "waits for what will never come|a sleep ended too late"},
    {"parked_for_ever", "who waits for a buffer is never called", "the program spins"},
    {"accept_spins", "an accept without a descriptor is armed again at once", "the program spins"},
    {"drain_early", "drain() is woken above low water",
     "a drain was woken at|resume_writing came too early"},
    {"drain_late", "drain() is woken at half of low water only",
     "writing is paused at|resume_writing did not come"},
    {"drain_never", "drain() is not woken", "writing is paused at"},
    {"leaked_descriptor", "a connection that is accepted while the listener closes stays open",
     "descriptors were never closed|not come to their end"},
    {"leaked_connect", "a socket whose connect nobody waits for any more stays open",
     "descriptors were never closed"},
    {"unordered_timers", "a timer that is taken back leaves the heap out of order",
     "a sleep ended too late"},
};

}  // namespace pelton::sim
