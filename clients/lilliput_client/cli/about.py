"""Which client this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def client_version() -> str | None:
    """The installed package's version; None when run from sources that were never installed."""
    try:
        return version("lilliput")
    except PackageNotFoundError:
        return None
