// The recycler of frames: sizes, alignment, threads that end with frames still in use.
//
// Under AddressSanitizer nothing is recycled; the tests hold there too. Neighbours:
// engine/frame_pool.hpp.
#include <pelton/engine/frame_pool.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

using pelton::detail::allocate_frame;
using pelton::detail::free_frame;

namespace {

struct Block {
  void* memory = nullptr;
  std::size_t size = 0;
  unsigned char fill = 0;

  void make(std::size_t bytes, unsigned char pattern) {
    memory = allocate_frame(bytes);
    size = bytes;
    fill = pattern;
    std::memset(memory, fill, size);
  }
  [[nodiscard]] bool intact() const {
    const auto* data = static_cast<const unsigned char*>(memory);
    for (std::size_t index = 0; index < size; ++index) {
      if (data[index] != fill) return false;
    }
    return true;
  }
  void free() {
    free_frame(memory, size);
    memory = nullptr;
  }
};

/// Frees a frame and makes another when its thread ends, after the pool's own end.
struct LateUser {
  ~LateUser() {
    block.free();
    for (Block& late : blocks) late.make(128, 9);
    for (Block& late : blocks) *ok = *ok && late.intact();
    for (Block& late : blocks) late.free();
  }
  Block block;
  Block blocks[4];
  bool* ok = nullptr;
};

}  // namespace

TEST_CASE("frames of all sizes are aligned and never overlap") {
  std::mt19937 random(3);
  std::vector<Block> blocks(600);
  for (int step = 0; step < 40'000; ++step) {
    Block& block = blocks[random() % blocks.size()];
    if (block.memory) {
      REQUIRE(block.intact());
      block.free();
    } else {
      const std::size_t size = 1 + random() % (random() % 8 == 0 ? 10'000 : 600);
      block.make(size, static_cast<unsigned char>(random()));
      REQUIRE(reinterpret_cast<std::uintptr_t>(block.memory) % alignof(std::max_align_t) == 0);
    }
  }
  for (Block& block : blocks) {
    if (block.memory) block.free();
  }
}

TEST_CASE("the limits between size classes are safe to write up to") {
  for (const std::size_t size : {1, 8, 63, 64, 65, 127, 128, 1983, 1984, 1985, 2047, 2048, 2049}) {
    Block first;
    Block second;
    for (unsigned char round = 0; round < 3; ++round) {
      first.make(size, 1);
      second.make(size, 2);
      CHECK(first.intact());
      CHECK(second.intact());
      second.free();
      first.free();
    }
  }
}

TEST_CASE("more frames than are kept can be freed and made again") {
  std::vector<Block> blocks(2000);
  for (int round = 0; round < 3; ++round) {
    for (Block& block : blocks) block.make(200, 5);
    for (Block& block : blocks) block.free();
  }
}

TEST_CASE("a thread may free and make frames after its pool has ended") {
  bool ok = true;
  std::thread([&ok] {
    thread_local LateUser late;  // made before the pool's first use: dies after it
    late.ok = &ok;
    late.block.make(128, 1);
    Block recycled[8];
    for (Block& block : recycled) block.make(128, 2);
    for (Block& block : recycled) block.free();
  }).join();
  CHECK(ok);
}

TEST_CASE("pooled objects take their memory from the pool and give it back") {
  struct Pooled : pelton::detail::PooledMemory {
    std::uint64_t data[12] = {};
  };
  struct Wide final : Pooled {
    std::uint64_t more[400] = {};
  };
  for (int round = 0; round < 100; ++round) {
    delete new Pooled;
    delete new Wide;
  }
}
