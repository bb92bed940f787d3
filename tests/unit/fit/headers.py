"""Headers with the shapes of well-known models, as their GGUF files state them."""

from __future__ import annotations

from lilliput.gguf import Header, MetadataValue


def header(architecture: str, **keys: MetadataValue) -> Header:
    """A header whose keys are given without the architecture's prefix, ``__`` for a dot."""
    metadata: dict[str, MetadataValue] = {"general.architecture": architecture}
    metadata |= {f"{architecture}.{key.replace('__', '.')}": value for key, value in keys.items()}
    return Header(3, metadata, (), 32, 0)


def llama(blocks: int, width: int, heads: int, kv_heads: int, feed_forward: int, vocab: int = 128256) -> Header:
    return header(
        "llama",
        block_count=blocks,
        embedding_length=width,
        attention__head_count=heads,
        attention__head_count_kv=kv_heads,
        feed_forward_length=feed_forward,
        vocab_size=vocab,
        context_length=131072,
    )


LLAMA_8B = llama(32, 4096, 32, 8, 14336)
LLAMA_70B = llama(80, 8192, 64, 8, 28672)
TINY_LLAMA = llama(22, 2048, 32, 4, 5632, vocab=32000)
SMOLLM2_135M = llama(30, 576, 9, 3, 1536, vocab=49152)
QWEN2_7B = header(
    "qwen2",
    block_count=28,
    embedding_length=3584,
    attention__head_count=28,
    attention__head_count_kv=4,
    attention__sliding_window=131072,
    feed_forward_length=18944,
    vocab_size=152064,
)
QWEN3_30B_A3B = header(
    "qwen3moe",
    block_count=48,
    embedding_length=2048,
    attention__head_count=32,
    attention__head_count_kv=4,
    attention__key_length=128,
    attention__value_length=128,
    feed_forward_length=6144,
    expert_count=128,
    expert_used_count=8,
    expert_feed_forward_length=768,
    vocab_size=151936,
)
GEMMA3_270M = header(
    "gemma3",
    block_count=18,
    embedding_length=640,
    attention__head_count=4,
    attention__head_count_kv=1,
    attention__key_length=256,
    attention__value_length=256,
    attention__sliding_window=512,
    feed_forward_length=2048,
    vocab_size=262144,
)
GEMMA3_27B = header(
    "gemma3",
    block_count=62,
    embedding_length=5376,
    attention__head_count=32,
    attention__head_count_kv=16,
    attention__key_length=128,
    attention__value_length=128,
    attention__sliding_window=1024,
    feed_forward_length=21504,
    vocab_size=262144,
)
GEMMA2_9B = header(
    "gemma2",
    block_count=42,
    embedding_length=3584,
    attention__head_count=16,
    attention__head_count_kv=8,
    attention__key_length=256,
    attention__value_length=256,
    feed_forward_length=14336,
    vocab_size=256000,
)
GEMMA4_12B = header(
    "gemma4",
    block_count=48,
    embedding_length=3840,
    attention__head_count=16,
    attention__head_count_kv=(8, 8, 8, 8, 8, 1) * 8,
    attention__key_length=512,
    attention__value_length=512,
    attention__key_length_swa=256,
    attention__value_length_swa=256,
    attention__sliding_window=1024,
    attention__sliding_window_pattern=(True, True, True, True, True, False) * 8,
    feed_forward_length=15360,
    vocab_size=262144,
)


def gpt_oss(blocks: int, experts: int) -> Header:
    return header(
        "gpt-oss",
        block_count=blocks,
        embedding_length=2880,
        attention__head_count=64,
        attention__head_count_kv=8,
        attention__key_length=64,
        attention__value_length=64,
        attention__sliding_window=128,
        feed_forward_length=2880,
        expert_count=experts,
        expert_used_count=4,
        expert_feed_forward_length=2880,
        vocab_size=201088,
    )


GPT_OSS_20B = gpt_oss(24, 32)
GPT_OSS_120B = gpt_oss(36, 128)
COHERE2_7B = header(
    "cohere2",
    block_count=32,
    embedding_length=4096,
    attention__head_count=32,
    attention__head_count_kv=8,
    attention__sliding_window=4096,
    feed_forward_length=14336,
    vocab_size=256000,
)
PHI3_MINI = header(
    "phi3",
    block_count=32,
    embedding_length=3072,
    attention__head_count=32,
    attention__head_count_kv=32,
    attention__sliding_window=2047,
    feed_forward_length=8192,
    vocab_size=32064,
)
DEEPSEEK_V2_LITE = header(
    "deepseek2",
    block_count=27,
    embedding_length=2048,
    attention__head_count=16,
    attention__head_count_kv=1,
    attention__kv_lora_rank=512,
    attention__key_length=576,
    attention__value_length=512,
    attention__key_length_mla=192,
    attention__value_length_mla=128,
    rope__dimension_count=64,
    feed_forward_length=10944,
    expert_count=64,
    expert_used_count=6,
    expert_feed_forward_length=1408,
    vocab_size=102400,
)
LFM2_350M = header(
    "lfm2",
    block_count=16,
    embedding_length=1024,
    attention__head_count=16,
    attention__head_count_kv=(0, 0, 8, 0, 0, 8, 0, 0, 8, 0, 8, 0, 8, 0, 8, 0),
    shortconv__l_cache=3,
    feed_forward_length=4608,
    vocab_size=65536,
)
QWEN35_27B = header(
    "qwen35",
    block_count=64,
    embedding_length=5120,
    attention__head_count=24,
    attention__head_count_kv=4,
    attention__key_length=256,
    attention__value_length=256,
    full_attention_interval=4,
    ssm__conv_kernel=4,
    ssm__inner_size=6144,
    ssm__state_size=128,
    ssm__group_count=16,
    feed_forward_length=17408,
    vocab_size=248320,
)
