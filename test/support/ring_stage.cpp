// The rings of a real host, for the scripts of ring_stage.hpp: epoll, and io_uring where it is
// allowed.
#include <support/ring_stage.hpp>

#include <pelton/engine/epoll_ring.hpp>
#include <pelton/engine/uring_ring.hpp>

namespace pelton::test {

void agree(const std::function<void(Stage&)>& script, const Trace& expected,
           const RingOptions& size, NotSimulated) {
  const auto run = [&](const std::string& name, std::unique_ptr<Ring> ring) {
    CAPTURE(name);
    Stage stage(std::move(ring));
    script(stage);
    CHECK(stage.trace == expected);
  };
  run("epoll", make_epoll_ring(size));
  std::unique_ptr<Ring> uring;
  try {
    uring = make_uring_ring(size);
  } catch (const RingUnavailable&) {
    MESSAGE("io_uring is refused here: epoll alone was asked");
    return;
  }
  run("io_uring", std::move(uring));
}

}  // namespace pelton::test
