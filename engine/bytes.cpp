// The heap owners of Bytes: copied blocks, adopted strings and vectors. See bytes.hpp.
#include <pelton/engine/bytes.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include <pelton/engine/frame_pool.hpp>

namespace pelton {
namespace {

using detail::BytesOwner;

/// A heap block begins with its owner; the bytes follow.
std::byte* block_data(BytesOwner& owner) noexcept {
  return reinterpret_cast<std::byte*>(&owner + 1);
}

void release_block(BytesOwner& owner) noexcept { std::free(&owner); }

BytesOwner& new_block(std::size_t capacity) {
  void* memory = std::malloc(sizeof(BytesOwner) + capacity);
  if (!memory) throw std::bad_alloc();
  auto* owner = new (memory) BytesOwner;
  owner->refs = 1;
  owner->release = release_block;
  return *owner;
}

template <class Container>
struct Adopted : BytesOwner {
  explicit Adopted(Container&& data) : container(std::move(data)) {
    refs = 1;
    release = [](BytesOwner& owner) noexcept { delete static_cast<Adopted*>(&owner); };
  }
  Container container;
};

template <class Container>
Bytes adopt_container(Container&& data) {
  if (data.empty()) return {};
  auto* owner = new Adopted<Container>(std::move(data));
  return {reinterpret_cast<const std::byte*>(owner->container.data()), owner->container.size(),
          *owner};
}

}  // namespace

Bytes Bytes::copy(std::span<const std::byte> data) {
  if (data.empty()) return {};
  std::byte* memory = nullptr;
  Bytes bytes = uninitialized(data.size(), memory);
  std::memcpy(memory, data.data(), data.size());
  return bytes;
}

Bytes Bytes::uninitialized(std::size_t size, std::byte*& memory) {
  BytesOwner& owner = new_block(size);
  memory = block_data(owner);
  return {memory, size, owner};
}

Bytes Bytes::adopt(std::string&& data) { return adopt_container(std::move(data)); }

Bytes Bytes::adopt(std::vector<std::byte>&& data) { return adopt_container(std::move(data)); }

/// The block's memory begins with this; the bytes follow.
struct BytesBlock::Block : BytesOwner {
  std::size_t capacity = 0;
  std::size_t used = 0;

  static Block& make(std::size_t capacity) {
    auto* block = new (detail::allocate_frame(sizeof(Block) + capacity)) Block;
    block->refs = 1;
    block->release = [](BytesOwner& owner) noexcept {
      detail::free_frame(&owner, sizeof(Block) + static_cast<Block&>(owner).capacity);
    };
    block->capacity = capacity;
    return *block;
  }
  [[nodiscard]] std::size_t room() const noexcept { return capacity - used; }
  /// Where the next bytes go.
  [[nodiscard]] std::byte* tail() noexcept { return reinterpret_cast<std::byte*>(this + 1) + used; }
};

Bytes BytesBlock::append(std::span<const std::byte> data, std::size_t block_bytes) {
  if (data.empty()) return {};
  if (block_ && block_->refs == 1) block_->used = 0;  // all that was handed out is gone: begin anew
  if (!block_ || block_->room() < data.size()) {
    Block& fresh = Block::make(std::max(block_bytes, data.size()));
    if (block_) reset();
    block_ = &fresh;
  }
  std::byte* const place = block_->tail();
  std::memcpy(place, data.data(), data.size());
  block_->used += data.size();
  ++block_->refs;
  return {place, data.size(), *block_};
}

std::size_t BytesBlock::extend(Bytes& bytes, std::span<const std::byte> data) noexcept {
  if (!block_ || bytes.owner() != block_ || bytes.end() != block_->tail()) return 0;
  const std::size_t count = std::min(block_->room(), data.size());
  std::memcpy(block_->tail(), data.data(), count);
  block_->used += count;
  bytes.extend(count);
  return count;
}

void BytesBlock::reset() noexcept {
  if (--block_->refs == 0) block_->release(*block_);
}

}  // namespace pelton
