from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from lilliput.logs import set_up_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The root logger as it was before."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(form: Literal["text", "json"], message: str, name: str = "lilliput.hub.library", **extra: object) -> str:
    stream = io.StringIO()
    set_up_logging("info", form, stream)
    logging.getLogger(name).info(message, extra=extra)
    return stream.getvalue()


def test_an_event_is_one_line_with_room_and_facts() -> None:
    line = written("text", "fetched the header", repo="org/name", seconds=0.81234, bytes=1024)
    assert line.endswith(" INFO    hub: fetched the header repo=org/name seconds=0.812 bytes=1024\n")
    assert line[:4].isdigit()


def test_facts_with_blanks_or_breaks_are_quoted_and_messages_stay_on_their_line() -> None:
    line = written("text", "two\nlines", why='no "room" left', empty="", odd="a\nb")
    assert line.endswith('hub: two lines why="no \\"room\\" left" empty="" odd="a\\nb"\n')
    assert line.count("\n") == 1


def test_a_message_cannot_steer_the_terminal() -> None:
    assert written("text", "named \x1b[2J\x07evil").endswith("hub: named [2J evil\n")


def test_json_has_one_object_a_line() -> None:
    entry = json.loads(written("json", "fetched", repo="org/name", path=io))
    assert (entry["level"], entry["room"], entry["message"], entry["repo"]) == ("info", "hub", "fetched", "org/name")
    assert entry["time"].endswith("Z")
    assert entry["path"].startswith("<module")


def test_a_fact_cannot_hide_the_message() -> None:
    assert json.loads(written("json", "real", level="fake", room="fake"))["level"] == "info"


@pytest.mark.parametrize(("name", "room"), [("lilliput", "lilliput"), ("invented.part", "invented"), ("root", "root")])
def test_other_loggers_have_a_room_too(name: str, room: str) -> None:
    assert f" {room}: hello" in written("text", "hello", name)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_is_kept_with_its_event(form: Literal["text", "json"]) -> None:
    stream = io.StringIO()
    set_up_logging("info", form, stream)
    try:
        int("the cause")
    except ValueError:
        logging.getLogger("lilliput.pool").exception("it failed", stack_info=True)
    text = stream.getvalue()
    assert "ValueError: invalid literal" in text
    if form == "json":
        assert json.loads(text)["traceback"].startswith("Traceback")
    else:
        assert all(line.startswith("    ") for line in text.splitlines()[1:])


def test_less_important_messages_are_left_out() -> None:
    stream = io.StringIO()
    set_up_logging("warning", "text", stream)
    logging.getLogger("lilliput.hub").info("not this")
    logging.getLogger("httpx").info("nor this")
    logging.getLogger("lilliput.hub").warning("but this")
    assert [line.rpartition(": ")[2] for line in stream.getvalue().splitlines()] == ["but this"]


def test_setting_up_again_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    first = io.StringIO()
    set_up_logging("info", "text", first)
    set_up_logging("info", "text")
    logging.getLogger("lilliput.api").info("once")
    assert first.getvalue() == ""
    assert capsys.readouterr().err.count("once") == 1
