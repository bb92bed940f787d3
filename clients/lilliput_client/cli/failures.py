"""What a failure means to a shell and to a person."""

from __future__ import annotations

import json
import sys

from lilliput_client.errors import DaemonUnreachable, LilliputClientError

FAILED = 1
NOTHING_FITS = 3
UNREACHABLE = 4
INTERRUPTED = 130


def exit_code(error: LilliputClientError) -> int:
    """The exit code of a command that ends with ``error``."""
    if error.code == "does-not-fit":
        return NOTHING_FITS
    return UNREACHABLE if isinstance(error, DaemonUnreachable) else FAILED


def explain(error: LilliputClientError) -> None:
    """Tell a person, on stderr."""
    print(f"error: {error.message}", file=sys.stderr)  # noqa: T201
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)  # noqa: T201


def report(error: LilliputClientError, *, as_json: bool) -> int:
    """Tell a person and, with ``as_json``, a program on stdout; returns the exit code."""
    explain(error)
    if as_json:
        _print_error(error.code, error.message, error.hint)
    return exit_code(error)


def report_usage(message: str) -> None:
    """Tell a program on stdout that its arguments are wrong."""
    _print_error("usage", message, "--help shows what there is")


def _print_error(code: str, message: str, hint: str | None) -> None:
    told = {"error": {"code": code, "message": message, "hint": hint}}
    print(json.dumps(told, indent=2, ensure_ascii=False))  # noqa: T201
