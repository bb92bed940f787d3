"""What may become part of a URL or a path: checks on everything a person or a server says before it is used.

The server is treated as hostile: a name that passes here cannot leave the directory it is joined to, on any system.
"""

from __future__ import annotations

import re

from lilliput.errors import BadName, HubError

_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
_MOST_PATH_BYTES = 1024
_MOST_SEGMENT_BYTES = 255


def check_repo_id(repo_id: str) -> str:
    """``repo_id`` itself when it is ``owner/name`` (or a bare name); BadName otherwise."""
    parts = repo_id.split("/")
    sound = len(parts) <= 2 and all(_REPO_PART.fullmatch(part) for part in parts)
    if not sound or "--" in repo_id or ".." in repo_id or repo_id.endswith(".git"):
        raise BadName(
            f"{repo_id[:200]!r} is not a repository of the Hub", hint="write owner/name, for example org/model-GGUF"
        )
    return repo_id


def check_path(path: str) -> str:
    """``path`` itself when it is a plain relative path with ``/`` between its parts; BadName otherwise."""
    fault = _fault_of_path(path)
    if fault is not None:
        raise BadName(f"{path[:200]!r} is not a usable path in a repository: {fault}")
    return path


def check_revision(revision: str) -> str:
    """``revision`` itself when it may be a branch, a tag, a pull request reference or a commit; BadName otherwise."""
    fault = _fault_of_path(revision)
    if fault is not None or revision.endswith(".lock") or any(part.startswith("-") for part in revision.split("/")):
        raise BadName(
            f"{revision[:200]!r} is not a revision", hint="give a branch, a tag or a commit of the repository"
        )
    return revision


def is_commit(text: str) -> bool:
    """Whether ``text`` is a full commit id: 40 lower-case hexadecimal digits."""
    return _COMMIT.fullmatch(text) is not None


def check_commit(commit: str) -> str:
    """``commit`` itself when it is a full commit id; HubError otherwise, since only the Hub gives them."""
    if not is_commit(commit):
        raise HubError(f"the Hub gave {commit[:80]!r} as a commit, which is not one")
    return commit


def check_sha256(digest: str) -> str:
    """``digest`` itself when it is 64 lower-case hexadecimal digits; HubError otherwise."""
    if _SHA256.fullmatch(digest) is None:
        raise HubError(f"the Hub gave {digest[:80]!r} as a SHA-256, which is not one")
    return digest


def check_git_sha1(digest: str) -> str:
    """``digest`` itself when it is 40 lower-case hexadecimal digits; HubError otherwise."""
    if _COMMIT.fullmatch(digest) is None:
        raise HubError(f"the Hub gave {digest[:80]!r} as a git object id, which is not one")
    return digest


def _fault_of_path(path: str) -> str | None:
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not 0 < len(encoded) <= _MOST_PATH_BYTES:
        return f"it must have 1 to {_MOST_PATH_BYTES} bytes"
    if _FORBIDDEN.search(path):
        return "it holds a character that not every file system allows"
    return next((fault for segment in path.split("/") if (fault := _fault_of_segment(segment))), None)


def _fault_of_segment(segment: str) -> str | None:
    if segment in ("", ".", ".."):
        return "it is absolute or leaves its folder"
    if segment[-1] in ". " or segment[0] == " ":
        return f"{segment[:80]!r} begins or ends with a space or a dot"
    if len(segment.encode()) > _MOST_SEGMENT_BYTES or _WINDOWS_DEVICE.fullmatch(segment):
        return f"{segment[:80]!r} is not allowed on every file system"
    return None
