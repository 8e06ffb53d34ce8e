// Bytes and their owners: counts, adoption, blocks that are filled again when all is gone.
//
// Neighbours: engine/bytes.hpp; ring buffers as owners are in buffers_test.
#include <pelton/engine/bytes.hpp>

#include <doctest/doctest.h>
#include <signal.h>

#include <cstring>
#include <string>
#include <type_traits>

#include <support/child.hpp>

using pelton::Bytes;
using pelton::BytesBlock;

namespace {

/// An owner that tells whether it was released.
struct CountedOwner : pelton::detail::BytesOwner {
  CountedOwner() {
    refs = 1;
    release = [](BytesOwner& owner) noexcept { ++static_cast<CountedOwner&>(owner).released; };
  }
  int released = 0;
};

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

TEST_CASE("copies, slices and moves of Bytes count their owner and release it once") {
  CountedOwner owner;
  const std::string text = "hello, world";
  {
    Bytes whole(bytes_of(text).data(), text.size(), owner);
    CHECK(owner.refs == 1);
    const Bytes copy = whole;
    const Bytes part = whole.slice(7, 5);
    CHECK(owner.refs == 3);
    CHECK(part == "world");
    CHECK(part.data() == whole.data() + 7);
    Bytes moved = std::move(whole);
    CHECK(owner.refs == 3);
    CHECK(whole.empty());
    CHECK(whole.owner() == nullptr);
    moved = Bytes();
    CHECK(owner.refs == 2);
    CHECK(owner.released == 0);
  }
  CHECK(owner.released == 1);
}

TEST_CASE("assigning Bytes to themselves changes nothing") {
  CountedOwner owner;
  const std::string text = "self";
  Bytes bytes(bytes_of(text).data(), text.size(), owner);
  const Bytes& same = bytes;
  bytes = same;
  CHECK(bytes == "self");
  CHECK(owner.refs == 1);
  bytes = bytes.slice(1, 2);
  CHECK(bytes == "el");
  CHECK(owner.refs == 1);
}

TEST_CASE("default-made and empty Bytes own nothing and compare equal") {
  const Bytes none;
  CHECK(none.empty());
  CHECK_FALSE(none);
  CHECK(none.view().empty());
  CHECK(none == Bytes::copy(""));
  CHECK(Bytes::copy("").owner() == nullptr);
  CHECK(Bytes::adopt(std::string()).owner() == nullptr);
  CHECK(Bytes::from_static("").empty());
  CHECK(none.slice(0, 0).empty());
  CHECK(none.to_string().empty());
  CHECK(sizeof(Bytes) == 24);
}

TEST_CASE("a copy has its own memory, an adopted string or vector keeps its memory") {
  std::string text(1000, 'x');
  const Bytes copied = Bytes::copy(text);
  CHECK(copied.view().data() != text.data());
  const char* const memory = text.data();
  const Bytes adopted = Bytes::adopt(std::move(text));
  CHECK(adopted.view().data() == memory);
  CHECK(adopted == copied);

  std::vector<std::byte> data(10, std::byte{7});
  const std::byte* const place = data.data();
  CHECK(Bytes::adopt(std::move(data)).data() == place);

  const Bytes small = Bytes::adopt(std::string("short"));
  const Bytes part = small.slice(1, 3);
  CHECK(part == "hor");
}

TEST_CASE("static memory is viewed, with no owner") {
  static constexpr std::string_view text = "literal";
  const Bytes bytes = Bytes::from_static(text);
  CHECK(bytes.owner() == nullptr);
  CHECK(bytes.view().data() == text.data());
  CHECK(bytes.slice(3, 4).view().data() == text.data() + 3);
}

TEST_CASE("prefixes and suffixes are dropped without a copy") {
  Bytes bytes = Bytes::copy("0123456789");
  const std::byte* const begin = bytes.data();
  bytes.remove_prefix(2);
  bytes.truncate(5);
  CHECK(bytes == "23456");
  CHECK(bytes.data() == begin + 2);
  bytes.remove_prefix(5);
  CHECK(bytes.empty());
}

TEST_CASE("a slice beyond the end aborts in every build") {
  for (const std::size_t offset : {std::size_t{3}, std::size_t{5}, ~std::size_t{0}}) {
    const auto end = pelton::test::run_in_child([offset] {
      const Bytes bytes = Bytes::copy("1234");
      return static_cast<int>(bytes.slice(offset, 2).size());
    });
    CHECK(end.signal == SIGABRT);
  }
}

TEST_CASE("a block hands out what lies side by side, and never changes it again") {
  BytesBlock block;
  const Bytes first = block.append(bytes_of("abc"), 16);
  const Bytes second = block.append(bytes_of("defg"), 16);
  CHECK(second.data() == first.end());
  CHECK(first.owner() == second.owner());
  const Bytes third = block.append(bytes_of("0123456789"), 16);  // no room: a new block
  CHECK(third.owner() != first.owner());
  CHECK(first == "abc");
  CHECK(second == "defg");
  CHECK(third == "0123456789");
}

TEST_CASE("a block is filled from its beginning again when everything handed out is gone") {
  BytesBlock block;
  Bytes first = block.append(bytes_of("abcdef"), 16);
  const std::byte* const begin = first.data();
  Bytes slice = first.slice(2, 1);
  first = Bytes();
  CHECK(block.append(bytes_of("gh"), 16).data() == begin + 6);  // the slice still lives
  CHECK(slice == "c");
  slice = Bytes();
  Bytes again = block.append(bytes_of("new"), 16);
  CHECK(again.data() == begin);
  CHECK(block.extend(again, bytes_of(std::string(20, '.'))) == 13);  // the room that there is
}

TEST_CASE("a block takes more than its size and survives what it handed out, and the reverse") {
  Bytes kept;
  {
    BytesBlock block;
    const std::string large(100, 'L');
    kept = block.append(bytes_of(large), 16);
    CHECK(kept == large);
    CHECK(block.extend(kept, bytes_of("more")) == 0);
    const Bytes next = block.append(bytes_of("next"), 16);
    CHECK(next == "next");
    CHECK(kept == large);
    CHECK(kept.owner()->refs == 1);
    CHECK(block.append({}, 16).empty());
    kept = next;
  }
  CHECK(kept == "next");
  CHECK(kept.owner()->refs == 1);
}

TEST_CASE("a block extends what it handed out last, and only that, as far as it has room") {
  BytesBlock block;
  Bytes foreign = Bytes::copy("abc");
  CHECK(block.extend(foreign, bytes_of("d")) == 0);  // there is no memory yet
  Bytes first = block.append(bytes_of("abc"), 16);
  const Bytes before(first);
  CHECK(block.extend(foreign, bytes_of("d")) == 0);
  CHECK(block.extend(first, bytes_of("def")) == 3);
  CHECK(first == "abcdef");
  CHECK(before == "abc");
  CHECK(first.data() == before.data());
  CHECK(first.owner()->refs == 3);
  Bytes second = block.append(bytes_of("gh"), 16);
  CHECK(second.data() == first.end());
  CHECK(block.extend(first, bytes_of("x")) == 0);
  CHECK(block.extend(second, bytes_of("0123456789")) == 8);
  CHECK(second == "gh01234567");
  CHECK(block.extend(second, bytes_of("89")) == 0);
  CHECK(first == "abcdef");
}

TEST_CASE("blocks that are swapped go on where the other one was") {
  BytesBlock block;
  BytesBlock other;
  Bytes bytes = block.append(bytes_of("abc"), 16);
  block.swap(other);
  CHECK(block.extend(bytes, bytes_of("d")) == 0);
  CHECK(other.extend(bytes, bytes_of("d")) == 1);
  CHECK(bytes == "abcd");
}

TEST_CASE("extended Bytes are the same view over more of the same memory") {
  BytesBlock block;
  Bytes first = block.append(bytes_of("abc"), 16);
  const std::byte* const begin = first.data();
  const Bytes second = block.append(bytes_of("def"), 16);
  first.extend(second.size());
  CHECK(first == "abcdef");
  CHECK(first.data() == begin);
  CHECK(first.owner()->refs == 3);
}
