// What the transport interface answers by itself.
#include <pelton/proto/transport.hpp>

#include <doctest/doctest.h>

namespace {

using namespace pelton;

/// Only what the interface demands.
class Bare final : public Transport {
 public:
  [[nodiscard]] bool is_closing() const noexcept override { return false; }
  void close() noexcept override {}
  void set_protocol(Ref<Protocol>) noexcept override {}
  [[nodiscard]] Protocol* get_protocol() const noexcept override { return nullptr; }
  [[nodiscard]] bool is_reading() const noexcept override { return true; }
  void pause_reading() noexcept override {}
  void resume_reading() noexcept override {}
  void write(Bytes) override {}
  void write_copy(std::span<const std::byte>) override {}
  [[nodiscard]] bool can_write_eof() const noexcept override { return false; }
  void write_eof() override {}
  void abort() noexcept override {}
  void set_write_buffer_limits(std::optional<std::size_t>, std::optional<std::size_t>) override {}
  [[nodiscard]] std::size_t get_write_buffer_size() const noexcept override { return 0; }
  [[nodiscard]] WriteLimits get_write_buffer_limits() const noexcept override { return {1, 4}; }
};

TEST_CASE("a transport that knows nothing about itself answers the fallback") {
  const Ref<Transport> transport = make_ref<Bare>();
  CHECK(std::holds_alternative<std::monostate>(transport->get_extra_info("peername")));
  CHECK(std::get<int>(transport->get_extra_info("socket", 7)) == 7);
  CHECK(std::get<int>(transport->get_extra_info("cipher", -1)) == -1);
}

TEST_CASE("the reading of a transport can be paused unless it says otherwise") {
  CHECK(make_ref<Bare>()->can_pause_reading());
}

}  // namespace
