"""A machine that a person describes in a file of their own."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lilliput_client.cli.connection import is_file
from lilliput_client.errors import LilliputClientError

_MOST_BYTES = 1 << 20
_PLAIN = str | int | float | bool


def read_machine(text: str | None) -> str | Mapping[str, Any] | None:
    """A machine's name as it is; of a TOML file its one table, with the table's name as ``name``.

    Keys without a table around them are named for the file. Raises LilliputClientError.
    """
    if text is None or not (text.lower().endswith(".toml") or is_file(text)):
        return text
    path = Path(text).expanduser()
    tables = _tables(path)
    if "memory" in tables:
        tables = {path.stem: tables}
    name, table = next(iter(tables.items()), ("", None))
    if len(tables) != 1 or not isinstance(table, dict):
        raise _refused(f"{path} must hold one machine, not {len(tables)} tables")
    return {"name": name, **table}


def _tables(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise _refused(f"{path} is too large to describe a machine")
        tables = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise _refused(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # TOML and UTF-8 errors
        raise _refused(f"{path} is not a TOML file: {error}") from error
    if not _is_plain(tables):
        raise _refused(f"{path} holds dates, times, nan or inf, which describe no machine")
    return tables


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(inner) for inner in value.values())
    if isinstance(value, list):
        return all(_is_plain(inner) for inner in value)
    return isinstance(value, _PLAIN) and not (isinstance(value, float) and not math.isfinite(value))


def _refused(message: str) -> LilliputClientError:
    return LilliputClientError(
        message,
        code="invalid-machine",
        hint='write [my-machine] and below it at least memory = "32 GiB" and cores = 8; '
        "lilliput plan --machines shows those that are described",
    )
