from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.errors import BadName
from lilliput.gguf import FILE_TYPES, normalize_quantization, parse_filename

# Path, quantization, size, flavour: names as publishers write them.
MODELS = [
    ("llama3.1-70b-instruct-q4_k_m.gguf", "Q4_K_M", "70B", "instruct"),
    ("Meta-Llama-3.1-8B-Instruct-Q4_K_L.gguf", "Q4_K_L", "8B", "instruct"),
    ("Meta-Llama-3.1-8B-Instruct-Q6_K_L.gguf", "Q6_K_L", "8B", "instruct"),
    ("Meta-Llama-3.1-8B-Instruct-Q3_K_XL.gguf", "Q3_K_XL", "8B", "instruct"),
    ("Meta-Llama-3.1-8B-Instruct-IQ4_XS.gguf", "IQ4_XS", "8B", "instruct"),
    ("Meta-Llama-3.1-8B-Instruct-Q4_0_4_4.gguf", "Q4_0_4_4", "8B", "instruct"),
    ("Meta-Llama-3.1-8B-Instruct-Q4_0_8_8.gguf", "Q4_0_8_8", "8B", "instruct"),
    ("Meta-Llama-3.1-8B-Instruct-f32.gguf", "F32", "8B", "instruct"),
    ("google_gemma-3-12b-it-bf16.gguf", "BF16", "12B", "it"),
    ("google_gemma-3-12b-it-qat-Q4_0.gguf", "Q4_0", "12B", "it-qat"),
    ("Qwen_Qwen3-30B-A3B-Instruct-2507-Q2_K_L.gguf", "Q2_K_L", "30B-A3B", "instruct"),
    ("mistralai_Mistral-Small-3.2-24B-Instruct-2506-IQ2_XXS.gguf", "IQ2_XXS", "24B", "instruct"),
    ("mixtral-8x7b-instruct-v0.1.Q5_0.gguf", "Q5_0", "8x7B", "instruct"),
    ("tinyllama-1.1b-chat-v1.0.Q2_K.gguf", "Q2_K", "1.1B", "chat"),
    ("codellama-13b-instruct.Q3_K_L.gguf", "Q3_K_L", "13B", "instruct"),
    ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1", "135M", "instruct"),
    ("Qwen3-30B-A3B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL", "30B-A3B", None),
    ("Qwen3-30B-A3B-UD-IQ1_M.gguf", "UD-IQ1_M", "30B-A3B", None),
    ("Qwen3-30B-A3B-UD-TQ1_0.gguf", "UD-TQ1_0", "30B-A3B", None),
    ("Qwen3-235B-A22B-UD-Q8_K_XL.gguf", "UD-Q8_K_XL", "235B-A22B", None),
    ("gemma-3n-E4B-it-UD-Q2_K_XL.gguf", "UD-Q2_K_XL", "E4B", "it"),
    ("gemma-3-270m-it-F16.gguf", "F16", "270M", "it"),
    ("gpt-oss-20b-mxfp4.gguf", "MXFP4", "20B", None),
    ("gpt-oss-20b-F16.gguf", "F16", "20B", None),
    ("Qwen3-Coder-30B-A3B-Instruct-MXFP4_MOE.gguf", "MXFP4_MOE", "30B-A3B", "coder-instruct"),
    ("Nemotron-30B-A3B-NVFP4.gguf", "NVFP4", "30B-A3B", None),
    ("Llama-4-Scout-17B-16E-Instruct-Q4_K_M.gguf", "Q4_K_M", "17B-16E", "instruct"),
    ("Mistral-7B-Instruct-v0.3.i1-Q4_K_M.gguf", "Q4_K_M", "7B", "instruct"),
    ("DeepSeek-R1-Distill-Qwen-14B.i1-IQ3_XXS.gguf", "IQ3_XXS", "14B", None),
    ("Meta-Llama-3-70B-Instruct.IQ1_S.gguf", "IQ1_S", "70B", "instruct"),
    ("Mistral-7B-Instruct-v0.3.fp16.gguf", "F16", "7B", "instruct"),
    ("qwen2.5-coder-7b-instruct-q4_k_m.gguf", "Q4_K_M", "7B", "coder-instruct"),
    ("qwen2.5-0.5b-instruct-fp16.gguf", "F16", "0.5B", "instruct"),
    ("qwen2-math-1.5b-instruct-q8_0.GGUF", "Q8_0", "1.5B", "math-instruct"),
    ("Phi-3-mini-4k-instruct-q4.gguf", "Q4", None, "instruct"),
    ("phi-4-Q5_K_S.gguf", "Q5_K_S", None, None),
    ("bitnet-b1.58-2B-4T-TQ2_0.gguf", "TQ2_0", "2B", None),
    ("Bonsai-8B-Q1_0.gguf", "Q1_0", "8B", None),
    ("ggml-c4ai-command-r-v01-q4_k.gguf", "Q4_K", None, None),
    ("nomic-embed-text-v1.5.f32.gguf", "F32", None, None),
    ("bge-m3-FP16.gguf", "F16", None, None),
    ("Qwen2.5-14B-Instruct-1M-Q3_K_M.gguf", "Q3_K_M", "14B", "instruct"),
    ("Model-7B-f16-Q4_K_M.gguf", "Q4_K_M", "7B", None),
    ("Qwen3-4B-Thinking-2507-IQ4_NL.gguf", "IQ4_NL", "4B", "thinking"),
    ("Qwen3-8B-IQ4_KS.gguf", "IQ4_KS", "8B", None),
    ("Ornith-1.5-9B-MTP-IQ2_M.gguf", "IQ2_M", "9B", None),
    ("mistral-7b-imatrix-Q4_K_M.gguf", "Q4_K_M", "7B", None),
    ("Lumimaid-8B-Q5_K_M-imat.gguf", "Q5_K_M", "8B", None),
    ("zephyr_7b_q6_k.gguf", "Q6_K", "7B", None),
    ("model.gguf", None, None, None),
    ("Kimi-K2-1T-Q2_K.gguf", "Q2_K", "1T", None),
]


