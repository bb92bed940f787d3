from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.model import smollm2_path

from lilliput.errors import EngineLoadFailed
from lilliput.llama import ModelSettings
from lilliput.llama.model import Model
from lilliput.llama.placement import Placement


def test_text_survives_tokenizing_and_joining_its_pieces(model: Model) -> None:
    text = "Größe 😀 naïve\n\tcode = {1: 'x'}"
    tokens = model.tokenize(text, add_special=False, parse_special=False)
    assert b"".join(model.piece(token) for token in tokens).decode() == text


def test_control_tokens_are_read_only_when_asked_and_add_nothing_to_the_text(model: Model) -> None:
    (token,) = model.tokenize("<|im_end|>", add_special=False, parse_special=True)
    assert model.ends_generation(token)
    assert model.piece(token) == b""
    assert len(model.tokenize("<|im_end|>", add_special=False, parse_special=False)) > 1


def test_the_models_own_facts_are_read(model: Model) -> None:
    assert model.vocab_size == 49152
    assert model.trained_context_tokens == 8192
    assert model.can_roll_back
    assert not model.adds_bos
    assert model.special_text("eos") == "<|im_end|>"
    template = model.chat_template()
    assert template is not None
    assert "<|im_start|>" in template


def test_all_tokens_that_end_an_answer_are_found(model: Model) -> None:
    texts = {"<|im_end|>", "<|endoftext|>"}
    expected = {model.tokenize(text, add_special=False, parse_special=True)[0] for text in texts}
    assert expected <= set(model.end_tokens)
    assert len(model.end_tokens) < 20


def test_a_device_is_found_by_name_and_one_that_is_not_there_is_refused() -> None:
    found = Placement(ModelSettings("a.gguf", device="CPU"))._devices
    assert found is not None
    assert found[0]
    assert found[1] is None
    with pytest.raises(EngineLoadFailed, match="no device 'Nope7'"):
        Model(ModelSettings(str(smollm2_path()), device="Nope7"))


def test_progress_of_a_load_reaches_the_end() -> None:
    seen: list[float] = []
    with Model(ModelSettings(str(smollm2_path()), rung="no-extra-buffers"), seen.append):
        pass
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 64)
    with pytest.raises(EngineLoadFailed, match=r"broken\.gguf"):
        Model(ModelSettings(str(path)))


def test_closing_twice_frees_once() -> None:
    model = Model(ModelSettings(str(smollm2_path()), rung="no-extra-buffers"))
    model.close()
    model.close()
    assert model.handle is None
