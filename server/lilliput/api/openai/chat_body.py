"""The body of a chat completion request, and its translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field

from lilliput.api.errors import UnsupportedParameter
from lilliput.api.openai.fields import MaybeTokens, TextBody, is_given
from lilliput.api.openai.messages import read_messages
from lilliput.errors import InvalidRequest
from lilliput.services.requests import ChatRequest, JsonConstraint

_NOT_HERE = ("tools", "functions", "audio", "web_search_options", "moderation")
_ARGUMENTS_OF_OURS = {
    "self",
    "messages",
    "tools",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "strftime_now",
    "raise_exception",
}
_SWITCHES = {"enable_thinking"}


class ChatBody(TextBody):
    """POST /v1/chat/completions."""

    messages: list[Any] = Field(min_length=1, description="the chat so far, each with a role and text content")
    max_completion_tokens: MaybeTokens = Field(None, description="as max_tokens, and goes before it")
    logprobs: bool | None = Field(None, description="tell the log probability of every token")
    top_logprobs: int | None = Field(
        None, strict=True, ge=0, le=20, description="and of the k likeliest; needs logprobs"
    )
    response_format: dict[str, Any] | None = Field(
        None, description="{type: text | json_object}, or {type: json_schema, json_schema: {name, schema}}"
    )
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="extension: variables for the model's template"
    )
    tools: list[Any] | None = Field(None, description="not supported yet")
    tool_choice: Any = None
    functions: list[Any] | None = Field(None, description="not supported; nor is function_call")
    function_call: Any = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None
    moderation: Any = None

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "smollm2:135m",
                "messages": [{"role": "user", "content": "Why is the sky blue?"}],
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        }
    )

    def request(self) -> ChatRequest:
        """The request in the services' terms; raises InvalidRequest."""
        self._refuse_what_is_not_here()
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true", param="top_logprobs")
        most = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return ChatRequest(
            model=self.model,
            messages=read_messages(self.messages),
            n=self.n or 1,
            sampling=self.sampling(),
            limits=self.limits(most, (self.top_logprobs or 0) if self.logprobs else None),
            constraint=self.constraint(read_format(self.response_format)),
            speculation=self.may_speculate,
            template_arguments=self._template_arguments(),
        )

    def _refuse_what_is_not_here(self) -> None:
        for name in _NOT_HERE:
            if is_given(getattr(self, name)):
                raise _not_here(name)
        if self.tool_choice not in (None, "none", "auto"):
            raise _not_here("tool_choice")
        if self.function_call not in (None, "none", "auto"):
            raise _not_here("function_call")
        if any(modality != "text" for modality in self.modalities or ()):
            raise _not_here("modalities")

    def _template_arguments(self) -> Mapping[str, Any]:
        arguments = dict(self.chat_template_kwargs or {})
        for name, value in arguments.items():
            where = f"chat_template_kwargs.{name}"
            if name in _ARGUMENTS_OF_OURS:
                raise InvalidRequest(f"{where!r} is set by the server", param=where)
            if name in _SWITCHES and not isinstance(value, bool):
                raise InvalidRequest(f"{where!r} must be true or false", param=where)
        if self.reasoning_effort is not None:
            arguments.setdefault("reasoning_effort", self.reasoning_effort)
            if self.reasoning_effort == "none":
                arguments.setdefault("enable_thinking", False)
        return arguments


def read_format(wanted: Mapping[str, Any] | None) -> JsonConstraint | None:
    """The constraint that a ``response_format`` means; None for plain text. Raises InvalidRequest."""
    if not wanted or wanted.get("type") == "text":
        return None
    kind = wanted.get("type")
    if kind == "json_object":
        return JsonConstraint(_schema(wanted.get("schema"), "response_format.schema"))
    if kind != "json_schema":
        raise InvalidRequest(
            f"'response_format.type' is {kind!r}, but must be text, json_object or json_schema",
            param="response_format.type",
        )
    where = "response_format.json_schema"
    named = wanted.get("json_schema")
    if not isinstance(named, Mapping):
        raise InvalidRequest(f"{where!r} is required: an object with a name and a schema", param=where)
    return JsonConstraint(_schema(named.get("schema"), f"{where}.schema"))


def _schema(schema: object, where: str) -> Mapping[str, Any] | None:
    if schema is None or isinstance(schema, Mapping):
        return schema
    raise InvalidRequest(f"{where!r} must be a JSON schema: an object", param=where)


def _not_here(name: str) -> UnsupportedParameter:
    return UnsupportedParameter(f"{name!r} is not supported by this server", hint="leave it out", param=name)
