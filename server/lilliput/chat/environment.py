"""The Jinja sandbox that model templates run in, with the helpers model authors test against."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

MAX_OUTPUT_CHARACTERS = 8 * 1024 * 1024
MAX_STEPS = 5_000_000
"""Calls, operations and range elements one render may use; a long chat with twenty tools needs a few thousand."""

_steps_left: ContextVar[list[int]] = ContextVar("steps_left")


class Refusal(TemplateError):
    """What ``raise_exception`` in a template raises: the template's own complaint about the messages."""


class LimitExceeded(TemplateError):
    """A template that computes or prints more than any honest one does."""


class GenerationBlock(Extension):
    """``{% generation %}…{% endgeneration %}`` marks answers for training; here its body passes through."""

    tags = {"generation"}  # noqa: RUF012 - the name and form are Jinja's

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the body's own nodes."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Bounded(SandboxedEnvironment):
    """A sandbox that also counts work, since Jinja's own stops neither long loops nor huge strings.

    The count is cooperative: it ends runaway loops over calls and ranges, not every way to waste memory.
    """

    intercepted_binops = frozenset({"*", "**"})

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call ``obj`` for the template, at the price of a step, or of its length for ``range``."""
        result = super().call(context, obj, *args, **kwargs)
        _spend(len(result) if isinstance(result, range) else 1)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply, but no strings or lists beyond the output limit; raise to powers, but small ones."""
        _spend(1)
        if operator == "**" and not (_is_small(left) and _is_small(right)):
            raise LimitExceeded("the chat template computes a power of large numbers")
        if operator == "*" and _repeated_size(left, right) > MAX_OUTPUT_CHARACTERS:
            raise LimitExceeded("the chat template repeats text beyond all measure")
        return super().call_binop(context, operator, left, right)


class _Immutable(_Bounded, ImmutableSandboxedEnvironment):
    """The default: templates cannot change the lists and dicts they are given."""


def _spend(steps: int) -> None:
    left = _steps_left.get(None)
    if left is None:
        return
    left[0] -= steps
    if left[0] < 0:
        raise LimitExceeded(f"the chat template needs more than {MAX_STEPS} steps")


def _is_small(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= 4096


def _repeated_size(left: Any, right: Any) -> int:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            return len(sequence) * count
    return 0


def _raise_exception(message: object) -> NoReturn:
    raise Refusal(str(message))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON as the transformers library renders it: no HTML escapes, keys in their order, letters as they are."""
    if isinstance(indent, int) and indent > 32:
        raise LimitExceeded("the chat template indents JSON beyond all measure")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _prepare(environment: SandboxedEnvironment) -> SandboxedEnvironment:
    for name in ("lipsum", "cycler", "joiner"):
        environment.globals.pop(name, None)
    environment.globals["raise_exception"] = _raise_exception
    environment.filters["tojson"] = _tojson
    environment.filters["from_json"] = json.loads
    return environment


_OPTIONS: dict[str, Any] = {
    "trim_blocks": True,
    "lstrip_blocks": True,
    "extensions": [GenerationBlock, loopcontrols],
    "cache_size": 0,
}
_IMMUTABLE = _prepare(_Immutable(**_OPTIONS))
_MUTABLE = _prepare(_Bounded(**_OPTIONS))


def compile_template(text: str, *, mutable: bool = False) -> Template:
    """Compile ``text``; ``mutable`` templates may append to the lists they are given (pass them copies).

    Raises Jinja's TemplateSyntaxError.
    """
    return (_MUTABLE if mutable else _IMMUTABLE).from_string(text)


def run(template: Template, variables: dict[str, Any], strftime: Callable[[str], str]) -> str:
    """Render within the limits on steps and output; raises Jinja's errors, ``Refusal`` and ``LimitExceeded``."""
    token = _steps_left.set([MAX_STEPS])
    pieces: list[str] = []
    size = 0
    try:
        for piece in template.generate(**variables, strftime_now=strftime):
            _spend(1)
            size += len(piece)
            if size > MAX_OUTPUT_CHARACTERS:
                raise LimitExceeded(f"the chat template prints more than {MAX_OUTPUT_CHARACTERS} characters")
            pieces.append(piece)
    finally:
        _steps_left.reset(token)
    return "".join(pieces)


__all__ = ["LimitExceeded", "Refusal", "SecurityError", "TemplateError", "compile_template", "run"]
