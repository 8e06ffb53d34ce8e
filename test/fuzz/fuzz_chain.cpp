// Fuzz target: a chain of bytes, whatever it was put together from, is the string that a plain
// std::string would be; and bytes that were handed out never change.
//
// Neighbours: engine/chain.hpp and bytes.hpp, which are tested; target.hpp, pieces.hpp.
#include <deque>

#include <fuzz/pieces.hpp>
#include <fuzz/target.hpp>
#include <pelton/engine/chain.hpp>

namespace pelton::fuzz {
namespace {

constexpr std::size_t bytes_max = 32 * 1024;
constexpr int steps_max = 300;

class ChainRun {
 public:
  void step(Input& input) {
    switch (input.byte() % 12) {
      case 0:
      case 1:
        return grow(input, &Chain::append);
      case 2:
        return grow(input, &Chain::append_gathering);
      case 3:
        return append_copy(input);
      case 4:
        return take(input);
      case 5:
        return take_piece(input);
      case 6:
        return take_through(input);
      case 7:
        return drop(input);
      case 8:
        return find(input);
      case 9:
        return match(input);
      case 10:
        return copy_out(input);
      default:
        return forget(input);
    }
  }

  void check() const {
    require(chain_.size() == model_.size() && chain_.empty() == model_.empty(), "another size");
    std::string content;
    for (std::size_t index = 0; index < chain_.piece_count(); ++index) {
      require(!chain_.piece(index).empty(), "an empty piece");
      content += chain_.piece(index).view();
    }
    require(content == model_, "another content");
  }
  void check_kept() const {
    for (const Kept& kept : kept_) {
      require(kept.bytes == kept.text, "bytes that were handed out have changed");
    }
  }

 private:
  struct Kept {
    Bytes bytes;
    std::string text;
  };

  void grow(Input& input, void (Chain::*append)(Bytes)) {
    Bytes bytes = source_.next(input);
    if (model_.size() + bytes.size() > bytes_max) return;
    model_ += bytes.view();
    keep(bytes);
    (chain_.*append)(std::move(bytes));
  }
  void append_copy(Input& input) {
    const std::string text = text_of(input);
    if (model_.size() + text.size() > bytes_max) return;
    model_ += text;
    chain_.append_copy(std::as_bytes(std::span(text)));
  }
  void take(Input& input) {
    const std::size_t count = input.word() % (model_.size() + 1);
    hand_out(count == 0 ? chain_.take_all() : chain_.take(count),
             count == 0 ? model_.size() : count);
  }
  void take_piece(Input& input) {
    const std::size_t most = input.word();
    const std::size_t there = model_.empty() ? 0 : chain_.front().size();
    hand_out(chain_.take_piece(most), std::min(most, there));
  }
  /// As lines are read: through the first of a byte, where the first piece has it.
  void take_through(Input& input) {
    const auto end = static_cast<char>(input.byte());
    if (model_.empty()) return;
    const std::size_t count = chain_.front_through(end);
    const std::size_t there = std::string_view(model_).substr(0, chain_.front().size()).find(end);
    require(count == (there == std::string::npos ? 0 : there + 1), "another place of a byte");
    if (count > 0) hand_out(chain_.take_front(count), count);
  }
  void drop(Input& input) {
    const std::size_t count = input.word() % (model_.size() + 1);
    chain_.drop(count);
    model_.erase(0, count);
  }
  void find(Input& input) {
    const std::size_t from = input.word() % (model_.size() + 2);
    const std::string_view pattern = pattern_of(input);
    const std::size_t there = from > model_.size() ? Chain::npos : model_.find(pattern, from);
    if (chain_.find(pattern, from) != there) fail("another place of " + shown(pattern));
  }
  void match(Input& input) {
    const std::size_t offset = input.word() % (model_.size() + 2);
    const std::string_view pattern = pattern_of(input);
    const bool there =
        offset <= model_.size() && std::string_view(model_).substr(offset).starts_with(pattern);
    if (chain_.matches(offset, pattern) != there) fail("a match, or none: " + shown(pattern));
  }
  /// A pattern of the input, or one that is in the chain for certain.
  std::string_view pattern_of(Input& input) {
    const unsigned kind = input.byte();
    if (kind < 8) return input.take(kind);
    const std::size_t start = input.word() % (model_.size() + 1);
    return std::string_view(model_).substr(start, kind);
  }
  void copy_out(Input& input) {
    static_cast<void>(chain_.copy_out(input.byte() % (chain_.piece_count() + 1)));
  }
  void forget(Input& input) {
    check_kept();
    const std::size_t count = input.byte() % (kept_.size() + 1);
    kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(count));
  }
  void hand_out(Bytes bytes, std::size_t count) {
    require(bytes == model_.substr(0, count), "other bytes than those at the front");
    model_.erase(0, count);
    keep(bytes);
  }
  void keep(const Bytes& bytes) { kept_.push_back({bytes, bytes.to_string()}); }

  PieceSource source_;
  Chain chain_;
  std::string model_;
  std::deque<Kept> kept_;
};

}  // namespace
}  // namespace pelton::fuzz

PELTON_FUZZ_TARGET(chain) {
  pelton::fuzz::ChainRun run;
  for (int step = 0; step < pelton::fuzz::steps_max && !input.empty(); ++step) {
    run.step(input);
    run.check();
  }
  run.check_kept();
}
