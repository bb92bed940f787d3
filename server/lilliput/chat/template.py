"""A model's chat template: from messages to the prompt text the model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template
from jinja2.exceptions import TemplateSyntaxError

from lilliput.chat.environment import LimitExceeded, Refusal, SecurityError, TemplateError, compile_template, run
from lilliput.chat.messages import Abilities, Message, merge_neighbours, normalize, normalize_tools
from lilliput.errors import TemplateFailed

MAX_TEMPLATE_BYTES = 256 * 1024

_NO_TEMPLATE_HINT = "use /v1/completions with a prompt of your own, or install an instruct variant of the model"
_RESERVED = frozenset(
    {"self", "messages", "tools", "bos_token", "eos_token", "add_generation_prompt", "strftime_now", "raise_exception"}
)
_SYSTEM, _USER = "qzsystemzq", "qzuserzq"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """One model's template with its special tokens; making one never fails, rendering compiles once per text."""

    text: str | None
    bos_token: str = ""
    eos_token: str = ""
    now: Callable[[], datetime] = field(default=datetime.now, compare=False)

    @classmethod
    def from_text(cls, text: str | None, bos_token: str | None = None, eos_token: str | None = None) -> ChatTemplate:
        """The template as a GGUF file states it; ``text`` None when the file has none (rendering then says so)."""
        return cls(text or None, bos_token or "", eos_token or "")

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        /,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **kwargs: Any,
    ) -> str:
        """The prompt text of ``messages``, ending where the answer begins; ``kwargs`` reach the template by name.

        Raises TemplateFailed: no template, one that does not compile or exceeds its limits, or its own refusal.
        """
        text = self._checked_text()
        clash = _RESERVED.intersection(kwargs)
        if clash:
            raise TemplateFailed(f"the template argument {min(clash)!r} is set by the server", hint="remove it")
        variables = {
            **kwargs,
            "tools": normalize_tools(tools),
            "add_generation_prompt": add_generation_prompt,
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
        }
        try:
            tidy = normalize(messages, _abilities(text, self.bos_token, self.eos_token))
            return self._render_tidy(text, tidy, variables)
        except TemplateSyntaxError as error:
            raise TemplateFailed(
                f"the model's chat template does not compile: {error.message} (line {error.lineno})",
                hint=_NO_TEMPLATE_HINT,
            ) from error
        except Refusal as error:
            raise TemplateFailed(
                f"the model's chat template refuses these messages: {error.message}",
                hint="change the order or the roles of the messages as the template asks",
            ) from error
        except LimitExceeded as error:
            raise TemplateFailed(str(error.message), hint=_NO_TEMPLATE_HINT) from error
        except Exception as error:  # a template is foreign code: whatever it raises is its failure, never ours
            raise TemplateFailed(
                f"the model's chat template fails: {type(error).__name__}: {error}", hint=_NO_TEMPLATE_HINT
            ) from error

    def begins_with_bos(self, prompt: str) -> bool:
        """True when ``prompt`` already starts with the begin-of-text token, so that tokenizing must not add another."""
        return bool(self.bos_token) and prompt.startswith(self.bos_token)

    def _checked_text(self) -> str:
        if self.text is None or not self.text.strip():
            raise TemplateFailed("the model has no chat template", hint=_NO_TEMPLATE_HINT)
        if len(self.text.encode()) > MAX_TEMPLATE_BYTES:
            raise TemplateFailed(
                f"the model's chat template is larger than {MAX_TEMPLATE_BYTES} bytes", hint=_NO_TEMPLATE_HINT
            )
        return self.text

    def _render_tidy(self, text: str, messages: list[Message], variables: dict[str, Any]) -> str:
        strftime = self._strftime
        try:
            return _attempt(text, messages, variables, strftime)
        except Refusal:
            merged = merge_neighbours(messages)
            if merged == messages:
                raise
            try:
                return _attempt(text, merged, variables, strftime)
            except TemplateError:
                pass
            raise

    def _strftime(self, form: str) -> str:
        return self.now().strftime(form)


def _attempt(text: str, messages: list[Message], variables: dict[str, Any], strftime: Callable[[str], str]) -> str:
    """Render, trying what a few templates need: no ``tools`` where there are none, lists they may append to."""
    given = {**variables, "messages": messages}
    try:
        return run(_compiled(text, False), given, strftime)
    except SecurityError:
        return run(_compiled(text, True), deepcopy(given), strftime)
    except TypeError:
        if given["tools"] is not None:
            raise
        del given["tools"]
        return run(_compiled(text, False), given, strftime)


@lru_cache(maxsize=64)
def _compiled(text: str, mutable: bool) -> Template:
    return compile_template(text, mutable=mutable)


@lru_cache(maxsize=256)
def _abilities(text: str, bos_token: str, eos_token: str) -> Abilities:
    """Try sentinel messages and see what comes out: templates do not declare what they can render."""

    def shows(messages: list[Message], wanted: str) -> bool:
        variables = {"tools": None, "add_generation_prompt": True, "bos_token": bos_token, "eos_token": eos_token}
        try:
            return wanted in _attempt(text, messages, variables, lambda _form: "")
        except TemplateSyntaxError:
            raise
        except Exception:  # foreign code; not being able to render a probe is an answer
            return False

    user: Message = {"role": "user", "content": _USER}
    parts = [{"type": "text", "text": _USER}]
    system: Message = {"role": "system", "content": _SYSTEM}
    abilities = Abilities(
        developer="developer" in text and shows([{**system, "role": "developer"}, user], _SYSTEM),
        text_only=shows([user], _USER) or not shows([{**user, "content": parts}], _USER),
    )
    if not abilities.text_only:
        system = {**system, "content": [{"type": "text", "text": _SYSTEM}]}
        user = {**user, "content": parts}
    if not shows([system, user], _SYSTEM):
        return replace(abilities, system=False, late_system=False)
    answer = {**user, "role": "assistant"}
    return replace(abilities, late_system=shows([user, answer, system, user], _SYSTEM))
