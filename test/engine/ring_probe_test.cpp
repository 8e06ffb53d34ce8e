// The start-up probe: what it says of rings that do as they should, and how long it takes.
// Neighbours: engine/ring_probe.hpp; features_test in stream/ is what follows from its verdict.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <set>
#include <string>

#include <pelton/engine/epoll_ring.hpp>
#include <pelton/engine/ring_probe.hpp>
#include <pelton/engine/uring_ring.hpp>
#include <support/filter_ring.hpp>
#include <support/sockets.hpp>

using pelton::make_epoll_ring;
using pelton::make_uring_ring;
using pelton::probe_features;
using pelton::probe_ring_options;
using pelton::ProbeVerdict;
using pelton::Ring;
using pelton::RingInfo;
using pelton::test::FilterRing;
using std::chrono::steady_clock;

namespace {

constexpr auto longest = std::chrono::milliseconds(5);

/// The quickest of several: the machine may be busy.
steady_clock::duration time_of_probe(std::unique_ptr<Ring> (*make)(const pelton::RingOptions&)) {
  auto best = steady_clock::duration::max();
  for (int round = 0; round < 10 && best >= longest; ++round) {
    const auto ring = make(probe_ring_options);
    const auto begin = steady_clock::now();
    static_cast<void>(probe_features(*ring));
    best = std::min(best, steady_clock::now() - begin);
  }
  return best;
}

bool is_refused(const ProbeVerdict& verdict, bool RingInfo::*feature) {
  return std::any_of(verdict.refusals.begin(), verdict.refusals.end(),
                     [feature](const auto& each) { return each.feature == feature; });
}

std::unique_ptr<Ring> uring_or_null() {
  try {
    return make_uring_ring(probe_ring_options);
  } catch (const pelton::RingUnavailable&) {
    MESSAGE("io_uring is refused here");
    return nullptr;
  }
}

/// The names of the features that are refused, in their order.
std::string refusals_of(Ring& ring) {
  std::string names;
  for (const auto& each : probe_features(ring).refusals) {
    names += each.text.substr(0, each.text.find(':')) + " ";
  }
  return names;
}

/// A ring whose multishot receives, or accepts, can be told from others.
struct WatchedRing {
  WatchedRing(std::uint8_t opcode, bool multishot) {
    ring.down = [this, opcode, multishot](io_uring_sqe& sqe) {
      const bool is_multishot =
          (sqe.ioprio & (IORING_RECV_MULTISHOT | IORING_ACCEPT_MULTISHOT)) != 0;
      if (sqe.opcode == opcode && is_multishot == multishot) watched.insert(sqe.user_data);
    };
  }
  [[nodiscard]] bool watches(const io_uring_cqe& cqe) const {
    return watched.contains(cqe.user_data);
  }

  FilterRing ring{probe_ring_options};
  std::set<std::uint64_t> watched;
};

const std::string all_receives = "recv_multishot recv_multishot_unix recv_caps ";

}  // namespace

TEST_CASE("probe: the epoll ring does all that it claims") {
  const auto ring = make_epoll_ring(probe_ring_options);
  const ProbeVerdict verdict = probe_features(*ring);
  CHECK(verdict.unusable == "");
  for (const auto& each : verdict.refusals) FAIL_CHECK(each.text);
}

TEST_CASE("probe: a ring of io_uring was probed, and is usable") {
  const auto ring = uring_or_null();
  if (!ring) return;
  const ProbeVerdict verdict = probe_features(*ring);
  CHECK(verdict.unusable == "");
  // Each kernel that pelton is built for has these, and only a fault of theirs is refused.
  for (const auto feature :
       {&RingInfo::recv_multishot, &RingInfo::recv_multishot_unix, &RingInfo::accept_multishot}) {
    CHECK(ring->info().*feature);
    CHECK_FALSE(is_refused(verdict, feature));
  }
  for (const auto feature : {&RingInfo::recv_caps, &RingInfo::bounded_batches}) {
    // What a ring claims is what an earlier probe of the process found.
    if (ring->info().*feature) CHECK_FALSE(is_refused(verdict, feature));
  }
}

TEST_CASE("probe: through a clear glass nothing is wrong") {
  FilterRing ring(probe_ring_options);
  CHECK(refusals_of(ring) == "");
}

