"""States of prefixes on disk, so that they survive a restart: written by a thread of their own, checked before use."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from lilliput.engine.prefix_store import State

log = logging.getLogger(__name__)

_MAGIC: Final = b"lilliput prefix 1\n"
_DIGEST_BYTES: Final = 32
_SAMPLE_BYTES: Final = 1 << 20
_MOST_WAITING: Final = 4
_SUFFIX, _UNFINISHED = ".state", ".part"


def file_identity(path: Path) -> bytes:
    """Tells a file from all others that are likely to take its place: size, time of change, beginning and end."""
    status = path.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLE_BYTES))
        file.seek(max(0, status.st_size - _SAMPLE_BYTES))
        digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()


class PrefixFiles:
    """States in ``folder``, at most ``limit_bytes`` of all models together; those used longest ago go first.

    Only states of the same ``key`` are read back: it stands for the model, the build and the settings of the context.
    Each file carries a checksum of key, tokens and state, and appears whole or not at all.
    """

    def __init__(self, folder: Path, key: bytes, limit_bytes: int) -> None:
        self._folder = folder
        self._own = folder / hashlib.sha256(key).hexdigest()[:32]
        self._key = key
        self._limit_bytes = limit_bytes
        self._orders: queue.SimpleQueue[tuple[list[int], State] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def load(self, most_bytes: int) -> Iterator[tuple[list[int], State]]:
        """The states used last, of at most so many bytes together, the one used longest ago first.

        A file that is not as it was written is removed.
        """
        chosen: list[Path] = []
        for path, size, _ in sorted(_files(self._own), key=lambda one: -one[2]):
            most_bytes -= size
            if most_bytes < 0:
                break
            chosen.append(path)
        for path in reversed(chosen):
            found = self._read(path)
            if found is None:
                log.warning("%s is not as it was written, and is removed", path)
                path.unlink(missing_ok=True)
            else:
                yield found

    def keep(self, tokens: list[int], state: State) -> None:
        """Have a state written, or known as used now where it is there; without effect while too many others wait."""
        if self._orders.qsize() >= _MOST_WAITING:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="prefix files", daemon=True)
            self._thread.start()
        self._orders.put((tokens, state))

    def close(self) -> None:
        """Wait until what was ordered is written."""
        if self._thread is not None:
            self._orders.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                self._write(*order)
            except OSError as error:
                log.warning("a prefix could not be kept in %s: %s", self._own, error)

    def _write(self, tokens: Sequence[int], state: State) -> None:
        raw = np.asarray(tokens, "<i4").tobytes()
        path = self._own / f"{hashlib.sha256(raw).hexdigest()[:32]}{_SUFFIX}"
        if path.exists():
            _use(path)
            return
        if len(raw) + len(state) > self._limit_bytes:
            return
        self._own.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = path.with_suffix(_UNFINISHED)
        with unfinished.open("wb") as file:
            file.write(_MAGIC + self._checksum(raw, state) + len(tokens).to_bytes(4, "little") + raw)
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        _use(unfinished)
        unfinished.replace(path)
        self._prune()

    def _prune(self) -> None:
        files = sorted((one for each in self._folder.iterdir() for one in _files(each)), key=lambda one: one[2])
        used = sum(size for _, size, _ in files)
        for path, size, _ in files:
            if used <= self._limit_bytes:
                return
            path.unlink(missing_ok=True)
            used -= size

    def _read(self, path: Path) -> tuple[list[int], State] | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # somebody tidies up
            return None
        body = len(_MAGIC) + _DIGEST_BYTES + 4
        count = int.from_bytes(data[body - 4 : body], "little")
        if not data.startswith(_MAGIC) or len(data) < body + 4 * count:
            return None
        view = memoryview(data)
        raw, state = bytes(view[body : body + 4 * count]), view[body + 4 * count :]
        if data[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES] != self._checksum(raw, state):
            return None
        return np.frombuffer(raw, "<i4").tolist(), state

    def _checksum(self, raw_tokens: bytes, state: State) -> bytes:
        digest = hashlib.sha256(self._key)
        digest.update(len(raw_tokens).to_bytes(8, "little") + raw_tokens)
        digest.update(state)
        return digest.digest()


def _use(path: Path) -> None:
    """Note that a file is used now: by a clock that tells apart what a file system's own, of some ms, does not."""
    now_ns = time.time_ns()
    os.utime(path, ns=(now_ns, now_ns))


def _files(folder: Path) -> list[tuple[Path, int, int]]:
    """The states in a folder with their sizes and the times of their last use."""
    found = []
    for path in folder.glob(f"*{_SUFFIX}"):
        with suppress(FileNotFoundError):
            status = path.stat()
            found.append((path, status.st_size, status.st_mtime_ns))
    return found
