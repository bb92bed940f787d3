"""What the Hub says about a repository, and how a download is going."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lilliput.errors import HubError, VariantNotFound
from lilliput.hub.names import check_commit, check_git_sha1, check_path, check_repo_id, check_revision, check_sha256

Phase = Literal["checking", "waiting", "downloading", "verifying", "done"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository; ``sha256`` exists for large (LFS) files, ``git_sha1`` is git's blob id.

    Cannot hold a path that leaves its folder or a malformed digest: raises ``BadName`` or ``HubError`` instead.
    """

    path: str
    size_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None

    def __post_init__(self) -> None:
        check_path(self.path)
        if self.sha256 is not None:
            check_sha256(self.sha256)
        if self.git_sha1 is not None:
            check_git_sha1(self.git_sha1)
        if self.sha256 is None and self.git_sha1 is None:
            raise HubError(f"the Hub gave no digest for {self.path}")
        if self.size_bytes < 0:
            raise HubError(f"the Hub gave {self.size_bytes} bytes as the size of {self.path}")

    @property
    def digest(self) -> str:
        """What the content is checked against and its blob is called: the SHA-256, else git's blob id."""
        digest = self.sha256 or self.git_sha1
        assert digest is not None
        return digest


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit (``revision``, 40 hexadecimal digits); ``ref`` is the branch or tag that led to it."""

    repo_id: str
    revision: str
    files: tuple[RemoteFile, ...]
    gated: bool = False
    license: str | None = None
    ref: str = "main"

    def __post_init__(self) -> None:
        check_repo_id(self.repo_id)
        check_commit(self.revision)
        check_revision(self.ref)

    def file(self, path: str) -> RemoteFile:
        """The file at ``path``; VariantNotFound when the repository has none."""
        for file in self.files:
            if file.path == path:
                return file
        raise VariantNotFound(
            f"{self.repo_id} has no file {path}", hint="check the name against the repository's file list"
        )


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """One step of a download; ``completed_bytes`` are on disk, ``resumed_bytes`` of them from an earlier run.

    While "checking" and "verifying", ``completed_bytes`` are those hashed. ``message`` says why a phase lasts.
    """

    phase: Phase
    completed_bytes: int
    total_bytes: int
    message: str | None = None
    resumed_bytes: int = 0
