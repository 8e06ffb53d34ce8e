// Taking io_uring or epoll, and telling why. See ring_choice.hpp.
#include <pelton/engine/ring_choice.hpp>

#include <atomic>
#include <cstdlib>

#include <pelton/engine/epoll_ring.hpp>
#include <pelton/engine/log.hpp>
#include <pelton/engine/uring_ring.hpp>

namespace pelton {
namespace {

constexpr const char* variable = "PELTON_ENGINE";

/// A text of several lines as one.
std::string on_one_line(const std::string& text) {
  std::string line;
  for (std::size_t index = 0; index < text.size(); ++index) {
    if (text[index] != '\n') {
      line += text[index];
      continue;
    }
    line += "; ";
    while (index + 1 < text.size() && text[index + 1] == ' ') ++index;
  }
  return line;
}

}  // namespace

Engine resolve_engine(Engine engine) {
  if (engine.kind != Engine::Kind::automatic) return engine;
  const char* const text = std::getenv(variable);
  if (!text || *text == '\0') return engine;
  try {
    return Engine::parse(text);
  } catch (const ValueError& error) {
    throw ValueError(std::string("environment variable ") + variable + ": " + error.what());
  }
}

std::unique_ptr<Ring> make_ring_instead(const RingOptions& options, const std::string& reason) {
  std::unique_ptr<Ring> ring = make_epoll_ring(options);
  const std::string line = on_one_line(reason);
  ring->note_turned_down("io_uring: " + line);
  static std::atomic<bool> told = false;
  if (!told.exchange(true)) log(LogLevel::warn, "epoll is used instead of io_uring: " + line);
  return ring;
}

std::unique_ptr<Ring> make_ring(Engine engine, const RingOptions& options) {
  engine = resolve_engine(engine);
  if (engine.kind == Engine::Kind::epoll) return make_epoll_ring(options);
  try {
    return make_uring_ring(options);
  } catch (const RingUnavailable& refusal) {
    if (engine.kind == Engine::Kind::uring) throw;
    return make_ring_instead(options, refusal.what());
  }
}

}  // namespace pelton
