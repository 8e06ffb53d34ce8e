"""Checks that the simulation knows of every direct system call of pelton's libraries.

Each C function that the simulated sources name and do not define must be redirected by the linker
(the --wrap list of CMakeLists.txt here), be known not to touch the world, or be listed below with
the reason why no simulated run gets to it. A new call that is none of these is named.
"""

import argparse
import re
import subprocess
import sys

# Memory, text, threads' locks, the language's runtime: nothing that a run could not repeat.
HARMLESS = set(
    """
    abort aligned_alloc malloc calloc realloc free posix_memalign
    memchr memcmp memcpy memmove memset strcmp strncmp strlen strnlen strchr strtol strtoul snprintf
    fprintf fputs fputc fwrite fflush stderr stdout bcmp
    pthread_mutex_lock pthread_mutex_unlock pthread_self pthread_once
    inet_ntop inet_pton strerrorname_np getenv getpid gettid mmap munmap madvise
    """.split()
)

# What only those parts call that no simulated run makes: the reason, and the calls.
NOT_SIMULATED = {
    "the rings of a real host": """
        epoll_create1 epoll_ctl epoll_pwait2 epoll_wait io_uring_enter2 io_uring_queue_exit
        io_uring_queue_init_params io_uring_register_buf_ring io_uring_register_ring_fd
        io_uring_ring_dontfork io_uring_unregister_buf_ring syscall read
        timerfd_create timerfd_settime""",
    "names are numeric": "freeaddrinfo gai_strerror getaddrinfo if_nametoindex",
    "signals are not handled": "sigaction signal raise sigemptyset",
    "nothing is spliced": "splice pread",
    "unix sockets have abstract names": "stat unlink",
    "nobody asks what the kernel has not sent": "ioctl",
}

# Of the C++ library, those that read clocks or randomness.
CLOCKS = re.compile(r"_ZNSt6chrono3_V21\d(?:steady|system)_clock3nowEv|_ZNSt13random_device")
CLOCKS_OF_LOGS = {"_ZNSt6chrono3_V212system_clock3nowEv"}


def undefined_symbols(nm, library):
    """The names that the objects of `library` use and none of them defines."""
    text = subprocess.run(
        [nm, "-P", library], check=True, capture_output=True, text=True
    ).stdout
    used, defined = set(), set()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 2 or line.endswith(":"):
            continue
        (used if fields[1] in "Uwv" else defined).add(fields[0])
    return used - defined


def is_runtime(name):
    """Of compilers, sanitizers and the C++ library."""
    return name.startswith(("_", "asan", "ubsan")) and not CLOCKS.match(name)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog="Exit status: 0 all is known, 1 a call is not, 2 usage.",
    )
    parser.add_argument("--nm", default="nm", help="the program that lists symbols")
    parser.add_argument("--library", required=True, help="the simulated sources, as an archive")
    parser.add_argument("--wrapped", required=True, help="the wrapped calls, between commas")
    options = parser.parse_args()
    wrapped = set(options.wrapped.split(","))
    listed = {call for calls in NOT_SIMULATED.values() for call in calls.split()}
    known = HARMLESS | listed | wrapped | CLOCKS_OF_LOGS
    failed = 0
    for name in sorted(undefined_symbols(options.nm, options.library)):
        if name in known or is_runtime(name):
            continue
        failed += 1
        print(
            f"{name}: called directly, and the simulation does not know it\n"
            "    remedy: wrap it (test/sim/CMakeLists.txt, system_calls.cpp), or list it in "
            "test/sim/calls_check.py"
        )
    both = sorted(wrapped & (HARMLESS | listed))
    for name in both:
        failed += 1
        print(f"{name}: wrapped, and listed as a call that need not be")
    print(f"{len(wrapped)} calls wrapped, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
