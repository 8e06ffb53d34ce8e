// Forked children: for what ends a process, or must not touch the one that runs the tests.
//
// Make no ring before the fork that the child would use: rings stay with the process that made
// them. Neighbours: uring_refusal_test, buffers_test, runner_test.
#pragma once

#include <functional>
#include <string>

namespace pelton::test {

/// How a child ended and all that it wrote.
struct ChildEnd {
  int exit_status = -1;  ///< -1 where a signal ended it
  int signal = 0;        ///< 0 where it exited
  std::string output;    ///< standard output and standard error
};

/// Runs `body` in a forked child, with every signal at its default; what it returns is the exit
/// status. An exception ends the child with 99, a child that hangs with SIGALRM after 30 seconds.
[[nodiscard]] ChildEnd run_in_child(const std::function<int()>& body);

/// For children: gives up root and the right to lock memory, for a user id that nobody has, since
/// locked memory is charged to the user. \return false if that is impossible.
[[nodiscard]] bool become_nobody(std::size_t memlock_bytes);

}  // namespace pelton::test
