// The watermarks: asyncio's defaults, its derived limits and its strict edges.
#include <pelton/proto/flow_control.hpp>

#include <doctest/doctest.h>

#include <support/message_of.hpp>

namespace {

using pelton::ValueError;
using pelton::WriteFlow;
using pelton::test::message_of;

TEST_CASE("the watermarks begin at 64 KiB and a quarter of it") {
  const WriteFlow flow;
  CHECK(flow.high() == 64 * 1024);
  CHECK(flow.low() == 16 * 1024);
  CHECK_FALSE(flow.paused());
}

TEST_CASE("one given watermark makes the other one") {
  WriteFlow flow;
  flow.set_limits(1000, {});
  CHECK(flow.high() == 1000);
  CHECK(flow.low() == 250);
  flow.set_limits({}, 10);
  CHECK(flow.high() == 40);
  CHECK(flow.low() == 10);
  flow.set_limits(7, 7);
  CHECK(flow.high() == 7);
  CHECK(flow.low() == 7);
  flow.set_limits(0, {});
  CHECK(flow.high() == 0);
  CHECK(flow.low() == 0);
  flow.set_limits({}, 0);
  CHECK(flow.high() == 0);
  CHECK(flow.low() == 0);
  flow.set_limits({}, {});
  CHECK(flow.high() == 64 * 1024);
  CHECK(flow.low() == 16 * 1024);
}

TEST_CASE("a high watermark below the low one is refused with the text of asyncio") {
  WriteFlow flow;
  flow.set_limits(100, 50);
  CHECK(message_of<ValueError>([&] { flow.set_limits(4, 5); }) ==
        "high (4) must be >= low (5) must be >= 0");
  CHECK(flow.high() == 100);  // as it was
  CHECK(flow.low() == 50);
}

TEST_CASE("a low watermark without a high one may be as large as can be") {
  WriteFlow flow;
  constexpr std::size_t most = static_cast<std::size_t>(-1);
  flow.set_limits({}, most);
  CHECK(flow.low() == most);
  CHECK(flow.high() == most);
  flow.set_limits({}, most / 4 + 1);
  CHECK(flow.high() == most);
  flow.set_limits(most, {});
  CHECK(flow.low() == most / 4);
}

TEST_CASE("writing pauses strictly above high water and resumes at low water") {
  WriteFlow flow;
  flow.set_limits(100, 25);
  CHECK_FALSE(flow.grew(100));
  CHECK(flow.grew(101));
  CHECK(flow.paused());
  CHECK_FALSE(flow.grew(102));  // told once
  CHECK_FALSE(flow.shrank(100));
  CHECK_FALSE(flow.shrank(26));
  CHECK(flow.shrank(25));
  CHECK_FALSE(flow.paused());
  CHECK_FALSE(flow.shrank(0));  // told once
}

TEST_CASE("with a high water of zero every queued byte pauses") {
  WriteFlow flow;
  flow.set_limits(0, {});
  CHECK_FALSE(flow.grew(0));
  CHECK(flow.grew(1));
  CHECK_FALSE(flow.shrank(1));
  CHECK(flow.shrank(0));
}

}  // namespace
