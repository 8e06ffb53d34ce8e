// Chain: pieces in a ring array, search across their borders. See chain.hpp.
#include <pelton/engine/chain.hpp>

#include <algorithm>
#include <cstring>

namespace pelton {

void Chain::append(Bytes bytes) {
  if (bytes.empty()) return;
  size_ += bytes.size();
  if (count_ > 0 && at(count_ - 1).is_followed_by(bytes)) {
    // Lines that were read out of one buffer and go out again are one piece to the kernel.
    Bytes& last = at(count_ - 1);
    last = Bytes(std::move(last)).extended(bytes.size());
  } else {
    push(std::move(bytes));
  }
}

void Chain::append_gathering(Bytes bytes) {
  if (count_ > 0 && bytes.size() <= gather_bytes_max) {
    append_copy(bytes.span());
  } else {
    append(std::move(bytes));
  }
}

void Chain::append_copy(std::span<const std::byte> data) {
  while (!data.empty()) {
    // What fits goes behind the last piece; the rest opens a block.
    const bool extends = count_ > 0 && block_.ends_at_tail(at(count_ - 1)) && block_.room() > 0;
    const std::size_t count = extends ? std::min(block_.room(), data.size()) : data.size();
    Bytes copy = block_.append(data.first(count), block_bytes);
    if (extends) {
      Bytes& last = at(count_ - 1);
      last = Bytes(std::move(last)).extended(copy.size());
    } else {
      push(std::move(copy));
    }
    size_ += count;
    data = data.subspan(count);
  }
}

void Chain::push(Bytes bytes) {
  if (count_ == capacity_) grow();
  ++count_;
  at(count_ - 1) = std::move(bytes);
}

void Chain::grow() {
  const std::uint32_t wider = capacity_ == 1 ? 4 : capacity_ * 2;
  auto pieces = std::make_unique<Bytes[]>(wider);
  for (std::uint32_t index = 0; index < count_; ++index) pieces[index] = std::move(at(index));
  release_array();
  pieces_ = pieces.release();
  capacity_ = wider;
}

/// Back to the one piece that needs no array. What the array held is destroyed.
void Chain::release_array() noexcept {
  if (pieces_ != &single_) delete[] pieces_;
  pieces_ = &single_;
  capacity_ = 1;
  first_ = 0;
}

void Chain::pop_piece() noexcept {
  at(0) = Bytes();
  first_ = (first_ + 1) & (capacity_ - 1);
  --count_;
}

Bytes Chain::take(std::size_t count) {
  PELTON_ASSERT(count <= size_);
  if (count == 0) return {};
  if (count <= at(0).size()) return take_front(count);
  std::byte* memory = nullptr;
  Bytes joined = Bytes::uninitialized(count, memory);
  copy_to(memory, count);
  drop(count);
  return joined;
}

Bytes Chain::take_piece(std::size_t count_max) noexcept {
  if (count_ == 0 || count_max == 0) return {};
  return take_front(std::min(count_max, at(0).size()));
}

void Chain::drop(std::size_t count) noexcept {
  PELTON_ASSERT(count <= size_);
  size_ -= count;
  while (count > 0) {
    Bytes& head = at(0);
    if (count < head.size()) {
      head.remove_prefix(count);
      return;
    }
    count -= head.size();
    pop_piece();
  }
}

void Chain::clear() noexcept { drop(size_); }

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
  if (offset > size_ || pattern.size() > size_ - offset) return false;
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
  if (from > size_ || pattern.size() > size_ - from) return npos;
  if (pattern.empty()) return from;
  std::size_t base = 0;  // offset of the current piece
  for (std::uint32_t index = 0; index < count_; base += piece(index).size(), ++index) {
    const std::string_view text = piece(index).view();
    if (from >= base + text.size()) continue;
    if (base + pattern.size() > size_) return npos;
    std::size_t start = from > base ? from - base : 0;
    // What lies in this piece as a whole.
    const std::size_t whole = text.find(pattern, start);
    if (whole != std::string_view::npos) return base + whole;
    // What begins in it and ends in a later one.
    if (text.size() >= pattern.size()) start = std::max(start, text.size() - pattern.size() + 1);
    for (; start < text.size() && base + start + pattern.size() <= size_; ++start) {
      const auto* hit = static_cast<const char*>(
          std::memchr(text.data() + start, pattern.front(), text.size() - start));
      if (!hit) break;
      start = static_cast<std::size_t>(hit - text.data());
      if (base + start + pattern.size() > size_) break;
      if (matches_from(index, start, pattern)) return base + start;
    }
  }
  return npos;
}

std::size_t Chain::copy_out(std::size_t first_piece) {
  std::size_t copied = 0;
  for (std::size_t index = first_piece; index < count_; ++index) {
    Bytes& source = at(index);
    if (!source.in_ring_buffer()) continue;
    copied += source.size();
    source = Bytes::copy(source.span());
  }
  return copied;
}

void Chain::trim() noexcept {
  if (count_ > 0) return;
  block_.reset();
  release_array();
}

}  // namespace pelton
