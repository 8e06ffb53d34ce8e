// Forking, collecting the output, reaping. See child.hpp.
#include <support/child.hpp>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include <pelton/engine/error.hpp>

namespace pelton::test {
namespace {

constexpr unsigned patience_s = 30;

/// The test runner's handlers would report the end of a child as one of the tests'.
void restore_signals() noexcept {
  for (const int number : {SIGABRT, SIGSEGV, SIGILL, SIGFPE, SIGTERM, SIGINT, SIGALRM}) {
    ::signal(number, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void run_body(const std::function<int()>& body, int output) noexcept {
  restore_signals();
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  alarm(patience_s);
  int status = 99;
  try {
    status = body();
  } catch (...) {
    std::fprintf(stderr, "exception: %s\n", describe(std::current_exception()).c_str());
  }
  std::fflush(nullptr);
  _exit(status);
}

}  // namespace

ChildEnd run_in_child(const std::function<int()>& body) {
  int ends[2];
  if (pipe(ends) != 0) throw_os_error(errno_code(errno), "pipe");
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw_os_error(errno_code(errno), "fork");
  if (child == 0) {
    close(ends[0]);
    run_body(body, ends[1]);
  }
  close(ends[1]);
  ChildEnd end;
  char text[4096];
  for (ssize_t count; (count = read(ends[0], text, sizeof text)) != 0;) {
    if (count > 0) end.output.append(text, static_cast<std::size_t>(count));
    if (count < 0 && errno != EINTR) break;
  }
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) end.exit_status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  return end;
}

bool become_nobody(std::size_t memlock_bytes) {
  const rlimit limit{memlock_bytes, memlock_bytes};
  if (geteuid() != 0 || setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return false;
  const auto user = static_cast<uid_t>(1'000'000 + getpid());
  return setgid(user) == 0 && setuid(user) == 0;
}

}  // namespace pelton::test
