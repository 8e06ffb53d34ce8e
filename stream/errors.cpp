// Texts of errors.hpp.
#include <pelton/stream/errors.hpp>

namespace pelton {
namespace {

class StreamCategory final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "pelton.stream"; }
  [[nodiscard]] std::string message(int value) const override {
    switch (static_cast<StreamErrc>(value)) {
      case StreamErrc::incomplete_read:
        return "the stream ended before the read was satisfied";
      case StreamErrc::limit_overrun:
        return "no separator within the limit";
      case StreamErrc::concurrent_read:
        return "another coroutine is already waiting for incoming data";
      case StreamErrc::invalid_argument:
        return "invalid argument";
    }
    return "unknown stream error";
  }
};

std::string incomplete_text(std::size_t read, std::optional<std::size_t> expected) {
  return std::to_string(read) + " bytes read on a total of " +
         (expected ? std::to_string(*expected) : "undefined") + " expected bytes";
}

}  // namespace

const std::error_category& stream_category() noexcept {
  static const StreamCategory category;
  return category;
}

IncompleteReadError::IncompleteReadError(Bytes partial, std::optional<std::size_t> expected)
    : EOFError(incomplete_text(partial.size(), expected)),
      partial_(std::move(partial)),
      expected_(expected) {}

}  // namespace pelton
