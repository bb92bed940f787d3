"""The root command: it knows the names of all commands and imports the one that is called."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from lilliput_client.cli.failures import INTERRUPTED, report, report_usage
from lilliput_client.cli.options import Globals, examples, new_app
from lilliput_client.errors import LilliputClientError

_WrongUsage: Any = typer.BadParameter.__base__  # click's UsageError, which Typer does not pass on by name


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: its name, its line in the help, its module in ``commands`` and whether the help leaves it out."""

    name: str
    summary: str
    module: str
    hidden: bool = False


ENTRIES = (
    Entry("serve", "Run the daemon.", "serve"),
    Entry("run", "Ask a model one question, or talk with it.", "run"),
    Entry("pull", "Install a model, the variant that fits best.", "pull"),
    Entry("plan", "Show which variants of a model fit here, and which is best.", "plan"),
    Entry("advise", "Walk from what a model is for to the command to type.", "advise"),
    Entry("list", "List the installed models.", "list"),
    Entry("ls", "List the installed models.", "list", hidden=True),
    Entry("show", "Show what is known of an installed model.", "show"),
    Entry("ps", "List the models in memory.", "ps"),
    Entry("tune", "Measure which settings run a model fastest on this machine.", "tune"),
    Entry("engines", "Show what the engines do now.", "engines"),
    Entry("load", "Load an installed model into memory.", "load"),
    Entry("stop", "Unload models from memory.", "stop"),
    Entry("unload", "Unload models from memory.", "stop", hidden=True),
    Entry("pin", "Keep models in memory.", "pin"),
    Entry("unpin", "Let pinned models go when they are not used.", "unpin"),
    Entry("rm", "Remove installed models.", "rm"),
    Entry("verify", "Check that installed files are what was installed.", "verify"),
    Entry("outdated", "Show which models the Hub has newer.", "outdated"),
    Entry("prune", "Remove files that nobody needs any more.", "prune"),
    Entry("jobs", "List the daemon's jobs, or cancel one.", "jobs"),
    Entry("hardware", "Show what the daemon sees of its machine.", "hardware"),
    Entry("doctor", "Find out what is wrong, and what to do about it.", "doctor"),
    Entry("version", "Show the versions of this client and of the daemon.", "version"),
)


class LazyGroup(TyperGroup):
    """A group of stubs that carry the help; a command's module is imported when it is called.

    The types of click's objects are left open: Typer has brought its own copy of click since some release.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for entry in ENTRIES:
            self.add_command(TyperCommand(entry.name, help=entry.summary, hidden=entry.hidden, rich_markup_mode=None))

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Read what stands before the command."""
        given = [*args]
        try:
            return super().parse_args(ctx, args)
        except _WrongUsage as error:
            _tell_programs(error, given)
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The called command, built from its module now."""
        name, stub, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else stub, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; its foreseen failures become messages and exit codes."""
        given = [*ctx.args]
        try:
            return super().invoke(ctx)
        except LilliputClientError as error:
            raise typer.Exit(report(error, as_json=_asks_for_json(given))) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error
        except _WrongUsage as error:
            _tell_programs(error, given)
            raise  # to whom writes the usage on stderr and exits with 2


def _tell_programs(error: Any, arguments: list[str]) -> None:
    """What is wrong with the arguments, on stdout if they ask for JSON.

    A complaint of a command's own, which names no parameter, is for people only.
    """
    is_own = isinstance(error, typer.BadParameter) and error.param is None
    if _asks_for_json(arguments) and not is_own:
        report_usage(error.format_message())


def _asks_for_json(arguments: list[str]) -> bool:
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def load(name: str) -> Any:
    """The click command called ``name``."""
    module = next(entry.module for entry in ENTRIES if entry.name == name)
    command = typer.main.get_command(import_module(f"lilliput_client.cli.commands.{module}").app)
    command.name = name
    return command


app = new_app(cls=LazyGroup, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from lilliput_client.cli.about import client_version  # late: reading package metadata takes a while

        typer.echo(f"lilliput {client_version()}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        ("lilliput serve", "start the daemon"),
        ('lilliput run smollm2 "Why is the sky blue?"', "ask once"),
        ("lilliput plan llama3.1:8b", "see what would fit"),
        note="LILLIPUT_HOST and LILLIPUT_PORT say where the daemon is. Exit codes: 0 done, 1 failed, 2 wrong usage, "
        "3 nothing fits, 4 daemon unreachable, 130 interrupted.",
    )
)
def root(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(help="The daemon's address, if not the environment's.", metavar="URL"),
    ] = None,
    version: Annotated[  # noqa: ARG001 - Typer calls its callback
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show this client's version.")
    ] = False,
) -> None:
    """Serve language models on this machine: the best variant that fits, chosen and explained."""
    ctx.obj = Globals(url=url)


def main() -> None:
    """The console entry point."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that lacks a character shows a stand-in
    app(prog_name="lilliput")
