"""The help: every command has its line, its examples and no heavy import."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from lilliput_client.cli import app
from lilliput_client.cli.app import ENTRIES, Entry

VISIBLE = [entry for entry in ENTRIES if not entry.hidden]


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, terminal_width=100)
    assert result.exit_code == 0
    return result.stdout


def test_the_root_help_has_a_line_for_every_command() -> None:
    text = shown("--help")
    for entry in VISIBLE:
        assert f"\n  {entry.name:<8}  {entry.summary}\n" in text
    assert "\n  ls " not in text


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_commands_own_help_agrees_and_has_examples(entry: Entry) -> None:
    text = shown(entry.name, "--help")
    assert f"\n\n  {entry.summary}\n" in text
    assert "Examples:\n    lilliput " in text


@pytest.mark.parametrize("entry", [entry for entry in VISIBLE if entry.name != "serve"], ids=lambda entry: entry.name)
def test_every_command_speaks_json(entry: Entry) -> None:
    assert "--json" in shown(entry.name, "--help")


def test_without_a_command_the_help_is_shown() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_a_misspelt_command_is_guessed() -> None:
    result = CliRunner().invoke(app, ["pul"])
    assert result.exit_code == 2
    assert "Did you mean 'pull'" in result.stderr