@pytest.mark.parametrize(("path", "quantization", "size", "flavour"), MODELS)
def test_a_publisher_s_name_is_read(path: str, quantization: str | None, size: str | None, flavour: str | None) -> None:
    name = parse_filename(path)
    assert (name.role, name.shard) == ("model", None)
    assert (name.quantization, name.size_label, name.flavour) == (quantization, size, flavour)


@pytest.mark.parametrize(("path", "quantization"), [(path, quantization) for path, quantization, _, _ in MODELS])
def test_letter_case_does_not_matter(path: str, quantization: str | None) -> None:
    assert parse_filename(path.upper()).quantization == quantization
    assert parse_filename(path.lower()).quantization == quantization


@pytest.mark.parametrize(
    ("path", "stem", "base"),
    [
        ("llama3.1-70b-instruct-q4_k_m.gguf", "llama3.1-70b-instruct", "llama3.1"),
        ("Q8_0/Qwen3-30B-A3B-Q8_0-00001-of-00002.gguf", "Qwen3-30B-A3B", "Qwen3"),
        ("Mistral-7B-v0.3.i1-Q4_K_M.gguf", "Mistral-7B-v0.3", "Mistral-v0.3"),
        ("mixtral-8x7b-instruct-v0.1.Q5_0.gguf", "mixtral-8x7b-instruct-v0.1", "mixtral-v0.1"),
        ("gemma-3n-E4B-it-UD-Q2_K_XL.gguf", "gemma-3n-E4B-it", "gemma-3n"),
        ("Q4_K_M.gguf", "", ""),
    ],
)
def test_what_is_left_is_the_name(path: str, stem: str, base: str) -> None:
    name = parse_filename(path)
    assert (name.stem, name.base) == (stem, base)


@pytest.mark.parametrize(
    ("path", "quantization", "shard"),
    [
        ("Q4_K_M/model-Q4_K_M-00001-of-00002.gguf", "Q4_K_M", (1, 2)),
        ("Q4_K_M/model-00002-of-00002.gguf", "Q4_K_M", (2, 2)),
        ("UD-IQ1_S/DeepSeek-V3-0324-UD-IQ1_S-00003-of-00004.gguf", "UD-IQ1_S", (3, 4)),
        ("UD-Q2_K_XL/DeepSeek-R1-00001-of-00005.gguf", "UD-Q2_K_XL", (1, 5)),
        ("gpt-oss-120b-mxfp4-00001-of-00003.gguf", "MXFP4", (1, 3)),
        ("qwen2.5-72b-instruct-q4_k_m-00011-of-00012.gguf", "Q4_K_M", (11, 12)),
        ("Mixtral-8x22B-Instruct-v0.1.Q4_K_M-00001-of-00002.gguf", "Q4_K_M", (1, 2)),
        ("Meta-Llama-3.1-405B-Instruct-IQ3_M/Meta-Llama-3.1-405B-Instruct-00001-of-00005.gguf", "IQ3_M", (1, 5)),
        ("BF16/sub/model.BF16-00001-of-00001.gguf", "BF16", (1, 1)),
        ("Q8_0\\model-00001-of-00002.gguf", "Q8_0", (1, 2)),
    ],
)
def test_split_parts_and_directories_are_read(path: str, quantization: str, shard: tuple[int, int]) -> None:
    name = parse_filename(path)
    assert (name.quantization, name.shard, name.role) == (quantization, shard, "model")


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("mmproj-F16.gguf", "projector"),
        ("mmproj-model-f16.gguf", "projector"),
        ("mmproj-google_gemma-3-12b-it-bf16.gguf", "projector"),
        ("Qwen2.5-VL-7B-Instruct-mmproj-Q8_0.gguf", "projector"),
        ("llava-v1.6.mmproj-Q6_K.gguf", "projector"),
        ("mmproj/clip-f16.gguf", "projector"),
        ("imatrix_unsloth.gguf", "imatrix"),
        ("imatrix.gguf", "imatrix"),
        ("Qwen_Qwen3-8B-imatrix.gguf", "imatrix"),
        ("Qwen3-8B.imatrix.gguf", "imatrix"),
        ("imatrix-Q8_0.gguf", "imatrix"),
        ("imatrix.dat", "imatrix"),
        ("Meta-Llama-3.1-8B-Instruct.imatrix", "imatrix"),
        ("mtp-gemma-4-12B-it-Q8_0.gguf", "draft"),
        ("MTP/gemma-4-12b-it-Q8_0-MTP.gguf", "draft"),
        ("Qwen3.5-9B-Q4_K_M-MTP.gguf", "draft"),
        ("DeepSeek-R1-DRAFT-0.6B-64k-Q4_0.gguf", "draft"),
        ("draft/model-Q8_0.gguf", "draft"),
        ("eagle3-qwen3-8b-f16.gguf", "draft"),
        ("ggml-vocab-llama-bpe.gguf", "other"),
        ("README.md", "other"),
        ("model-Q4_K_M.safetensors", "other"),
        ("model.Q8_0.gguf.part1of2", "other"),
        ("model-Q4_K_M-00003-of-00002.gguf", "other"),
        ("model-Q4_K_M-00000-of-00002.gguf", "other"),
        ("", "other"),
        (".gguf", "model"),
    ],
)
def test_companion_files_are_never_models(path: str, role: str) -> None:
    assert parse_filename(path).role == role


