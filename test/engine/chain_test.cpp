// Chains against std::string at random, and what they share with whom.
//
// Neighbours: engine/chain.hpp; bytes_test has the pieces' own behaviour.
#include <pelton/engine/chain.hpp>

#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>

#include <support/child.hpp>

using pelton::Bytes;
using pelton::Chain;

namespace {

std::span<const std::byte> span_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string content(const Chain& chain) {
  std::string text;
  for (std::size_t index = 0; index < chain.piece_count(); ++index) text += chain.piece(index);
  return text;
}

/// Stands for a ring buffer: counts in `home` when its last Bytes dies.
struct FakeBuffer : pelton::detail::BytesOwner {
  FakeBuffer(std::string_view data, int& home_count) : text(data), home(home_count) {
    refs = 1;
    ring_buffer = true;
    release = [](BytesOwner& owner) noexcept {
      auto* self = static_cast<FakeBuffer*>(&owner);
      ++self->home;
      delete self;
    };
  }
  std::string text;
  int& home;
};

Bytes buffer_bytes(std::string_view data, int& home) {
  auto* buffer = new FakeBuffer(data, home);
  return {span_of(buffer->text).data(), buffer->text.size(), *buffer};
}

/// One chain and the string that it must equal.
class Comparison {
 public:
  explicit Comparison(std::uint32_t seed) : random_(seed) {}

  void step() {
    switch (random_() % 12) {
      case 0:
      case 1:
        return append();
      case 2:
      case 3:
        return append_gathering();
      case 4:
        return append_copy();
      case 5:
        return take();
      case 6:
        return take_piece();
      case 7:
        return drop();
      case 8:
        return find();
      case 9:
        return matches();
      case 10:
        return copy_out();
      default:
        return clear();
    }
  }
  void check() const {
    REQUIRE(chain_.size() == model_.size());
    REQUIRE(chain_.empty() == model_.empty());
    REQUIRE(content(chain_) == model_);
    REQUIRE((chain_.piece_count() == 0) == model_.empty());
    for (std::size_t index = 0; index < chain_.piece_count(); ++index) {
      REQUIRE_FALSE(chain_.piece(index).empty());
    }
  }
  ~Comparison() {
    chain_.clear();
    kept_ = Bytes();
    CHECK(buffers_home_ == buffers_made_);
  }

 private:
  std::size_t up_to(std::size_t limit) { return random_() % (limit + 1); }

  /// Few letters, so that patterns occur; mostly short, now and then over a block's size.
  std::string text() {
    static constexpr std::size_t limits[] = {1, 3, 8, 40, 600, 9000};
    std::string made(up_to(limits[random_() % 6]), '\0');
    for (char& letter : made) letter = "aab\r\n"[random_() % 5];
    return made;
  }
  Bytes piece(const std::string& text) {
    switch (random_() % 4) {
      case 0:
        return Bytes::adopt(std::string(text));
      case 1:
        if (text.empty()) return {};
        ++buffers_made_;
        return buffer_bytes(text, buffers_home_);
      case 2:
        return Bytes::copy("<<" + text + ">>").slice(2, text.size());
      default:
        return Bytes::copy(text);
    }
  }
  void append() {
    const std::string added = text();
    chain_.append(piece(added));
    model_ += added;
  }
  void append_gathering() {
    const std::string added = text();
    chain_.append_gathering(piece(added));
    model_ += added;
  }
  void append_copy() {
    const std::string added = text();
    chain_.append_copy(span_of(added));
    model_ += added;
  }
  void keep(Bytes bytes) {
    REQUIRE(bytes == std::string_view(model_).substr(0, bytes.size()));
    model_.erase(0, bytes.size());
    // What was taken is kept for a while: nothing that the chain does may change it.
    if (kept_text_.empty() || random_() % 8 == 0) {
      kept_text_ = bytes.to_string();
      kept_ = std::move(bytes);
    }
    REQUIRE(kept_ == kept_text_);
  }
  void take() {
    const std::size_t count = up_to(std::min<std::size_t>(model_.size(), 2000));
    Bytes bytes = chain_.take(count);
    REQUIRE(bytes.size() == count);
    keep(std::move(bytes));
  }
  void take_piece() {
    const std::size_t count_max = up_to(100);
    const std::size_t first = chain_.empty() ? 0 : chain_.piece(0).size();
    const std::byte* const place = chain_.empty() ? nullptr : chain_.piece(0).data();
    Bytes bytes = chain_.take_piece(count_max);
    REQUIRE(bytes.size() == std::min(count_max, first));
    if (!bytes.empty()) REQUIRE(bytes.data() == place);
    keep(std::move(bytes));
  }
  void drop() {
    const std::size_t count = random_() % 4 == 0 ? model_.size() : up_to(model_.size());
    chain_.drop(count);
    model_.erase(0, count);
  }
  std::string pattern() {
    if (random_() % 3 == 0 || model_.empty()) return text().substr(0, 5);
    return model_.substr(up_to(model_.size() - 1), up_to(12));
  }
  void find() {
    for (int round = 0; round < 20; ++round) {
      const std::string wanted = pattern();
      const std::size_t from = up_to(model_.size() + 2);
      REQUIRE(chain_.find(wanted, from) == model_.find(wanted, from));
    }
    REQUIRE(chain_.find("absent") == Chain::npos);
  }
  void matches() {
    for (int round = 0; round < 20; ++round) {
      const std::string wanted = pattern();
      const std::size_t offset = up_to(model_.size() + 2);
      const bool expected =
          offset <= model_.size() && std::string_view(model_).substr(offset).starts_with(wanted);
      REQUIRE(chain_.matches(offset, wanted) == expected);
    }
  }
  void copy_out() {
    const std::size_t first = up_to(chain_.piece_count() + 1);
    const std::size_t copied = chain_.copy_out(first);
    REQUIRE(copied <= model_.size());
    REQUIRE(chain_.copy_out(first) == 0);
  }
  void clear() {
    if (random_() % 3 != 0) return;
    chain_.clear();
    model_.clear();
  }

