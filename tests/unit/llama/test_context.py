from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lilliput.errors import EngineLoadFailed
from lilliput.gguf.types import GgmlType
from lilliput.gguf.writer import encode_header, f32, place_tensors, text, u32
from lilliput.llama import ContextSettings, ModelSettings, Rope, SamplerSettings
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context, Decoded
from lilliput.llama.grammar import Grammar, gbnf_of_schema
from lilliput.llama.logprobs import token_logprobs
from lilliput.llama.model import Model
from lilliput.llama.sampler import Sampler

PROMPT = "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    with Context(model, ContextSettings(512, 4, batch_tokens=256, threads=2)) as made:
        yield made


def prefill(context: Context, tokens: list[int], sequence: int = 0) -> int:
    batch = Batch(256)
    index = batch.add(tokens, 0, sequence, output_last=True)
    assert context.decode(batch) is Decoded.DONE
    return index


def test_a_copied_prefix_gives_the_same_logits_as_the_original(model: Model, context: Context) -> None:
    tokens = model.tokenize(PROMPT, add_special=False, parse_special=True)
    original = context.logits(prefill(context, tokens)).copy()
    context.copy_prefix(0, 1, len(tokens) - 1)
    batch = Batch(8)
    index = batch.add(tokens[-1:], len(tokens) - 1, 1, output_last=True)
    assert context.decode(batch) is Decoded.DONE
    copied = context.logits(index)
    assert int(original.argmax()) == int(copied.argmax())
    np.testing.assert_allclose(original, copied, atol=0.5)


def test_a_full_cache_changes_nothing_and_says_so(model: Model, context: Context) -> None:
    filler = model.tokenize("word", add_special=False, parse_special=False)
    prefill(context, filler * 256, 0)
    prefill(context, filler * 250, 1)
    batch = Batch(256)
    batch.add(filler * 100, 0, 2, output_last=True)
    assert context.decode(batch) is Decoded.NO_ROOM
    context.drop(0)
    assert context.decode(batch) is Decoded.DONE


def test_a_running_pass_can_be_aborted_from_another_thread(model: Model) -> None:
    filler = model.tokenize("word", add_special=False, parse_special=False)
    with Context(model, ContextSettings(2048, 2, batch_tokens=2048, ubatch_tokens=256, threads=2)) as context:
        batch = Batch(2048)
        batch.add(filler * 2000, 0, 0, output_last=True)
        threading.Timer(0.1, context.abort).start()
        assert context.decode(batch) is Decoded.ABORTED
        assert context.truncate(0, 0)
        prefill(context, filler * 10)


def test_a_batch_refuses_more_tokens_than_it_holds() -> None:
    batch = Batch(4)
    batch.add([1, 2, 3], 0, 0, output_last=False)
    with pytest.raises(ValueError, match="cannot take 2 more"):
        batch.add([4, 5], 3, 0, output_last=True)
    assert len(batch) == 3


def generate(context: Context, sampler: Sampler, count: int) -> str:
    tokens = context.model.tokenize(PROMPT, add_special=False, parse_special=True)
    context.drop(0)
    index, position, text = prefill(context, tokens), len(tokens), b""
    batch = Batch(1)
    for _ in range(count):
        token = sampler.sample(context, index)
        if context.model.ends_generation(token):
            break
        text += context.model.piece(token)
        batch.clear()
        index = batch.add([token], position, 0, output_last=True)
        position += 1
        context.decode(batch)
    return text.decode("utf-8", "replace")


def test_the_same_seed_gives_the_same_text_and_another_seed_another(model: Model, context: Context) -> None:
    def text(seed: int) -> str:
        with Sampler(model, SamplerSettings(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0, seed=seed)) as sampler:
            return generate(context, sampler, 24)

    assert text(1) == text(1)
    assert len({text(seed) for seed in (1, 2, 3)}) > 1


def test_a_banned_token_never_comes(model: Model, context: Context) -> None:
    with Sampler(model, SamplerSettings(temperature=0)) as sampler:
        usual = generate(context, sampler, 1)
    (token,) = model.tokenize(usual, add_special=False, parse_special=False)
    with Sampler(model, SamplerSettings(temperature=0, logit_bias=((token, float("-inf")),))) as sampler:
        assert generate(context, sampler, 1) != usual


