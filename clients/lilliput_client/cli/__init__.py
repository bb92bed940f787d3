"""Owns the ``lilliput`` command: its arguments, its tables and bars, its exit codes.

It talks to the daemon through the package's client only; what it prints on stdout is data, on stderr talk.
"""

from lilliput_client.cli.app import app, main

__all__ = ["app", "main"]