  std::mt19937 random_;
  Chain chain_;
  std::string model_;
  Bytes kept_;
  std::string kept_text_;
  int buffers_made_ = 0;
  int buffers_home_ = 0;
};

}  // namespace

TEST_CASE("slices that follow one another in one memory become one piece again") {
  const Bytes text = Bytes::copy("one two three");
  Chain chain;
  chain.append(text.slice(0, 4));
  chain.append(text.slice(4, 4));
  CHECK(chain.piece_count() == 1);
  CHECK(chain.piece(0) == "one two ");
  CHECK(chain.piece(0).data() == text.data());
  chain.append(text.slice(9, 4));  // a byte is missing between
  CHECK(chain.piece_count() == 2);
  chain.append(Bytes::from_static("x"));
  chain.append(Bytes::copy("y"));
  CHECK(chain.piece_count() == 4);
  CHECK(chain.take_all() == "one two hreexy");
}

TEST_CASE("a chain equals a string, whatever is appended, taken, dropped and searched") {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Comparison comparison(seed);
    for (int step = 0; step < 200; ++step) {
      comparison.step();
      comparison.check();
    }
  }
}

TEST_CASE("what lies in one piece is sliced and what crosses two is joined") {
  int home = 0;
  Chain chain;
  const Bytes first = buffer_bytes("0123456789", home);
  const Bytes second = buffer_bytes("abcdef", home);
  chain.append(first);
  chain.append(second);
  CHECK(chain.take(4).data() == first.data());
  CHECK(chain.take(1).data() == first.data() + 4);
  const Bytes joined = chain.take(7);
  CHECK(joined == "56789ab");
  CHECK(joined.owner() != first.owner());
  CHECK(joined.owner() != second.owner());
  CHECK(first.owner()->refs == 1);  // the chain holds it no more
  CHECK(chain.take_all().data() == second.data() + 2);
  CHECK(chain.empty());
}

TEST_CASE("a ring buffer goes home when the last of its Bytes dies and not before") {
  int home = 0;
  Chain chain;
  chain.append(buffer_bytes("0123456789", home));
  Bytes slice = chain.take(3);
  chain.drop(7);
  CHECK(chain.empty());
  CHECK(home == 0);
  const Bytes part = slice.slice(1, 1);
  slice = Bytes();
  CHECK(home == 0);
  CHECK(part == "1");
  {
    Chain dies;
    dies.append(buffer_bytes("x", home));
  }
  CHECK(home == 1);
}

TEST_CASE("taking a whole chain of one piece gives that piece back") {
  int home = 0;
  Chain chain;
  chain.append(buffer_bytes("whole", home));
  const Bytes whole = chain.take_all();
  CHECK(whole.owner()->refs == 1);
  CHECK(chain.take_all().empty());
  CHECK(chain.take(0).empty());
  CHECK(chain.take_piece(10).empty());
}

