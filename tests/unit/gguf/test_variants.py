from __future__ import annotations

from lilliput.gguf import group_variants


def test_a_repository_is_grouped_biggest_first() -> None:
    files = [
        ("README.md", 5_000),
        ("Model-7B-Q4_K_M.gguf", 400),
        ("Model-7B-Q8_0.gguf", 800),
        ("mmproj-F16.gguf", 100),
        ("imatrix.gguf", 5),
        ("mtp-Model-7B-Q8_0.gguf", 50),
        ("BF16/Model-7B-BF16-00002-of-00002.gguf", 700),
        ("BF16/Model-7B-BF16-00001-of-00002.gguf", 900),
    ]
    variants = group_variants(files)
    assert [(one.quantization, one.size_bytes, one.complete) for one in variants] == [
        ("BF16", 1600, True),
        ("Q8_0", 800, True),
        ("Q4_K_M", 400, True),
    ]
    assert variants[0].paths == (
        "BF16/Model-7B-BF16-00001-of-00002.gguf",
        "BF16/Model-7B-BF16-00002-of-00002.gguf",
    )
    assert {one.stem for one in variants} == {"Model-7B"}


def test_missing_shards_are_noticed() -> None:
    (variant,) = group_variants([("m-Q4_0-00003-of-00003.gguf", 1), ("m-Q4_0-00001-of-00003.gguf", 2)])
    assert not variant.complete
    assert variant.paths == ("m-Q4_0-00001-of-00003.gguf", "m-Q4_0-00003-of-00003.gguf")


def test_one_quantization_of_two_models_is_two_variants() -> None:
    variants = group_variants(
        [
            ("Model-7B-Instruct-Q4_K_M.gguf", 4),
            ("Model-7B-Base-Q4_K_M.gguf", 3),
            ("Model-7B-Instruct-Q4_K_M-00001-of-00001.gguf", 2),
            ("old/Model-7B-Instruct-Q4_K_M.gguf", 1),
        ]
    )
    assert [(one.quantization, len(one.paths), one.complete) for one in variants] == [("Q4_K_M", 1, True)] * 4
    assert [one.stem for one in variants][:2] == ["Model-7B-Instruct", "Model-7B-Base"]


def test_shards_of_different_splits_are_not_mixed() -> None:
    variants = group_variants(
        [
            ("m-Q4_0-00001-of-00002.gguf", 1),
            ("m-Q4_0-00002-of-00002.gguf", 1),
            ("m-Q4_0-00001-of-00003.gguf", 1),
            ("n-Q4_0-00002-of-00003.gguf", 1),
        ]
    )
    assert sorted((one.complete, len(one.paths)) for one in variants) == [(False, 1), (False, 1), (True, 2)]


def test_names_that_differ_in_letter_case_only_stay_apart() -> None:
    assert len(group_variants([("m-Q4_0.gguf", 1), ("m-q4_0.gguf", 1), ("m.Q4_0.gguf", 1)])) == 3


def test_a_file_without_a_quantization_is_a_variant_without_a_label() -> None:
    (variant,) = group_variants([("model.gguf", 9)])
    assert (variant.quantization, variant.paths, variant.complete) == (None, ("model.gguf",), True)


def test_ten_shards_load_in_the_order_of_their_numbers() -> None:
    files = [(f"m-Q2_K-{index:05}-of-00012.gguf", index) for index in (12, 2, 10, 1, 3, 11, 5, 4, 9, 8, 7, 6)]
    (variant,) = group_variants(files)
    assert [int(path[7:12]) for path in variant.paths] == list(range(1, 13))
    assert variant.complete


def test_an_empty_repository_has_none() -> None:
    assert group_variants([]) == ()