def test_a_repeat_penalty_changes_what_the_likeliest_token_is(model: Model, context: Context) -> None:
    with Sampler(model, SamplerSettings(temperature=0)) as sampler:
        usual = generate(context, sampler, 40)
    with Sampler(model, SamplerSettings(temperature=0, repeat_penalty=1.8, repeat_last_n=64)) as sampler:
        sampler.accept_prompt(model.tokenize(usual, add_special=False, parse_special=False))
        assert generate(context, sampler, 40) != usual


def test_a_grammar_admits_only_what_it_describes(model: Model, context: Context) -> None:
    schema = {"type": "object", "properties": {"colour": {"enum": ["teal", "ochre"]}}, "required": ["colour"]}
    with Sampler(model, SamplerSettings(temperature=0), Grammar(model, gbnf_of_schema(schema))) as sampler:
        text = generate(context, sampler, 40)
    assert "".join(text.split()) in ('{"colour":"teal"}', '{"colour":"ochre"}')


def test_logprobs_are_those_of_a_softmax_over_the_raw_logits() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.25, 0.05], np.float32)) + np.float32(3)
    chosen, top = token_logprobs(logits, 2, 2)
    assert chosen == pytest.approx(np.log(0.25), abs=1e-6)
    assert [token for token, _ in top] == [1, 2]
    assert top[0][1] == pytest.approx(np.log(0.6), abs=1e-6)
    assert token_logprobs(logits, 0, 0)[1] == []
    assert len(token_logprobs(logits, 0, 99)[1]) == 4


def test_a_stretched_context_sees_distances_as_shorter(model: Model) -> None:
    tokens = model.tokenize(PROMPT, add_special=False, parse_special=True)

    def logits_with(rope: Rope | None) -> npt.NDArray[np.float32]:
        with Context(model, ContextSettings(512, 1, batch_tokens=256, threads=2, rope=rope)) as context:
            return context.logits(prefill(context, tokens)).copy()

    plain = logits_with(None)
    np.testing.assert_array_equal(plain, logits_with(Rope("none")))
    np.testing.assert_array_equal(plain, logits_with(Rope("yarn", freq_scale=1.0)))
    scaled = [logits_with(Rope(kind, freq_scale=0.25)) for kind in ("linear", "yarn")]
    scaled.append(logits_with(Rope(freq_base=1e6)))
    assert all(np.abs(one - plain).max() > 0.1 for one in scaled)
    assert np.abs(scaled[0] - scaled[1]).max() > 0.1


def write_gpt2(path: Path, width: int = 32) -> None:
    """A model of one layer that has learned its positions by heart."""
    numbers = {"block_count": 1, "context_length": 64, "embedding_length": width, "feed_forward_length": width}
    numbers |= {"attention.head_count": 2, "vocab_size": 32}
    metadata = {"general.architecture": text("gpt2"), "tokenizer.ggml.model": text("no_vocab")}
    metadata |= {f"gpt2.{name}": u32(value) for name, value in numbers.items()}
    metadata["gpt2.attention.layer_norm_epsilon"] = f32(1e-5)
    rows = {"attn_norm": 0, "attn_qkv": 3 * width, "attn_output": width, "ffn_norm": 0, "ffn_up": width}
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (width, 32), "position_embd.weight": (width, 64)}
    for name, count in {"output_norm": 0, **{f"blk.0.{name}": count for name, count in rows.items()}}.items():
        shapes[f"{name}.weight"] = (width, count) if count else (width,)
        shapes[f"{name}.bias"] = (count or width,)
    shapes |= {"blk.0.ffn_down.weight": (width, width), "blk.0.ffn_down.bias": (width,)}
    tensors = place_tensors((name, shape, GgmlType.F32) for name, shape in shapes.items())
    path.write_bytes(encode_header(metadata, tensors) + bytes(tensors[-1].offset_bytes + tensors[-1].size_bytes))


def test_a_longer_context_does_not_change_what_the_model_was_trained_for(model: Model) -> None:
    with Context(model, ContextSettings(9000, 1, batch_tokens=64, threads=1, kv_type="q4_0")) as context:
        assert context.context_tokens > 8192
    assert model.trained_context_tokens == 8192


def test_rope_settings_of_a_model_without_rope_are_refused(tmp_path: Path) -> None:
    write_gpt2(tmp_path / "gpt2.gguf")
    with Model(ModelSettings(str(tmp_path / "gpt2.gguf"), rung="no-extra-buffers")) as gpt2:
        Context(gpt2, ContextSettings(64, 1)).close()
        with pytest.raises(EngineLoadFailed, match="positions are no rotations"):
            Context(gpt2, ContextSettings(128, 1, rope=Rope("yarn", freq_scale=0.5)))