TEST_CASE("small pieces behind others are gathered and their buffers go home at once") {
  int home = 0;
  Chain chain;
  chain.append_gathering(buffer_bytes("first", home));
  CHECK(home == 0);
  for (int count = 0; count < 1000; ++count) chain.append_gathering(buffer_bytes("x", home));
  CHECK(home == 1000);
  CHECK(chain.piece_count() == 2);
  const std::string large(2049, 'L');
  chain.append_gathering(buffer_bytes(large, home));
  CHECK(home == 1000);
  CHECK(chain.piece_count() == 3);
  CHECK(content(chain) == "first" + std::string(1000, 'x') + large);
  chain.append_gathering(Bytes());
  CHECK(chain.piece_count() == 3);
}

TEST_CASE("copies fill the room of the block before they open another") {
  Chain chain;
  chain.append_copy(span_of(std::string(4000, 'a')));
  CHECK(chain.piece_count() == 1);
  chain.append_copy(span_of(std::string(200, 'b')));
  CHECK(chain.piece_count() == 2);
  CHECK(chain.piece(0).size() == 4096);
  CHECK(chain.piece(1).size() == 104);
  chain.append_copy(span_of(std::string(20'000, 'c')));
  CHECK(chain.piece_count() == 3);
  CHECK(content(chain) ==
        std::string(4000, 'a') + std::string(200, 'b') + std::string(20'000, 'c'));
}

TEST_CASE("a block is not written behind a piece that is not the last") {
  Chain chain;
  chain.append_copy(span_of("one"));
  chain.append(Bytes::from_static("two"));
  chain.append_copy(span_of("three"));
  CHECK(chain.piece_count() == 3);
  const Bytes all = chain.take(6);
  chain.append_copy(span_of("four"));
  CHECK(all == "onetwo");
  CHECK(content(chain) == "threefour");
}

TEST_CASE("copying out frees ring buffers and touches nothing that is on the heap already") {
  int home = 0;
  Chain chain;
  chain.append(buffer_bytes("ring", home));
  chain.append(Bytes::copy("heap"));
  chain.append(Bytes::from_static("static"));
  chain.append(buffer_bytes("ring", home));
  const std::byte* const heap = chain.piece(1).data();
  CHECK(chain.copy_out(1) == 4);
  CHECK(home == 1);
  CHECK(chain.copy_out() == 4);
  CHECK(home == 2);
  CHECK(chain.copy_out() == 0);
  CHECK(chain.piece(1).data() == heap);
  CHECK(content(chain) == "ringheapstaticring");
}

TEST_CASE("a pattern is found across any number of pieces") {
  for (std::size_t size = 1; size <= 7; ++size) {
    const std::string text = "a\r\r\n aaab\r\n\r\naaabaaab\r\n.\r\n";
    Chain chain;
    for (std::size_t begin = 0; begin < text.size(); begin += size) {
      chain.append(Bytes::copy(text.substr(begin, size)));
    }
    for (const std::string_view pattern : {"\r\n", "\r\n\r\n", "\r\n.\r\n", "aaab", "b", "aabaa"}) {
      for (std::size_t from = 0; from <= text.size(); ++from) {
        CHECK(chain.find(pattern, from) == text.find(pattern, from));
      }
    }
    CHECK(chain.find("", text.size()) == text.size());
    CHECK(chain.find("", text.size() + 1) == Chain::npos);
    CHECK(chain.find(text) == 0);
    CHECK(chain.find(text + "x") == Chain::npos);
    CHECK(chain.find("a", ~std::size_t{0}) == Chain::npos);
    CHECK_FALSE(chain.matches(~std::size_t{0}, "a"));
  }
}

TEST_CASE("searching among ten thousand near misses in a thousand pieces is linear") {
  Chain chain;
  for (int index = 0; index < 1000; ++index) chain.append(Bytes::copy(std::string(1000, '\r')));
  chain.append(Bytes::copy("\n"));
  CHECK(chain.find("\r\n") == 999'999);  // quadratic, this would take minutes
  CHECK(chain.find(std::string(500, '\r') + "\n") == 999'500);
}

TEST_CASE("thousands of pieces pass through the ring array of a chain") {
  Chain chain;
  std::string expected;
  for (int round = 0; round < 5000; ++round) {
    chain.append(Bytes::copy(std::to_string(round)));
    expected += std::to_string(round);
    if (round % 3 == 0) {
      const std::size_t count = std::min<std::size_t>(5, chain.size());
      CHECK(chain.take(count) == expected.substr(0, count));
      expected.erase(0, count);
    }
  }
  CHECK(content(chain) == expected);
}

TEST_CASE("taking or dropping more than there is aborts in every build") {
  for (const bool take : {true, false}) {
    const auto end = pelton::test::run_in_child([take] {
      Chain chain;
      chain.append(Bytes::copy("abc"));
      if (take) return static_cast<int>(chain.take(4).size());
      chain.drop(4);
      return 0;
    });
    CHECK(end.signal == SIGABRT);
  }
}
