"""How the pool is set up."""

from __future__ import annotations

from dataclasses import dataclass

from lilliput.llama import Rung


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """``keep_alive_s`` below 0 keeps idle engines for ever; ``queue_limit`` bounds the requests waiting at one
    engine; ``gap_s`` is how long a prompt may keep streams waiting; ``rungs`` are the safe settings of this machine,
    fastest first; ``prefix_disk_bytes`` of prefixes may be kept in ``prefix_folder``, 0: none.
    ``climb_s`` is how long an engine that had to give something up is unused before it is looked whether it could have
    that again. A load that finds all memory in use waits: after ``patience_s`` the engines that have to go for it take
    no new requests, and after ``wait_s`` it gives up. An engine that owes an answer and does not react for ``stall_s``
    is ended. One caller may hold ``caller_limit`` places at an engine; models of one of the ``groups`` are not in
    memory together.
    """

    slots: int
    keep_alive_s: float
    queue_limit: int
    threads: int
    machine: str
    build: str
    rungs: tuple[Rung, ...]
    gap_s: float = 0.1
    prefix_folder: str = ""
    prefix_disk_bytes: int = 0
    climb_s: float = 60.0
    patience_s: float = 10.0
    wait_s: float = 300.0
    stall_s: float = 30.0
    caller_limit: int | None = None
    groups: tuple[frozenset[str], ...] = ()
