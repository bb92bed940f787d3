"""What the test server serves, as a JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

READER_TOKEN = "hf_reader"  # accepted, but sees neither private repositories nor gated files
MEMBER_TOKEN = "hf_member"  # accepted, sees everything


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """One repository: paths inside it mapped to files on disk."""

    files: Mapping[str, str]
    private: bool = False
    gated: bool = False
    license: str | None = "apache-2.0"
    xet: bool = True  # large files advertise X-Xet-Hash, as the real Hub's do
    siblings: tuple[Mapping[str, Any], ...] = ()  # raw entries added to the model info: a Hub that lies


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The whole server; files of ``lfs_threshold_bytes`` and more go by the CDN, trees in pages of ``page_size``."""

    repositories: Mapping[str, RepositoryConfig] = field(default_factory=dict)
    lfs_threshold_bytes: int = 64 * 1024
    page_size: int = 50

    def dump(self, path: Path) -> None:
        """Write the document that ``load`` reads."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def load(path: Path) -> ServerConfig:
    """Read a document written by hand or by ``ServerConfig.dump``."""
    document = json.loads(path.read_text(encoding="utf-8"))
    repositories = {name: parse_repository(entry) for name, entry in document.pop("repositories", {}).items()}
    return ServerConfig(repositories=repositories, **document)


def parse_repository(entry: Mapping[str, Any]) -> RepositoryConfig:
    """A repository from its JSON form; ``directory`` stands for all files below it."""
    fields = dict(entry)
    directory = fields.pop("directory", None)
    files = dict(fields.pop("files", {}))
    if directory is not None:
        root = Path(directory)
        files |= {found.relative_to(root).as_posix(): str(found) for found in root.rglob("*") if found.is_file()}
    return RepositoryConfig(files=files, siblings=tuple(fields.pop("siblings", ())), **fields)
