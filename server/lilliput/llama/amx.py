"""Keeping a process away from AMX, the matrix unit of some x86-64 processors.

A process on Linux has to ask its kernel for AMX's tiles. llama.cpp asks once, when it first lists the CPU backend's
buffer types (``ggml_amx_init`` in ggml-cpu/amx/amx.cpp), and where the kernel refuses it takes its other kernels. So a
filter on system calls that refuses exactly this question turns AMX off for one process, and nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
import threading
from functools import cache

from lilliput.errors import EngineLoadFailed

_SYS_ARCH_PRCTL, _SYS_SECCOMP = 158, 317
_AUDIT_ARCH_X86_64 = 0xC000003E
_GET_PERMISSIONS, _ASK_PERMISSION = 0x1022, 0x1023
"""``ARCH_GET_XCOMP_PERM`` and ``ARCH_REQ_XCOMP_PERM`` of asm/prctl.h."""
_TILE_DATA = 18
"""The processor state that holds the tiles: XFEATURE_XTILEDATA."""

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000
_ARCH, _NUMBER, _FIRST, _SECOND = 4, 0, 16, 24
"""Where ``struct seccomp_data`` has architecture, number and the low halves of the first two arguments."""

_WANTED = (
    (_ARCH, _AUDIT_ARCH_X86_64),
    (_NUMBER, _SYS_ARCH_PRCTL),
    (_FIRST, _ASK_PERMISSION),
    (_SECOND, _TILE_DATA),
)


class _Program(ctypes.Structure):
    """``struct sock_fprog`` of linux/filter.h."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


@cache
def deny_amx() -> None:
    """Refuse AMX to this process, to all its threads and children, until it ends. Needs no rights.

    Raises EngineLoadFailed where the system knows no such filters, and when AMX was granted before.
    """
    if not _knows_filters():
        raise EngineLoadFailed("AMX can only be refused by Linux on x86-64", hint="load the model with other settings")
    if _granted():
        raise EngineLoadFailed("this process may use AMX already", hint="load the model in a process of its own")
    try:
        _install(_ALL_THREADS)
    except OSError as error:
        raise EngineLoadFailed(
            f"AMX cannot be refused to this process: {error.strerror}", hint="the system allows no filter (seccomp)"
        ) from error


def amx_can_be_denied() -> bool:
    """Whether ``deny_amx`` would work here, tried in a thread that ends at once."""
    if not _knows_filters():
        return False
    answers: list[bool] = []
    trial = threading.Thread(target=lambda: answers.append(_denied_in_this_thread()))
    trial.start()
    trial.join()
    return answers == [True]


def filter_program() -> bytes:
    """The filter in classic BPF: 8 bytes an instruction. All but the question for AMX is allowed."""
    refused = 2 * len(_WANTED)  # where the answer of a call that is all that is wanted will stand, before the other's
    code = []
    for offset, value in _WANTED:
        code.append(_instruction(_LOAD, offset))
        code.append(_instruction(_JUMP_IF_EQUAL, value, if_not=refused - len(code)))
    return b"".join((*code, _instruction(_RETURN, _FAIL_WITH | errno.EPERM), _instruction(_RETURN, _ALLOW)))


def _instruction(code: int, value: int, *, if_not: int = 0) -> bytes:
    """``struct sock_filter``: the jump when a comparison holds is always to the next instruction."""
    return struct.pack("=HBBI", code, 0, if_not, value)


def _knows_filters() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _denied_in_this_thread() -> bool:
    try:
        _install(0)
    except OSError:
        return False
    return _system_call(_SYS_ARCH_PRCTL, _ASK_PERMISSION, _TILE_DATA) == errno.EPERM


def _install(flags: int) -> None:
    """Put the filter on this thread, or on all; OSError when the system does not want it."""
    libc = _libc()
    program = filter_program()
    described = _Program(len(program) // struct.calcsize("=HBBI"), program)
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    # Without rights of its own, a process may filter itself only when what it starts cannot gain any either.
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, one, zero, zero, zero):
        number = ctypes.get_errno()
    else:
        number = _system_call(_SYS_SECCOMP, _SET_MODE_FILTER, flags, ctypes.addressof(described))
    if number:
        raise OSError(number, os.strerror(number))


def _granted() -> bool:
    """Whether this process may use AMX's tiles already."""
    permissions = ctypes.c_uint64()
    failed = _system_call(_SYS_ARCH_PRCTL, _GET_PERMISSIONS, ctypes.addressof(permissions))
    return not failed and bool(permissions.value >> _TILE_DATA & 1)


def _system_call(number: int, *arguments: int) -> int:
    """0, or why it failed as an ``errno``; a thread that could not be filtered along counts as ESRCH."""
    result = _libc().syscall(ctypes.c_long(number), *(ctypes.c_ulong(argument) for argument in arguments))
    if result > 0:
        return errno.ESRCH
    return ctypes.get_errno() if result else 0


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
