"""The filter that keeps a process from AMX: its code read as the kernel reads it, and on a processor that has AMX."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys

import pytest
from tests.support.safe_rung import rungs_here

from lilliput.errors import EngineLoadFailed
from lilliput.llama import RUNGS, rungs_of
from lilliput.llama.amx import amx_can_be_denied, deny_amx, filter_program
from lilliput.llama.rungs import apply

X86_64, AARCH64 = 0xC000003E, 0xC00000B7
ARCH_PRCTL, ASK, GET, TILE_DATA = 158, 0x1023, 0x1022, 18
ALLOWED, REFUSED = 0x7FFF0000, 0x00050000 | errno.EPERM


def verdict(number: int, arguments: tuple[int, ...], architecture: int = X86_64) -> int:
    """What the filter returns for a system call."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("=HBBI", filter_program()))
    place = held = 0
    while True:
        operation, if_equal, if_not, value = code[place]
        place += 1
        if operation == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            (held,) = struct.unpack_from("=I", data, value)
        elif operation == 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
            place += if_equal if held == value else if_not
        else:
            assert operation == 0x06  # BPF_RET | BPF_K
            return int(value)


def test_only_the_question_for_tiles_is_refused() -> None:
    assert verdict(ARCH_PRCTL, (ASK, TILE_DATA)) == REFUSED


@pytest.mark.parametrize(
    ("number", "arguments", "architecture"),
    [
        (ARCH_PRCTL, (GET, TILE_DATA), X86_64),
        (ARCH_PRCTL, (ASK, 17), X86_64),
        (ARCH_PRCTL, (0x1002, 0x7F0000001000), X86_64),
        (157, (ASK, TILE_DATA), X86_64),
        (0, (3, 0x7FFE0000, 4096), X86_64),
        (ARCH_PRCTL, (ASK, TILE_DATA), AARCH64),
    ],
)
def test_everything_else_is_allowed(number: int, arguments: tuple[int, ...], architecture: int) -> None:
    assert verdict(number, arguments, architecture) == ALLOWED


IN_A_CHILD = """
import ctypes, errno, threading
from lilliput.llama.amx import deny_amx
libc = ctypes.CDLL(None, use_errno=True)
def call(option, address=18):
    failed = libc.syscall(ctypes.c_long(158), ctypes.c_ulong(option), ctypes.c_ulong(address))
    return errno.errorcode[ctypes.get_errno()] if failed else "works"
go, told = threading.Event(), []
def older():
    go.wait()
    told.append(call(0x1023))
thread = threading.Thread(target=older)
thread.start()
deny_amx()
go.set()
thread.join()
supported, permitted = ctypes.c_uint64(), ctypes.c_uint64()
print(call(0x1023), *told, call(0x1021, ctypes.addressof(supported)), call(0x1022, ctypes.addressof(permitted)))
print(supported.value >> 18 & 1, permitted.value >> 18 & 1)
deny_amx()
"""


@pytest.mark.skipif("no-amx" not in rungs_here(), reason="this machine has no AMX, or lets no process do without")
def test_a_process_is_refused_amx_in_all_its_threads_and_nothing_else() -> None:
    child = subprocess.run([sys.executable, "-c", IN_A_CHILD], capture_output=True, text=True, check=True)
    asked, permissions = child.stdout.splitlines()
    assert asked.split() == ["EPERM", "EPERM", "works", "works"]
    assert permissions.split() == ["1", "0"]


@pytest.mark.skipif("no-amx" not in rungs_here(), reason="this machine has no AMX, or lets no process do without")
def test_a_process_that_may_use_amx_already_cannot_be_held_to_do_without() -> None:
    program = (
        "import ctypes; from lilliput.llama.rungs import apply\n"
        "ctypes.CDLL(None).syscall(ctypes.c_long(158), ctypes.c_ulong(0x1023), ctypes.c_ulong(18))\n"
        "apply('no-amx')"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "EngineLoadFailed: this process may use AMX already" in child.stderr


@pytest.mark.skipif(amx_can_be_denied(), reason="here it can")
def test_where_no_filter_is_known_a_process_cannot_be_held_to_do_without() -> None:
    with pytest.raises(EngineLoadFailed, match="AMX can"):
        deny_amx()


def test_a_machine_without_amx_has_no_rung_for_it() -> None:
    assert rungs_of(("avx2", "fma")) == rungs_of(None) == ("native", "no-extra-buffers")
    assert rungs_of(("amx_tile", "avx2")) == (RUNGS if amx_can_be_denied() else ("native", "no-extra-buffers"))


def test_only_the_safest_rung_does_without_extra_buffers() -> None:
    assert (apply("native"), apply("no-extra-buffers")) == (True, False)
