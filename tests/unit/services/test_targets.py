"""What the variants of a repository are called in plans."""

from __future__ import annotations

import pytest

from lilliput.gguf import group_variants
from lilliput.services.targets import variant_name


def names(*paths: str) -> set[str]:
    """The names of the variants that files of these paths are."""
    variants = group_variants((path, 1) for path in paths)
    return {variant_name(one, variants) for one in variants}


def split(path: str, total: int) -> list[str]:
    return [f"{path}-{number:05}-of-{total:05}.gguf" for number in range(1, total + 1)]


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (["m-Q4_K_M.gguf", "m-Q8_0.gguf"], {"Q4_K_M", "Q8_0"}),
        (split("m-Q4_K_M", 3), {"Q4_K_M"}),
        ([*split("a/m-Q4_K_M", 2), *split("b/m-Q4_K_M", 2)], {"a/m-Q4_K_M", "b/m-Q4_K_M"}),
        (["m.q4_k_m.gguf", "n-Q4_K_M-new.gguf"], {"m.Q4_K_M", "n-Q4_K_M-new:Q4_K_M"}),
        (split("weights", 2), {"weights"}),
        (["m-Q8_0.gguf", *split("m-Q8_0", 2)], {"m-Q8_0", "m-Q8_0-00001-of-00002:Q8_0"}),
    ],
)
def test_a_name_ends_with_the_quantization_and_is_of_one_variant(paths: list[str], told: set[str]) -> None:
    assert names(*paths) == told