TEST_CASE("probe: an end of a unix stream that is not told is missed") {
  WatchedRing watched(IORING_OP_RECV, true);
  watched.ring.up = [&](const io_uring_cqe& cqe) { return cqe.res != 0 || !watched.watches(cqe); };
  CHECK(refusals_of(watched.ring) == "recv_multishot_unix ");
}

TEST_CASE("probe: multishot receives that bring something else are not used") {
  WatchedRing watched(IORING_OP_RECV, true);
  SUBCASE("one byte less") {
    watched.ring.up = [&](io_uring_cqe& cqe) {
      if (watched.watches(cqe) && cqe.res > 1) --cqe.res;
      return true;
    };
  }
  SUBCASE("another buffer") {
    watched.ring.up = [&](io_uring_cqe& cqe) {
      if (watched.watches(cqe) && cqe.res > 0) cqe.flags ^= 1U << IORING_CQE_BUFFER_SHIFT;
      return true;
    };
  }
  SUBCASE("nothing at all") {
    watched.ring.up = [&](const io_uring_cqe& cqe) { return !watched.watches(cqe); };
  }
  CHECK(refusals_of(watched.ring) == all_receives);
}

TEST_CASE("probe: a ring whose single receives are wrong is not used at all") {
  WatchedRing watched(IORING_OP_RECV, false);
  watched.ring.up = [&](io_uring_cqe& cqe) {
    if (watched.watches(cqe) && cqe.res > 1) --cqe.res;
    return true;
  };
  CHECK(probe_features(watched.ring).unusable != "");
}

TEST_CASE("probe: a connection that is lost at a full queue is missed") {
  WatchedRing watched(IORING_OP_ACCEPT, true);
  watched.ring.up = [&](io_uring_cqe& cqe) {
    if (!watched.watches(cqe) || cqe.res < 0) return true;
    const pelton::OwnedFd lost(cqe.res);
    cqe.res = 195;  // the events of the poll, as the kernel told by mistake
    return true;
  };
  CHECK(refusals_of(watched.ring) == "accept_multishot ");
}

TEST_CASE("probe: caps that are not heeded are not relied upon") {
  FilterRing ring(probe_ring_options);
  ring.down = [](io_uring_sqe& sqe) {
    if (sqe.opcode == IORING_OP_RECV) sqe.len = 0;
  };
  CHECK(refusals_of(ring) == "recv_caps ");
}

TEST_CASE("probe: a bound that is not heeded is not relied upon") {
  FilterRing ring(probe_ring_options);
  ring.bounds = false;
  CHECK(refusals_of(ring) == "bounded_batches ");
}

TEST_CASE("probe: it takes less than five milliseconds") {
  CHECK(time_of_probe(make_epoll_ring) < longest);
  if (uring_or_null()) CHECK(time_of_probe(make_uring_ring) < longest);
}

TEST_CASE("probe: nothing is left behind") {
  if (!uring_or_null()) return;
  const int before = pelton::test::open_descriptors();
  for (int round = 0; round < 20; ++round) {
    static_cast<void>(probe_features(*make_uring_ring(probe_ring_options)));
    static_cast<void>(probe_features(*make_epoll_ring(probe_ring_options)));
  }
  CHECK(pelton::test::open_descriptors_at_rest(before) == before);
}

TEST_CASE("probe: without descriptors there is an error and no verdict") {
  const auto ring = make_epoll_ring(probe_ring_options);
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit none{3, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  CHECK_THROWS_AS(static_cast<void>(probe_features(*ring)), pelton::OSError);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

TEST_CASE("probe: what was not tried is not used, and told") {
  RingInfo info;
  info.recv_multishot = info.accept_multishot = true;
  const ProbeVerdict verdict = pelton::not_probed("no ring");
  CHECK(is_refused(verdict, &RingInfo::recv_multishot));
  CHECK(is_refused(verdict, &RingInfo::accept_multishot));
  info.turn_down(verdict.refusals[0].feature, verdict.refusals[0].text);
  CHECK_FALSE(info.recv_multishot);
  CHECK(info.turned_down.back() == "recv_multishot: not probed, no ring");
}
