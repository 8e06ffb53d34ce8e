// TaskGroup: children end before their parent goes on, whoever fails or is cancelled.
//
// The cases of CPython's test_taskgroups are here under names of their own. Where asyncio has
// `async with`, they come in both forms: TaskGroup::run and join.
// Neighbours: engine/task_group.hpp; support/tasks.hpp.
#include <pelton/engine/task_group.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>

#include <pelton/engine/runner.hpp>
#include <pelton/engine/sync.hpp>
#include <pelton/engine/timeout.hpp>
#include <support/loops.hpp>
#include <support/tasks.hpp>

using namespace std::chrono_literals;
using namespace pelton;
using namespace pelton::test;

namespace {

Task<> fail_after(int count, std::string text) {
  co_await turns(count);
  throw ValueError(text);
}
/// Notes its end: 'e', or 'c' where it is cancelled.
Task<> note(std::string& log, Duration delay = 1h) {
  try {
    co_await sleep(delay);
  } catch (const Cancelled&) {
    log += 'c';
    throw;
  }
  log += 'e';
}
/// Notes its name when it is destroyed or ends.
Task<> note_death(std::string& log, char name = 'd') {
  struct Death {
    Death(std::string& text, char letter) : log(text), name(letter) {}
    ~Death() { log += name; }
    std::string& log;
    char name;
  };
  const Death death(log, name);
  co_await sleep(1h);
}

/// The texts of a group's exceptions, in their order. Fails the test for anything else.
std::string texts_of(const std::exception_ptr& error) {
  REQUIRE(error);
  try {
    std::rethrow_exception(error);
  } catch (const ExceptionGroup& group) {
    std::string text = group.what();
    for (const auto& member : group.exceptions()) text += "; " + describe(member);
    return text;
  } catch (...) {
    return "not a group: " + describe(error);
  }
}

}  // namespace

TEST_CASE("a group joins when all of its children are done") {
  in_loop([]() -> Task<> {
    TaskGroup group;
    const auto first = group.create_task(after(5, 1));
    const auto second = group.create_task(after(2, 2));
    CHECK(group.task_count() == 2);
    co_await group.join();
    CHECK(group.task_count() == 0);
    CHECK(first.result() + second.result() == 3);
  });
}

TEST_CASE("a group without children joins at once") {
  in_loop([]() -> Task<> {
    TaskGroup group;
    const auto turns_before = Loop::running().stats().turns;
    co_await group.join();
    CHECK(Loop::running().stats().turns == turns_before);
    const auto body = [](TaskGroup&) -> Task<> { co_return; };
    co_await TaskGroup::run(body);
  });
}

TEST_CASE("children may start siblings while the group is joined") {
  in_loop([]() -> Task<> {
    std::string log;
    TaskGroup group;
    const auto child = [&]() -> Task<> {
      co_await turns(3);
      group.create_task(note(log, 2ms));
    };
    group.create_task(child());
    co_await group.join();
    CHECK(log == "e");
  });
}

TEST_CASE("a finished group refuses tasks") {
  in_loop([]() -> Task<> {
    TaskGroup group;
    co_await group.join();
    CHECK_THROWS_WITH_AS(group.create_task(after(1, 1)), "TaskGroup is finished", RuntimeError);
  });
}

TEST_CASE("a group outside of a task is refused") {
  CHECK_THROWS_WITH_AS(TaskGroup(), "TaskGroup cannot determine the parent task", RuntimeError);
}

TEST_CASE("a group is joined by the task that made it") {
  in_loop([]() -> Task<> {
    TaskGroup group;
    group.create_task(after(3, 1));
    const auto other = Loop::running().create_task(group.join());
    co_await turns(2);
    CHECK(describe(other.exception().exception()) == "TaskGroup is joined by another task");
    co_await group.join();
  });
}

