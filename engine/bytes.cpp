// The heap owners of Bytes: copied blocks, adopted strings and vectors. See bytes.hpp.
#include <pelton/engine/bytes.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

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

Bytes BytesBlock::append(std::span<const std::byte> data, std::size_t block_bytes) {
  if (data.empty()) return {};
  if (block_ && block_->refs == 1) used_ = 0;  // all that was handed out is gone: begin anew
  if (room() < data.size()) {
    const std::size_t capacity = std::max(block_bytes, data.size());
    BytesOwner& fresh = new_block(capacity);
    reset();
    block_ = &fresh;
    capacity_ = capacity;
  }
  std::byte* place = block_data(*block_) + used_;
  std::memcpy(place, data.data(), data.size());
  used_ += data.size();
  ++block_->refs;
  return {place, data.size(), *block_};
}

bool BytesBlock::ends_at_tail(const Bytes& bytes) const noexcept {
  return block_ && bytes.owner() == block_ && bytes.end() == block_data(*block_) + used_;
}

void BytesBlock::reset() noexcept {
  if (block_ && --block_->refs == 0) block_->release(*block_);
  block_ = nullptr;
  capacity_ = used_ = 0;
}

}  // namespace pelton
