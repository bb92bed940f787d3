"""One daemon per data directory."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from lilliput.errors import StorageError

LOCK_NAME = "daemon.lock"


class DataDirectoryLock:
    """Exclusive use of a data directory among processes, for as long as this object lives.

    The operating system frees it when the process ends, however it ends.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = FileLock(directory / LOCK_NAME, timeout=0, thread_local=False)

    def acquire(self) -> None:
        """Take the directory at once; StorageError if another daemon has it."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout as error:
            raise StorageError(
                f"another lilliput daemon already uses {self.directory}",
                hint="stop it first, or give this one its own directory with LILLIPUT_DATA_DIR",
            ) from error
        except (OSError, NotImplementedError) as error:
            raise StorageError(
                f"the data directory {self.directory} cannot be locked: {error}",
                hint="choose a directory on a local disk that can be written with LILLIPUT_DATA_DIR",
            ) from error

    def release(self) -> None:
        """Give it back; without a lock held this does nothing."""
        self._lock.release()

    def __enter__(self) -> DataDirectoryLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
