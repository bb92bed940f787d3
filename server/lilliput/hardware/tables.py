"""A table of a machine's file, read key by key: every fault is an InvalidRequest that names the place and the key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from lilliput.errors import InvalidRequest
from lilliput.units import parse_bytes

_MOST_COUNT = 65536


class Table:
    """One table; ``finish`` refuses the keys that nobody asked for."""

    def __init__(self, content: Any, where: str) -> None:
        if not isinstance(content, Mapping):
            raise InvalidRequest(f"{where} is not a table", param="machine")
        self._content: Mapping[str, Any] = content
        self._where = where
        self._known: set[str] = set()

    def refuse(self, key: str, what: str, hint: str | None = None) -> NoReturn:
        """Raise for ``key``."""
        raise InvalidRequest(f"{self._where}: {key} {what}", hint=hint, param="machine")

    def has(self, key: str) -> bool:
        """Whether ``key`` is there."""
        self._known.add(key)
        return key in self._content

    def text(self, key: str, default: str) -> str:
        """A text of one line."""
        value = self._get(key, default)
        if not isinstance(value, str) or not value.isprintable():
            self.refuse(key, f"must be text on one line, not {value!r}")
        return value

    def word(self, key: str, words: tuple[str, ...], default: str) -> str:
        """One of ``words``."""
        value = self._get(key, default)
        if value not in words:
            self.refuse(key, f"is {value!r}, but may be {', '.join(words)}")
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, empty without the key."""
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.refuse(key, "must be a list of texts")
        return tuple(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, f"must be true or false, not {value!r}")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number from 1 on; required without a default."""
        if default is not None and not self.has(key):
            return default
        value: object = self._get(key, None)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_COUNT:
            self.refuse(key, f"must be a whole number from 1 to {_MOST_COUNT}, not {value!r}")
        return value

    def size(self, key: str, default: int | None = None) -> int:
        """Bytes, from an integer or text such as "24 GiB"; required without a default."""
        value = self._get(key, default)
        count = self._bytes(key, value) if isinstance(value, str) else value
        if not isinstance(count, int) or isinstance(count, bool):
            self.refuse(key, f"must be a size, not {value!r}", 'write bytes, or text such as "24 GiB"')
        if count < 0 or count > 1 << 60:
            self.refuse(key, f"cannot be {value!r}")
        return count

    def rate(self, key: str) -> float | None:
        """Bytes a second, from a number or text such as "936 GB/s"; None without the key."""
        value = self._get(key, ...)
        if value is ...:
            return None
        if isinstance(value, str):
            value = self._bytes(key, value.removesuffix("/s"))
        return self._positive(key, value)

    def number(self, key: str) -> float | None:
        """A number above 0; None without the key."""
        value = self._get(key, ...)
        return None if value is ... else self._positive(key, value)

    def tables(self, key: str) -> tuple[Table, ...]:
        """An array of tables, empty without the key."""
        value = self._get(key, [])
        if not isinstance(value, list):
            self.refuse(key, f"must be tables: write [[{key}]] with the machine's name before it")
        return tuple(Table(one, f"{self._where}, {key} {index + 1}") for index, one in enumerate(value))

    def finish(self) -> None:
        """Raise for a key that does not exist, with the one that was probably meant."""
        for key in self._content:
            if key not in self._known:
                near = get_close_matches(key, self._known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(self._known))}"
                self.refuse(key, "is no known key", hint)

    def _get(self, key: str, default: Any) -> Any:
        self._known.add(key)
        value = self._content.get(key, default)
        if value is None:
            self.refuse(key, "is missing")
        return value

    def _bytes(self, key: str, text: str) -> int:
        try:
            return parse_bytes(text)
        except ValueError as error:
            self.refuse(key, f"cannot be read: {error}")

    def _positive(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            self.refuse(key, f"must be a number above 0, not {value!r}")
        return float(value)
