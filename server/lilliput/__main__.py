"""``python -m lilliput``: run the daemon in this process. Every setting is a flag."""

from __future__ import annotations

import argparse
import sys

from lilliput import __version__
from lilliput.errors import LilliputError
from lilliput.settings import Settings, load_settings


def main(arguments: list[str] | None = None) -> int:
    """Read flags, load the settings and serve; returns the exit status (2 for bad flags)."""
    parser = argparse.ArgumentParser(prog="lilliput serve", description="Serve models over HTTP.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"lilliput {__version__}")
    for name, field in Settings.model_fields.items():
        description = (field.description or "").replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="VALUE", help=description)
    flags = vars(parser.parse_args(arguments))
    try:
        settings = load_settings(**flags)
    except LilliputError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 2
    from lilliput.daemon import serve

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
