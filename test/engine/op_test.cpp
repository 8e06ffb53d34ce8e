// The table of operations: slots are reused, generations tell the old user from the new.
//
// Neighbours: engine/op.hpp; what a loop does with operations is in loop_test.
#include <pelton/engine/op.hpp>

#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <support/child.hpp>

using pelton::Op;
using pelton::OpTable;

namespace {

constexpr pelton::OpKind kind{"test", nullptr, nullptr};

std::uint32_t slot_of(std::uint64_t user_data) { return static_cast<std::uint32_t>(user_data); }

}  // namespace

TEST_CASE("an operation is found by its user_data until it is removed") {
  OpTable table;
  Op op(kind, nullptr);
  CHECK(table.find(0) == nullptr);
  const std::uint64_t user_data = table.add(op);
  CHECK(table.find(user_data) == &op);
  CHECK(table.user_data(op) == user_data);
  table.remove(op);
  CHECK(table.find(user_data) == nullptr);
}

TEST_CASE("a stale user_data finds nothing, also when its slot has a new operation") {
  OpTable table;
  Op op(kind, nullptr);
  std::vector<std::uint64_t> stale;
  for (int round = 0; round < 100; ++round) {
    const std::uint64_t user_data = table.add(op);
    CHECK(slot_of(user_data) == 0);
    CHECK(table.find(user_data) == &op);
    for (const std::uint64_t old : stale) CHECK(table.find(old) == nullptr);
    stale.push_back(user_data);
    table.remove(op);
  }
}

TEST_CASE("an operation is newly active once in each period, and so is its successor in the slot") {
  OpTable table;
  Op first(kind, nullptr);
  Op second(kind, nullptr);
  static_cast<void>(table.add(first));
  CHECK(table.newly_active(first, 0));
  CHECK_FALSE(table.newly_active(first, 0));
  CHECK(table.newly_active(first, 1));
  table.remove(first);
  static_cast<void>(table.add(second));  // in the same slot
  CHECK_FALSE(table.newly_active(second, 1));
  CHECK(table.newly_active(second, 2));
  table.remove(second);
}

TEST_CASE("a user_data of no slot finds nothing, nor does that of a cancel") {
  OpTable table;
  Op op(kind, nullptr);
  const std::uint64_t user_data = table.add(op);
  CHECK(table.find(OpTable::cancel_user_data) == nullptr);
  CHECK(table.find(user_data + 1) == nullptr);
  CHECK(table.find(0xFFFF'FFFF) == nullptr);
  CHECK(table.find(user_data | (std::uint64_t{1} << 63)) == nullptr);
  table.remove(op);
}

TEST_CASE("thousands of operations come and go at random and are never mixed up") {
  constexpr std::size_t count = 5000;
  OpTable table;
  std::vector<std::unique_ptr<Op>> ops;
  for (std::size_t index = 0; index < count; ++index) {
    ops.push_back(std::make_unique<Op>(kind, nullptr));
  }
  std::vector<std::uint64_t> user_data(count, 0);
  std::vector<bool> in_table(count, false);
  std::vector<std::uint64_t> stale;
  std::set<std::uint64_t> ever;
  std::mt19937 random(1);
  for (int step = 0; step < 60'000; ++step) {
    const std::size_t index = random() % count;
    if (in_table[index]) {
      REQUIRE(table.find(user_data[index]) == ops[index].get());
      table.remove(*ops[index]);
      stale.push_back(user_data[index]);
    } else {
      user_data[index] = table.add(*ops[index]);
      REQUIRE(ever.insert(user_data[index]).second);
    }
    in_table[index] = !in_table[index];
  }
  for (const std::uint64_t old : stale) REQUIRE(table.find(old) == nullptr);
  std::size_t visited = 0;
  table.visit_while([&](Op& op) {
    visited += table.find(table.user_data(op)) == &op ? 1U : 0U;
    return true;
  });
  CHECK(visited == static_cast<std::size_t>(std::count(in_table.begin(), in_table.end(), true)));
  for (const std::uint64_t used : ever) REQUIRE(slot_of(used) < count);
}

TEST_CASE("removing an operation twice aborts in every build") {
  const auto end = pelton::test::run_in_child([] {
    OpTable table;
    Op op(kind, nullptr);
    static_cast<void>(table.add(op));
    table.remove(op);
    table.remove(op);
    return 0;
  });
  CHECK(end.signal == SIGABRT);
  CHECK(end.output.find("assertion failed: slot.taken()") != std::string::npos);
}

TEST_CASE("an operation knows its kind and its owner and is idle at first") {
  struct Owner {
    char before[1000] = {};
    Op op{kind, this};
  } owner;
  const Op& op = owner.op;
  CHECK(&op.kind() == &kind);
  CHECK(&op.owner<Owner>() == &owner);
  CHECK_FALSE(op.in_flight());
  CHECK_FALSE(op.cancelling());
}
