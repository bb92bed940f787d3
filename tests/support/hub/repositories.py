"""Served repositories: digests, revisions and the entries the API shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.hub.config import RepositoryConfig

_MOST_HASHED_BYTES = 4 * 1024**3
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ServedFile:
    """One file on disk under a repository path; digests are computed on first use and kept."""

    path: str
    disk: Path
    lfs_threshold_bytes: int

    @cached_property
    def size_bytes(self) -> int:
        return self.disk.stat().st_size

    @property
    def is_lfs(self) -> bool:
        return self.size_bytes >= self.lfs_threshold_bytes

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        if self.size_bytes > _MOST_HASHED_BYTES:  # the hole of a giant, of which only the header is ever read
            digest.update(f"{self.path}:{self.size_bytes}".encode())
            return digest.hexdigest()
        with self.disk.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size_bytes}\n"
        return text.encode()

    @cached_property
    def git_sha1(self) -> str:
        """The id git gives the stored blob: the pointer's for LFS files, the content's otherwise."""
        content = self.pointer if self.is_lfs else self.disk.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.git_sha1

    def sibling(self) -> dict[str, Any]:
        """The entry of ``/api/models/{id}?blobs=true``."""
        entry: dict[str, Any] = {"rfilename": self.path, "size": self.size_bytes, "blobId": self.git_sha1}
        if self.is_lfs:
            entry["lfs"] = {"sha256": self.sha256, "size": self.size_bytes, "pointerSize": len(self.pointer)}
        return entry

    def tree_entry(self) -> dict[str, Any]:
        """The entry of ``/tree`` and ``/paths-info``."""
        entry: dict[str, Any] = {"type": "file", "oid": self.git_sha1, "size": self.size_bytes, "path": self.path}
        if self.is_lfs:
            entry["lfs"] = {"oid": self.sha256, "size": self.size_bytes, "pointerSize": len(self.pointer)}
        return entry


class ServedRepository:
    """A repository with one commit; its id is derived from what it holds."""

    def __init__(self, name: str, config: RepositoryConfig, lfs_threshold_bytes: int) -> None:
        self.name = name
        self.config = config
        self.files = {
            path: ServedFile(path, Path(disk), lfs_threshold_bytes) for path, disk in sorted(config.files.items())
        }

    @cached_property
    def revision(self) -> str:
        seed = [
            self.name,
            *(f"{file.path}:{file.size_bytes}:{file.disk.stat().st_mtime_ns}" for file in self.files.values()),
        ]
        return hashlib.sha1("\n".join(seed).encode(), usedforsecurity=False).hexdigest()

    def knows(self, revision: str) -> bool:
        return revision in ("main", "refs/heads/main", self.revision)

    def info(self, *, blobs: bool) -> dict[str, Any]:
        """The body of ``/api/models/{id}``."""
        siblings = [file.sibling() if blobs else {"rfilename": file.path} for file in self.files.values()]
        info: dict[str, Any] = {
            "_id": self.revision[:24],
            "id": self.name,
            "modelId": self.name,
            "author": self.name.split("/", maxsplit=1)[0],
            "sha": self.revision,
            "private": self.config.private,
            "gated": "manual" if self.config.gated else False,
            "disabled": False,
            "tags": ["gguf"],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings + [dict(entry) for entry in self.config.siblings],
        }
        if self.config.license is not None:
            info["cardData"] = {"license": self.config.license}
            info["tags"].append(f"license:{self.config.license}")
        return info

    def entries(self, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
        """Tree entries below ``folder``, folders included."""
        prefix = f"{folder}/" if folder else ""
        entries: list[dict[str, Any]] = []
        folders: set[str] = set()
        for path, file in self.files.items():
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            depth = len(parts) - 1 if recursive else min(1, len(parts) - 1)
            folders |= {prefix + "/".join(parts[:level]) for level in range(1, depth + 1)}
            if recursive or len(parts) == 1:
                entries.append(file.tree_entry())
        found = [
            {
                "type": "directory",
                "oid": hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(),
                "size": 0,
                "path": name,
            }
            for name in sorted(folders)
        ]
        return found + entries
