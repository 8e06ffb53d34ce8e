// Chain: a first piece and a ring array behind it, search across their borders. See chain.hpp.
#include <pelton/engine/chain.hpp>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

namespace pelton {

void Chain::Body::push(Bytes bytes) {
  if (count == capacity) grow();
  bytes_behind += bytes.size();
  ++count;
  behind(count - 1) = std::move(bytes);
}

void Chain::Body::advance() noexcept {
  head = std::move(pieces[first]);
  bytes_behind -= head.size();
  first = (first + 1) & (capacity - 1);
  --count;
}

void Chain::Body::grow() {
  const std::uint32_t wider = capacity == 0 ? 4 : capacity * 2;
  auto* const array = static_cast<Bytes*>(detail::allocate_frame(wider * sizeof(Bytes)));
  std::uninitialized_default_construct_n(array, wider);
  for (std::uint32_t index = 0; index < count; ++index) array[index] = std::move(behind(index));
  if (pieces) release_array();
  pieces = array;
  capacity = wider;
  first = 0;
}

/// What the array holds is destroyed. Precondition: there is one.
void Chain::Body::release_array() noexcept {
  std::destroy_n(pieces, capacity);
  detail::free_frame(pieces, capacity * sizeof(Bytes));
}

void Chain::append(Bytes bytes) {
  if (bytes.empty()) return;
  if (!body_) {
    body_ = new Body(std::move(bytes));
  } else if (body_->last().is_followed_by(bytes)) {
    // Lines that were read out of one buffer and go out again are one piece to the kernel.
    body_->last().extend(bytes.size());
    body_->last_grew(bytes.size());
  } else {
    body_->push(std::move(bytes));
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
  if (!body_) {
    BytesBlock block;
    const bool small = data.size() <= first_block_bytes;
    body_ = new Body(block.append(data, small ? first_block_bytes : block_bytes));
    body_->block.swap(block);
    return;
  }
  // What fits goes behind the last piece; the rest opens a block.
  const std::size_t extended = body_->block.extend(body_->last(), data);
  body_->last_grew(extended);
  data = data.subspan(extended);
  if (!data.empty()) body_->push(body_->block.append(data, block_bytes));
}

Bytes Chain::take(std::size_t count) {
  PELTON_ASSERT(count <= size());
  if (count == 0) return {};
  if (count <= front().size()) return take_front(count);
  std::byte* memory = nullptr;
  Bytes joined = Bytes::uninitialized(count, memory);
  copy_to(memory, count);
  drop(count);
  return joined;
}

Bytes Chain::take_piece(std::size_t count_max) noexcept {
  if (!body_ || count_max == 0) return {};
  return take_front(std::min(count_max, front().size()));
}

Bytes Chain::take_head() noexcept {
  Bytes whole = std::move(body_->head);
  skip_head();
  return whole;
}

void Chain::drop(std::size_t count) noexcept {
  PELTON_ASSERT(count <= size());
  while (count > 0) {
    Bytes& head = body_->head;
    if (count < head.size()) {
      head.remove_prefix(count);
      return;
    }
    count -= head.size();
    skip_head();
  }
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

std::size_t Chain::copy_out(std::size_t first_piece) noexcept {
  std::size_t copied = 0;
  for (std::size_t index = first_piece; index < piece_count(); ++index) {
    Bytes& source = index == 0 ? body_->head : body_->behind(index - 1);
    if (!source.in_ring_buffer()) continue;
    try {
      source = Bytes::copy(source.span());
    } catch (const std::bad_alloc&) {
      return copied;
    }
    copied += source.size();
  }
  return copied;
}

}  // namespace pelton
