// No heap allocation per message: ten thousand echoes through reader, writer and ring, server and
// client in one loop, while a counting malloc watches.
//
// The counter stands before glibc's malloc in this test binary and counts only while it is armed;
// operator new and std::vector end there as well. Under the sanitizers, which have a malloc of
// their own, the case is skipped.
// Neighbours: scenario_pressure_test.cpp, scenario_cancel_test.cpp.
#include <doctest/doctest.h>

#include <cstdlib>

#include <pelton/stream.hpp>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PELTON_OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PELTON_OWN_MALLOC 0
#endif
#endif
#ifndef PELTON_OWN_MALLOC
#define PELTON_OWN_MALLOC 1
#endif

namespace {

thread_local bool armed = false;
thread_local std::uint64_t allocations = 0;

}  // namespace

#if PELTON_OWN_MALLOC
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* block, std::size_t size);

void* malloc(std::size_t size) {
  if (armed) ++allocations;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  if (armed) ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* block, std::size_t size) {
  if (armed) ++allocations;
  return __libc_realloc(block, size);
}
}
#endif

using namespace pelton;

namespace {

constexpr std::string_view message =
    "sixty-four bytes, sixty-four bytes, sixty-four bytes, sixty-four";
static_assert(message.size() == 64);

Task<> exchange(StreamPair& streams, int count) {
  for (int round = 0; round < count; ++round) {
    streams.writer.write(Bytes::from_static(message));
    co_await streams.writer.drain();
    const Bytes back = co_await streams.reader.readexactly(64);
    if (!(back == message)) throw RuntimeError("a byte of the echo is wrong");
  }
}

Task<std::uint64_t> count_allocations(int rounds) {
  Server server = start_server(echo, "127.0.0.1", 0);
  StreamPair streams = co_await open_connection("127.0.0.1", server.addresses().front().port());
  co_await exchange(streams, 100);  // what grows once has grown
  allocations = 0;
  armed = true;
  co_await exchange(streams, rounds);
  armed = false;
  streams.writer.close();
  co_await streams.writer.wait_closed();
  server.close();
  co_await server.wait_closed();
  co_return allocations;
}

}  // namespace

TEST_CASE("ten thousand echoes allocate nothing") {
  if (!PELTON_OWN_MALLOC) {
    MESSAGE("skipped: the sanitizer has a malloc of its own");
    return;
  }
  armed = true;
  free(malloc(1));
  armed = false;
  REQUIRE(allocations > 0);  // the counter counts
  const std::uint64_t counted = run(count_allocations(10'000));
  CHECK(counted == 0);
}