TEST_CASE("the first failure cancels the siblings and is raised in a group") {
  in_loop([]() -> Task<> {
    std::string log;
    TaskGroup group;
    group.create_task(note(log));
    group.create_task(fail_after(2, "first"));
    group.create_task(note(log));
    const auto error = co_await raised_by(group.join());
    CHECK(texts_of(error) == "unhandled errors in a TaskGroup (1 sub-exception); first");
    CHECK(log == "cc");
    CHECK(me().cancelling() == 0);
    co_await sleep(1ms);  // the parent's own cancel was taken back
  });
}

TEST_CASE("failures of several children are raised together") {
  in_loop([]() -> Task<> {
    const auto fail_at_cancel = []() -> Task<> {
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
        throw ValueError("while cancelled");
      }
    };
    TaskGroup group;
    group.create_task(fail_after(1, "first"));
    group.create_task(fail_at_cancel());
    group.create_task(fail_after(1, "together"));
    const auto error = co_await raised_by(group.join());
    CHECK(texts_of(error) ==
          "unhandled errors in a TaskGroup (3 sub-exceptions); first; together; "
          "while cancelled");
  });
}

TEST_CASE("a failing child ends a body that waits for something else") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto body = [&](TaskGroup& group) -> Task<> {
      group.create_task(fail_after(1, "child"));
      co_await note(log);
    };
    const auto error = co_await raised_by(TaskGroup::run(body));
    CHECK(texts_of(error) == "unhandled errors in a TaskGroup (1 sub-exception); child");
    CHECK(log == "c");
    CHECK(me().cancelling() == 0);
    co_await sleep(1ms);
  });
}

TEST_CASE("a group that shuts down refuses tasks") {
  in_loop([]() -> Task<> {
    const auto body = [&](TaskGroup& group) -> Task<> {
      group.create_task(fail_after(1, "child"));
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
      }
      CHECK_THROWS_WITH_AS(group.create_task(after(1, 1)), "TaskGroup is shutting down",
                           RuntimeError);
    };
    CHECK(is_a<ExceptionGroup>(co_await raised_by(TaskGroup::run(body))));
  });
}

TEST_CASE("an exception of the body cancels the children and is one of the group's") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto error = co_await raised_by(TaskGroup::run([&log](TaskGroup& group) -> Task<> {
      group.create_task(note(log));
      group.create_task(note(log));
      co_await turns(2);
      throw ValueError("body");
    }));
    CHECK(texts_of(error) == "unhandled errors in a TaskGroup (1 sub-exception); body");
    CHECK(log == "cc");
  });
}

TEST_CASE("failures of the body and of a child are raised together") {
  in_loop([]() -> Task<> {
    const auto body = [](TaskGroup& group) -> Task<> {
      group.create_task(fail_after(1, "child"));
      bool late = false;
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
        late = true;
      }
      if (late) throw ValueError("body");
    };
    const auto error = co_await raised_by(TaskGroup::run(body));
    CHECK(texts_of(error) == "unhandled errors in a TaskGroup (2 sub-exceptions); child; body");
    CHECK(me().cancelling() == 0);
  });
}

TEST_CASE("a child that is cancelled by hand does not concern the others") {
  in_loop([]() -> Task<> {
    std::string log;
    TaskGroup group;
    const auto child = group.create_task(note(log));
    group.create_task(note(log, 3ms));
    co_await turns(2);
    child.cancel();
    co_await group.join();
    CHECK(log == "ce");
  });
}

TEST_CASE("cancelling a task that joins cancels the children and waits for them") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto slow_to_go = [&]() -> Task<> {
      bool late = false;
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
        late = true;
      }
      co_await sleep(3ms);
      log += 't';
      if (late) throw Cancelled();
    };
    const auto parent = [&]() -> Task<> {
      TaskGroup group;
      group.create_task(slow_to_go());
      group.create_task(note(log));
      try {
        co_await group.join();
      } catch (const Cancelled&) {
        log += 'p';
        throw;
      }
    };
    const auto task = Loop::running().create_task(parent());
    co_await turns(3);
    task.cancel();
    co_await turns(3);
    CHECK(log == "c");
    task.cancel();  // a second time changes nothing
    for (int waited = 0; !task.done() && waited < 1000; ++waited) co_await sleep(1ms);
    CHECK(log == "ctp");
    CHECK(task.cancelled());
  });
}

