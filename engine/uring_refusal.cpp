// Why a ring was refused, told from the facts of this host: the errno, the sysctl, the seccomp
// mode and the locked-memory limit, each with its remedy. See uring_ring.hpp.
#include <sys/resource.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include <pelton/engine/uring_ring.hpp>

namespace pelton {
namespace {

std::string read_first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// The value of "Seccomp:" in /proc/self/status: 0 none, 1 strict, 2 filter; "unknown" if unread.
std::string seccomp_mode() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("Seccomp:")) continue;
    const auto digit = line.find_first_of("0123456789");
    if (digit != std::string::npos) return line.substr(digit);
  }
  return "unknown";
}

std::string kib(rlim_t bytes) {
  return bytes == RLIM_INFINITY ? "unlimited" : std::to_string(bytes / 1024) + " KiB";
}

const char* errno_name(int value) {
  const char* const name = strerrorname_np(value);
  return name ? name : "errno";
}

void advise_permission(std::ostringstream& text, const std::string& disabled,
                       const std::string& seccomp) {
  if (disabled == "1" || disabled == "2") {
    text << "\n  remedy: kernel.io_uring_disabled=" << disabled
         << " turns io_uring off; `sysctl kernel.io_uring_disabled=0` allows it";
    if (disabled == "1") text << " (or put the user in kernel.io_uring_group)";
  }
  const bool filtered = seccomp != "0" && seccomp != "unknown";
  if (filtered) {
    text << "\n  remedy: a seccomp filter is active and refuses it; allow "
            "io_uring_setup, io_uring_enter and io_uring_register in the container's profile "
            "(Docker: --security-opt seccomp=PROFILE.json; systemd: SystemCallFilter=@aio)";
  }
  if (disabled != "1" && disabled != "2" && !filtered) {
    text << "\n  remedy: neither the sysctl nor a seccomp filter of this process refuses it: look "
            "for a security module (SELinux, AppArmor; `dmesg`) or a sandbox around the host";
  }
}

}  // namespace

std::string explain_ring_refusal(int errno_value, std::string_view what) {
  const std::string sysctl = read_first_line("/proc/sys/kernel/io_uring_disabled");
  const std::string disabled = sysctl.empty() ? "absent" : sysctl;
  const std::string seccomp = seccomp_mode();
  rlimit memlock{};
  getrlimit(RLIMIT_MEMLOCK, &memlock);

  std::ostringstream text;
  text << what << " failed with " << errno_name(errno_value) << " (" << errno_value << ", "
       << errno_code(errno_value).message() << ")\n  facts: kernel.io_uring_disabled=" << disabled
       << ", seccomp mode " << seccomp << ", memlock limit " << kib(memlock.rlim_cur) << " (hard "
       << kib(memlock.rlim_max) << ")";
  switch (errno_value) {
    case EPERM:
    case EACCES:
      advise_permission(text, disabled, seccomp);
      break;
    case ENOSYS:
      advise_permission(text, disabled, seccomp);
      text << "\n  remedy: pelton needs Linux 6.1 or newer with CONFIG_IO_URING; see `uname -r`";
      break;
    case EINVAL:
      text << "\n  remedy: this kernel lacks a set-up flag that pelton needs "
              "(DEFER_TASKRUN, Linux 6.1); see `uname -r`";
      break;
    case ENOMEM:
      text << "\n  remedy: rings are charged to the user's locked memory: raise it "
              "(`ulimit -l unlimited`, LimitMEMLOCK=infinity, --ulimit memlock=-1), or ask for "
              "fewer entries, buffers and threads";
      break;
    case EMFILE:
    case ENFILE:
      text << "\n  remedy: no file descriptor is free: raise RLIMIT_NOFILE (`ulimit -n`)";
      break;
    case EOPNOTSUPP:
      text << "\n  remedy: a kernel without this fault, see `uname -r`; or the epoll engine "
              "(`--engine epoll`)";
      break;
    default:
      text << "\n  remedy: io_uring does not answer so of itself: look for a sandbox or a tracer "
              "around the process, or serve on epoll (`--engine epoll`, PELTON_ENGINE=epoll)";
      break;
  }
  return text.str();
}

}  // namespace pelton
