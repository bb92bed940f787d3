"""The way from a command to its daemon."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from lilliput_client.cli.options import Globals
from lilliput_client.client import Client

_PATH = re.compile(r"\.{1,2}[/\\]|[/\\~]|[A-Za-z]:[/\\]")


def connect(ctx: typer.Context) -> Client:
    """A client of the daemon that the environment or ``--url`` names."""
    options = ctx.find_object(Globals)
    return Client(options.url if options else None)


def model_name(text: str) -> str:
    """A model's name as the daemon must hear it: a relative path means nothing to a process that runs elsewhere."""
    return str(Path(text).expanduser().absolute()) if is_file(text) else text


def file_name(text: str) -> str:
    """A file's name as the daemon must hear it; one that does not begin as a path is a file of the repository."""
    return str(Path(text).expanduser().absolute()) if _PATH.match(text) else text


def is_file(text: str) -> bool:
    """Whether a name means a local file: it begins as a path does, or is a bare ``file.gguf``."""
    return bool(_PATH.match(text)) or (text.lower().endswith(".gguf") and not set(text) & set("/:"))