TEST_CASE("cancelling a task inside a group's body cancels the children") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto body = [&](TaskGroup& group) -> Task<> {
      group.create_task(note(log));
      co_await note(log);
    };
    const auto task = Loop::running().create_task(TaskGroup::run(body));
    co_await turns(3);
    task.cancel();
    co_await turns(5);
    CHECK(log == "cc");
    CHECK(task.cancelled());
  });
}

TEST_CASE("a failure while the parent is cancelled is raised, and the cancel at the next wait") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto fail_at_cancel = []() -> Task<> {
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
        throw ValueError("while cancelled");
      }
    };
    const auto parent = [&]() -> Task<> {
      TaskGroup group;
      group.create_task(fail_at_cancel());
      const auto error = co_await raised_by(group.join());
      log += texts_of(error);
      CHECK(me().cancelling() == 1);
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
        log += "; cancelled";
        throw;
      }
    };
    const auto task = Loop::running().create_task(parent());
    co_await turns(3);
    task.cancel();
    co_await turns(6);
    REQUIRE(task.done());
    CHECK(task.cancelled());
    CHECK(log == "unhandled errors in a TaskGroup (1 sub-exception); while cancelled; cancelled");
  });
}

TEST_CASE("a cancel from outside during the abort of a failing child is kept") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto parent = [&]() -> Task<> {
      const auto body = [&](TaskGroup& group) -> Task<> {
        group.create_task(fail_after(1, "child"));
        group.create_task(note(log));
        co_await sleep(1h);
      };
      const auto error = co_await raised_by(TaskGroup::run(body));
      log += describe(error);
      CHECK(me().cancelling() == 1);
      co_await sleep(1h);
    };
    const auto task = Loop::running().create_task(parent());
    co_await turns(1);
    for (int turn = 0; turn < 10 && task.cancelling() == 0; ++turn) co_await turns(1);
    CHECK(task.cancelling() == 1);  // the group's
    task.cancel();
    co_await turns(8);
    CHECK(task.cancelled());
    CHECK(log == "cunhandled errors in a TaskGroup (1 sub-exception)");
  });
}

TEST_CASE("nested groups fail from the inside out") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto inner = [&](TaskGroup& group) -> Task<> {
      group.create_task(note(log));
      group.create_task(fail_after(2, "deep"));
      co_await note(log);
    };
    const auto outer = [&](TaskGroup& group) -> Task<> {
      group.create_task(note(log));
      co_await TaskGroup::run(inner);
    };
    const auto error = co_await raised_by(TaskGroup::run(outer));
    CHECK(texts_of(error) ==
          "unhandled errors in a TaskGroup (1 sub-exception); "
          "unhandled errors in a TaskGroup (1 sub-exception)");
    CHECK(log == "ccc");
    CHECK(me().cancelling() == 0);
  });
}

TEST_CASE("an outer failure ends an inner group, which raises nothing of its own") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto inner = [&](TaskGroup& group) -> Task<> {
      group.create_task(note(log));
      co_await note(log);
    };
    const auto outer = [&](TaskGroup& group) -> Task<> {
      group.create_task(fail_after(2, "outer child"));
      co_await TaskGroup::run(inner);
    };
    const auto error = co_await raised_by(TaskGroup::run(outer));
    CHECK(texts_of(error) == "unhandled errors in a TaskGroup (1 sub-exception); outer child");
    CHECK(log == "cc");
    CHECK(me().cancelling() == 0);
  });
}

TEST_CASE("a timeout around a group ends its children") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto body = [&](TaskGroup& group) -> Task<> {
      group.create_task(note(log));
      co_await note(log);
    };
    CHECK(is_a<TimeoutError>(co_await raised_by(timeout(3ms, TaskGroup::run(body)))));
    CHECK(log == "cc");
  });
}