@pytest.mark.parametrize(
    "path",
    ["Qwen3-8B-xQ4_K_M.gguf", "FQ8_0.gguf", "model-Q4Ks.gguf", "IQ4.gguf", "Q9_K.gguf", "bf160.gguf", "iq2_xy.gguf"],
)
def test_parts_of_words_are_no_quantization(path: str) -> None:
    assert parse_filename(path).quantization is None


ALL_LABELS = sorted(
    {*FILE_TYPES.values()}
    | {f"Q{bits}_K_{size}" for bits in range(2, 7) for size in ("S", "M", "L", "XL")}
    | {f"UD-{label}" for label in ("Q4_K_XL", "IQ1_S", "Q8_K_XL", "TQ1_0", "Q6_K")}
    | {"MXFP4", "Q3_K", "Q4_K", "Q5_K", "Q6_K_L", "Q4"}
)


@pytest.mark.parametrize("label", ALL_LABELS)
@pytest.mark.parametrize("separator", "-_.")
def test_every_label_is_found_in_names_and_tags(label: str, separator: str) -> None:
    spelled = label.replace("-", separator).replace("_", separator)
    for text in (spelled, spelled.lower()):
        assert normalize_quantization(text) == label
        assert parse_filename(f"Model-v2-7B{separator}{text}.gguf").quantization == label


@pytest.mark.parametrize(
    ("tag", "label"),
    [("q4-k-m", "Q4_K_M"), ("fp16", "F16"), ("FP32", "F32"), ("ud-q4.k.xl", "UD-Q4_K_XL"), ("i1-Q4_K_M", "Q4_K_M")],
)
def test_tags_have_one_canonical_spelling(tag: str, label: str) -> None:
    assert normalize_quantization(tag) == label


@pytest.mark.parametrize(
    "tag", ["", "q", "Q4_K_M_extra", "Q4_K_N", "int4", "latest", "70b", "q4 k m", "Q4_K_M\n.x", "Q٤_0"]
)
def test_an_unknown_tag_is_refused_with_a_hint(tag: str) -> None:
    with pytest.raises(BadName) as caught:
        normalize_quantization(tag)
    assert caught.value.hint


def test_a_misspelt_tag_brings_near_ones() -> None:
    with pytest.raises(BadName) as caught:
        normalize_quantization("q4_m")
    assert caught.value.hint is not None
    assert "Q4_K_M" in caught.value.hint


@given(st.text(alphabet="qQ48_KkMmudUD-./ix0gf135B٣\n\0", max_size=60))
def test_any_text_is_read_somehow(text: str) -> None:
    for name in (text, f"{text}.gguf"):
        read = parse_filename(name)
        assert read.role in {"model", "projector", "imatrix", "draft", "other"}
        assert read.quantization is None or normalize_quantization(read.quantization) == read.quantization


def test_a_very_long_name_is_read_quickly() -> None:
    for piece in ("1", "-", "Q4_", "8x", "q4-k-", "a3b-", "00001-of-"):
        assert parse_filename(piece * 20_000 + ".gguf").role == "model"
