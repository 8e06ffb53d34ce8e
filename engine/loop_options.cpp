// Parsing and printing of loop_options.hpp.
#include <pelton/engine/loop_options.hpp>

#include <charconv>
#include <utility>

#include <pelton/engine/error.hpp>

namespace pelton {
namespace {

// Every counter with its name: the one list that adding and printing go by.
constexpr std::pair<const char*, std::uint64_t LoopStats::*> counters[] = {
    {"turns", &LoopStats::turns},
    {"enters", &LoopStats::enters},
    {"submitted", &LoopStats::submitted},
    {"completions", &LoopStats::completions},
    {"recv_submitted", &LoopStats::recv_submitted},
    {"send_submitted", &LoopStats::send_submitted},
    {"accept_submitted", &LoopStats::accept_submitted},
    {"cancel_submitted", &LoopStats::cancel_submitted},
    {"bytes_received", &LoopStats::bytes_received},
    {"bytes_sent", &LoopStats::bytes_sent},
    {"enobufs", &LoopStats::enobufs},
    {"parks", &LoopStats::parks},
    {"copied_under_pressure", &LoopStats::copied_under_pressure},
    {"sq_full", &LoopStats::sq_full},
    {"cq_overflows", &LoopStats::cq_overflows},
    {"enter_again", &LoopStats::enter_again},
    {"no_memory", &LoopStats::no_memory},
    {"impossible", &LoopStats::impossible},
    {"accepted", &LoopStats::accepted},
    {"accept_pauses", &LoopStats::accept_pauses},
    {"connections_opened", &LoopStats::connections_opened},
    {"connections_closed", &LoopStats::connections_closed},
    {"spins", &LoopStats::spins},
    {"spin_hits", &LoopStats::spin_hits},
    {"batch_waits", &LoopStats::batch_waits},
    {"splices", &LoopStats::splices},
    {"bytes_spliced", &LoopStats::bytes_spliced},
};
static_assert(sizeof counters / sizeof counters[0] == sizeof(LoopStats) / sizeof(std::uint64_t));

}  // namespace

Engine Engine::parse(std::string_view text) {
  for (const Kind kind : {Kind::automatic, Kind::uring, Kind::epoll}) {
    if (text == Engine{kind}.to_string()) return {kind};
  }
  throw ValueError("cannot read engine '" + std::string(text) + "': expected auto, uring or epoll");
}

std::string Engine::to_string() const {
  if (kind == Kind::automatic) return "auto";
  return kind == Kind::uring ? "uring" : "epoll";
}

BusyPoll BusyPoll::parse(std::string_view text) {
  if (text == "auto") return {};
  if (text == "off") return {Mode::off, std::chrono::microseconds::zero()};
  unsigned window = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), window);
  if (error != std::errc() || end != text.data() + text.size() || window < 1 || window > 10'000) {
    throw ValueError("cannot read busy poll '" + std::string(text) +
                     "': expected auto, off, or 1 to 10000 (microseconds)");
  }
  return {Mode::always, std::chrono::microseconds(window)};
}

std::string BusyPoll::to_string() const {
  if (mode == Mode::automatic) return "auto";
  return mode == Mode::off ? "off" : std::to_string(window.count());
}

BatchWait parse_batch_wait(std::string_view text) {
  if (text == "auto") return BatchWait::automatic;
  if (text == "off") return BatchWait::off;
  throw ValueError("cannot read batch wait '" + std::string(text) + "': expected auto or off");
}

const char* to_string(BatchWait mode) noexcept {
  return mode == BatchWait::automatic ? "auto" : "off";
}

LoopStats& LoopStats::operator+=(const LoopStats& other) noexcept {
  for (const auto& [name, member] : counters) this->*member += other.*member;
  return *this;
}

std::string LoopStats::to_string() const {
  std::string text;
  for (const auto& [name, member] : counters) {
    if (!text.empty()) text += ' ';
    text += name;
    text += '=';
    text += std::to_string(this->*member);
  }
  return text;
}

}  // namespace pelton