TEST_CASE("a group that is not joined destroys its children, the youngest first") {
  in_loop([]() -> Task<> {
    std::string log;
    TaskHandle<> child;
    {
      std::string local = "what the children refer to";
      TaskGroup group;
      child = group.create_task(note_death(local));
      group.create_task(note_death(log, '2'));
      group.create_task(note_death(log, '1'));
      const auto not_begun = [&]() -> Task<> {
        log += "never";
        co_return;
      };
      co_await turns(2);
      group.create_task(not_begun());
    }
    CHECK(log == "12");
    CHECK(child.cancelled());
    co_await turns(2);
    CHECK(log == "12");
    CHECK(Loop::running().task_count() == 1);
  });
}

TEST_CASE("a body that raises past join leaves no child behind") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto body = [&]() -> Task<> {
      std::string local;
      TaskGroup group;
      group.create_task(note_death(local));
      group.create_task(note_death(log));
      co_await turns(2);
      throw ValueError("past join");
    };
    CHECK(describe(co_await raised_by(body())) == "past join");
    CHECK(log == "d");
  });
}

TEST_CASE("failures that no join will raise are reported, and the parent's cancel is taken back") {
  in_loop([]() -> Task<> {
    const Reports reports(Loop::running());
    {
      TaskGroup group;
      group.create_task(fail_after(1, "unheard"));
      CHECK(is_a<Cancelled>(co_await raised_by(turns(10))));
      CHECK(me().cancelling() == 1);
    }
    CHECK(me().cancelling() == 0);
    REQUIRE(reports.messages().size() == 1);
    CHECK(reports.messages()[0] == "TaskGroup was destroyed before it was joined");
    CHECK(texts_of(reports.exceptions()[0]) ==
          "unhandled errors in a TaskGroup (1 sub-exception); unheard");
  });
}

TEST_CASE("a child may destroy its own group, and is cancelled then") {
  in_loop([]() -> Task<> {
    std::string log;
    auto group = std::make_unique<TaskGroup>();
    const auto child = [&]() -> Task<> {
      co_await turns(1);
      group.reset();
      log += 's';
      co_await note(log);
    };
    const auto handle = group->create_task(child());
    group->create_task(note_death(log));
    co_await turns(5);
    CHECK(log == "dsc");
    CHECK(handle.cancelled());
  });
}

TEST_CASE("groups and their children are destroyed with the loop") {
  Loop loop;
  std::string log;
  const auto joining = [&]() -> Task<> {
    std::string local;
    TaskGroup group;
    group.create_task(note_death(local));
    co_await group.join();
  };
  const auto inside = [&](TaskGroup& group) -> Task<> {
    group.create_task(note_death(log));
    co_await sleep(1h);
  };
  loop.create_task(joining());
  loop.create_task(TaskGroup::run(inside));
  loop.run_until_complete(turns(3));
  loop.close();
  CHECK(log == "d");
}

TEST_CASE("a group may outlive its loop") {
  std::unique_ptr<TaskGroup> group;
  {
    Loop loop;
    std::string log;
    const auto body = [&]() -> Task<> {
      group = std::make_unique<TaskGroup>();
      group->create_task(note_death(log));
      co_await turns(2);
    };
    loop.run_until_complete(body());
    loop.close();
    CHECK(log == "d");
  }
  group.reset();
}

TEST_CASE("a group that outlives its loop can still tell of a failure") {
  std::unique_ptr<TaskGroup> group;
  {
    Loop loop;
    const auto body = [&]() -> Task<> {
      group = std::make_unique<TaskGroup>();
      group->create_task(fail_after(0, "without a loop"));
      co_return;
    };
    loop.run_until_complete(body());  // ends before the group hears of the failure
    CHECK(group->task_count() == 1);
  }
  group.reset();  // is logged
}

TEST_CASE("ten thousand children come and go in a group") {
  in_loop([]() -> Task<> {
    TaskGroup group;
    int ended = 0;
    const auto child = [&](int index) -> Task<> {
      co_await turns(index % 3);
      ++ended;
    };
    for (int index = 0; index < 10'000; ++index) group.create_task(child(index));
    co_await group.join();
    CHECK(ended == 10'000);
  });
}
