"""A system call filter that refuses io_uring, as container run times do.

Used by test_refusal.py and fault_limits.py: `refuse(call, errno)` makes a function for a child to
call between fork and exec; that system call then fails there with that errno. Neighbour:
harness.py.
"""

import ctypes
import os
import struct

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ERRNO = 0x00050000
BPF_LD_W_ABS = 0x20
BPF_JMP_JEQ_K = 0x15
BPF_RET_K = 0x06
SYSCALL_NUMBER_OFFSET = 0
IO_URING_SETUP = 425  # the same numbers on every architecture but alpha
IO_URING_ENTER = 426
IO_URING_REGISTER = 427


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def instruction(code, if_true, if_false, value):
    """struct sock_filter."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


def refuse_io_uring(number):
    """refuse() for io_uring_setup(2)."""
    return refuse(IO_URING_SETUP, number)


def refuse(call, number):
    """A function that makes system call `call` fail with errno `number` in the calling process."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join([
        instruction(BPF_LD_W_ABS, 0, 0, SYSCALL_NUMBER_OFFSET),
        instruction(BPF_JMP_JEQ_K, 0, 1, call),
        instruction(BPF_RET_K, 0, 0, SECCOMP_RET_ERRNO | number),
        instruction(BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW),
    ])
    buffer = ctypes.create_string_buffer(code, len(code))
    made = Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))

    def install(_keep=buffer):
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
        if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(made), 0, 0) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"prctl(PR_SET_SECCOMP): {os.strerror(error)}")

    return install
