// Reference counts and lists: who lives how long, and what unlinking leaves behind.
//
// Neighbours: engine/intrusive.hpp.
#include <pelton/engine/intrusive.hpp>

#include <doctest/doctest.h>
#include <signal.h>

#include <memory>
#include <vector>

#include <support/child.hpp>

using pelton::List;
using pelton::ListNode;
using pelton::make_ref;
using pelton::Ref;

namespace {

struct Counted : pelton::RefCounted {
  explicit Counted(int& alive_count) : alive(alive_count) { ++alive; }
  ~Counted() override { --alive; }
  int& alive;
};
struct Derived final : Counted {
  using Counted::Counted;
};

struct First;
struct Second;
struct Item : ListNode<First>, ListNode<Second> {
  explicit Item(int item_value) : value(item_value) {}
  int value;
};
using FirstList = List<Item, First>;
using SecondList = List<Item, Second>;

std::vector<int> values(auto& list) {
  std::vector<int> found;
  list.for_each([&](Item& item) { found.push_back(item.value); });
  return found;
}
using Values = std::vector<int>;

}  // namespace

TEST_CASE("an object dies with its last Ref and not before") {
  int alive = 0;
  Ref<Counted> first = make_ref<Counted>(alive);
  {
    const Ref<Counted> second = first;
    CHECK(first->ref_count() == 2);
    CHECK(second == first);
  }
  CHECK(first->ref_count() == 1);
  CHECK(alive == 1);
  first.reset();
  CHECK(alive == 0);
  CHECK_FALSE(first);
  first.reset();
}

TEST_CASE("moving a Ref moves the count, and a Ref of a derived class converts") {
  int alive = 0;
  Ref<Derived> derived = make_ref<Derived>(alive);
  Ref<Counted> base = derived;
  CHECK(base->ref_count() == 2);
  Ref<Counted> moved = std::move(base);
  CHECK(moved->ref_count() == 2);
  CHECK_FALSE(base);
  derived.reset();
  CHECK(alive == 1);
  moved = nullptr;
  CHECK(alive == 0);
}

TEST_CASE("assigning a Ref to itself, or another of the same object, keeps the object") {
  int alive = 0;
  Ref<Counted> ref = make_ref<Counted>(alive);
  const Ref<Counted>& same = ref;
  ref = same;
  CHECK(alive == 1);
  CHECK(ref->ref_count() == 1);
  Ref<Counted> other = ref;
  ref = other;
  CHECK(ref->ref_count() == 2);
  ref = make_ref<Counted>(alive);
  CHECK(alive == 2);
}

TEST_CASE("a list gives its members back in the order in which they came") {
  FirstList list;
  CHECK(list.empty());
  CHECK(list.pop_front() == nullptr);
  Item one(1);
  Item two(2);
  Item zero(0);
  list.push_back(one);
  list.push_back(two);
  list.push_front(zero);
  CHECK(list.size() == 3);
  CHECK(values(list) == Values{0, 1, 2});
  CHECK(&list.front() == &zero);
  CHECK(list.pop_front() == &zero);
  CHECK_FALSE(static_cast<ListNode<First>&>(zero).linked());
  CHECK(list.pop_front() == &one);
  CHECK(list.pop_front() == &two);
  CHECK(list.empty());
}

TEST_CASE("a member that dies leaves its list, and a list that dies lets its members go") {
  Item stays(1);
  {
    FirstList list;
    list.push_back(stays);
    {
      Item goes(2);
      list.push_back(goes);
      CHECK(list.size() == 2);
    }
    CHECK(values(list) == Values{1});
  }
  CHECK_FALSE(static_cast<ListNode<First>&>(stays).linked());
  FirstList next;
  next.push_back(stays);
  CHECK(values(next) == Values{1});
}

TEST_CASE("one object can be in two lists, by two tags") {
  FirstList first;
  SecondList second;
  Item item(7);
  first.push_back(item);
  second.push_back(item);
  static_cast<ListNode<First>&>(item).unlink();
  CHECK(first.empty());
  CHECK(values(second) == Values{7});
}

TEST_CASE("for_each survives that the visit unlinks the member it is given") {
  FirstList list;
  std::vector<std::unique_ptr<Item>> items;
  for (int value = 0; value < 10; ++value) {
    list.push_back(*items.emplace_back(std::make_unique<Item>(value)));
  }
  list.for_each([&](Item& item) {
    if (item.value % 2 == 0) items[static_cast<std::size_t>(item.value)].reset();
  });
  CHECK(values(list) == Values{1, 3, 5, 7, 9});
}

TEST_CASE("splicing appends the members of the other list in their order") {
  FirstList list;
  FirstList other;
  Item items[] = {Item(1), Item(2), Item(3)};
  list.push_back(items[0]);
  other.push_back(items[1]);
  other.push_back(items[2]);
  list.splice_back(other);
  CHECK(other.empty());
  CHECK(values(list) == Values{1, 2, 3});
  list.splice_back(other);
  CHECK(list.size() == 3);
}

TEST_CASE("linking a member twice aborts in every build") {
  const auto end = pelton::test::run_in_child([] {
    FirstList list;
    Item item(1);
    list.push_back(item);
    list.push_back(item);
    return 0;
  });
  CHECK(end.signal == SIGABRT);
  CHECK(end.output.find("assertion failed: !node.linked()") != std::string::npos);
}
