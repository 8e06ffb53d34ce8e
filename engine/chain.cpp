// Chain: pieces in a ring array, search across their borders. See chain.hpp.
#include <pelton/engine/chain.hpp>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

namespace pelton {

Chain::Body::~Body() {
  while (count > 0) pop();
  release_array();
}

void Chain::Body::push(Bytes bytes) {
  if (count == capacity) grow();
  size += bytes.size();
  ++count;
  at(count - 1) = std::move(bytes);
}

void Chain::Body::grow() {
  const std::uint32_t wider = capacity == 1 ? 4 : capacity * 2;
  auto* const array = static_cast<Bytes*>(detail::allocate_frame(wider * sizeof(Bytes)));
  std::uninitialized_default_construct_n(array, wider);
  for (std::uint32_t index = 0; index < count; ++index) array[index] = std::move(at(index));
  release_array();
  pieces = array;
  capacity = wider;
}

/// Back to the one piece that needs no array. What the array held is destroyed.
void Chain::Body::release_array() noexcept {
  if (pieces != &single) {
    std::destroy_n(pieces, capacity);
    detail::free_frame(pieces, capacity * sizeof(Bytes));
  }
  pieces = &single;
  capacity = 1;
  first = 0;
}

void Chain::append(Bytes bytes) {
  if (bytes.empty()) return;
  if (body_ && body_->at(body_->count - 1).is_followed_by(bytes)) {
    // Lines that were read out of one buffer and go out again are one piece to the kernel.
    Bytes& last = body_->at(body_->count - 1);
    body_->size += bytes.size();
    last = Bytes(std::move(last)).extended(bytes.size());
  } else {
    body().push(std::move(bytes));
  }
}

void Chain::append_gathering(Bytes bytes) {
  if (body_ && bytes.size() <= gather_bytes_max) {
    append_copy(bytes.span());
  } else {
    append(std::move(bytes));
  }
}

void Chain::append_copy(std::span<const std::byte> data) {
  if (data.empty()) return;
  Body& body = this->body();
  BytesBlock& block = body.block;
  struct Invariant {  // where there is no memory for the first block, the body goes back
    Chain& chain;
    ~Invariant() { chain.let_go_if_empty(); }
  } const invariant{*this};
  while (!data.empty()) {
    // What fits goes behind the last piece; the rest opens a block.
    const bool extends =
        body.count > 0 && block.ends_at_tail(body.at(body.count - 1)) && block.room() > 0;
    const std::size_t count = extends ? std::min(block.room(), data.size()) : data.size();
    const bool alone = body.count == 0 && data.size() <= first_block_bytes;
    Bytes copy = block.append(data.first(count), alone ? first_block_bytes : block_bytes);
    if (extends) {
      Bytes& last = body.at(body.count - 1);
      last = Bytes(std::move(last)).extended(copy.size());
      body.size += count;
    } else {
      body.push(std::move(copy));
    }
    data = data.subspan(count);
  }
}

Bytes Chain::take(std::size_t count) {
  PELTON_ASSERT(count <= size());
  if (count == 0) return {};
  if (count <= piece(0).size()) return take_front(count);
  std::byte* memory = nullptr;
  Bytes joined = Bytes::uninitialized(count, memory);
  copy_to(memory, count);
  drop(count);
  return joined;
}

Bytes Chain::take_piece(std::size_t count_max) noexcept {
  if (!body_ || count_max == 0) return {};
  return take_front(std::min(count_max, piece(0).size()));
}

void Chain::drop(std::size_t count) noexcept {
  PELTON_ASSERT(count <= size());
  if (count == 0) return;
  body_->size -= count;
  while (count > 0) {
    Bytes& head = body_->at(0);
    if (count < head.size()) {
      head.remove_prefix(count);
      return;
    }
    count -= head.size();
    body_->pop();
  }
  let_go_if_empty();
}

void Chain::copy_to(std::byte* target, std::size_t count) const noexcept {
  for (std::size_t index = 0; count > 0; ++index) {
    const Bytes& source = piece(index);
    const std::size_t part = std::min(count, source.size());
    std::memcpy(target, source.data(), part);
    target += part;
    count -= part;
  }
}

bool Chain::matches(std::size_t offset, std::string_view pattern) const noexcept {
  if (offset > size() || pattern.size() > size() - offset) return false;
  return matches_from(0, offset, pattern);
}

/// matches() at `offset` of piece `index` or, where that lies behind it, of those that follow.
/// Precondition: the chain is long enough.
bool Chain::matches_from(std::size_t index, std::size_t offset,
                         std::string_view pattern) const noexcept {
  for (; !pattern.empty(); ++index) {
    const std::string_view text = piece(index).view();
    if (offset >= text.size()) {
      offset -= text.size();
      continue;
    }
    const std::size_t part = std::min(pattern.size(), text.size() - offset);
    if (std::memcmp(text.data() + offset, pattern.data(), part) != 0) return false;
    pattern.remove_prefix(part);
    offset = 0;
  }
  return true;
}

std::size_t Chain::find(std::string_view pattern, std::size_t from) const noexcept {
  if (from > size() || pattern.size() > size() - from) return npos;
  if (pattern.empty()) return from;
  std::size_t base = 0;  // offset of the current piece
  for (std::size_t index = 0; index < piece_count(); base += piece(index).size(), ++index) {
    const std::string_view text = piece(index).view();
    if (from >= base + text.size()) continue;
    if (base + pattern.size() > size()) return npos;
    std::size_t start = from > base ? from - base : 0;
    // What lies in this piece as a whole.
    const std::size_t whole = text.find(pattern, start);
    if (whole != std::string_view::npos) return base + whole;
    // What begins in it and ends in a later one.
    if (text.size() >= pattern.size()) start = std::max(start, text.size() - pattern.size() + 1);
    for (; start < text.size() && base + start + pattern.size() <= size(); ++start) {
      const auto* hit = static_cast<const char*>(
          std::memchr(text.data() + start, pattern.front(), text.size() - start));
      if (!hit) break;
      start = static_cast<std::size_t>(hit - text.data());
      if (base + start + pattern.size() > size()) break;
      if (matches_from(index, start, pattern)) return base + start;
    }
  }
  return npos;
}

std::size_t Chain::copy_out(std::size_t first_piece) {
  std::size_t copied = 0;
  for (std::size_t index = first_piece; index < piece_count(); ++index) {
    Bytes& source = body_->at(index);
    if (!source.in_ring_buffer()) continue;
    copied += source.size();
    source = Bytes::copy(source.span());
  }
  return copied;
}

}  // namespace pelton
