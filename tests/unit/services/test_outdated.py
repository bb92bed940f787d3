"""A model against what the Hub answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.errors import BadToken, HubUnreachable, LilliputError, RepositoryNotFound, VariantNotFound
from lilliput.hub import OnWait, RemoteFile, Repository
from lilliput.services.hub_answers import HubAnswer, ask_hub
from lilliput.services.outdated import FileChange, freshness

OLD, NEW = "1" * 40, "2" * 40
A, B = "a" * 64, "b" * 64


def model(name: str = "org/m:Q4_0", path: str = "m-Q4_0.gguf") -> InstalledModel:
    file = InstalledFile(Path(f"/hub/models--org--m/snapshots/{OLD}/{path}"), 10, A)
    return InstalledModel(name, "hub", (file,), repo="org/m", revision=OLD, quantization="Q4_0")


def answer(*files: RemoteFile, revision: str = NEW) -> HubAnswer:
    return HubAnswer(Repository("org/m", revision, files))


def test_the_same_commit_and_untouched_files_are_up_to_date() -> None:
    same = RemoteFile("m-Q4_0.gguf", 10, A)
    assert freshness(model(), answer(revision=OLD)).state == "up-to-date"
    moved = freshness(model(), answer(same))
    assert (moved.state, moved.hub_revision, moved.pull) == ("up-to-date", NEW, None)
    assert moved.reason is not None


def test_another_digest_is_newer_and_names_the_pull() -> None:
    found = freshness(model(), answer(RemoteFile("m-Q4_0.gguf", 10, B)))
    assert (found.state, found.pull) == ("newer", "lilliput pull org/m:Q4_0")
    assert found.changes == (FileChange("m-Q4_0.gguf", "changed", 10, A, 10, B),)


def test_files_of_another_name_are_found_by_their_quantization() -> None:
    found = freshness(model(), answer(RemoteFile("new-Q4_0.gguf", 12, B), RemoteFile("new-Q8_0.gguf", 20, A)))
    assert found.state == "newer"
    assert [(change.path, change.change) for change in found.changes] == [
        ("m-Q4_0.gguf", "removed"),
        ("new-Q4_0.gguf", "added"),
    ]


@pytest.mark.parametrize("name", ["org/m:Q4_0", "org/m/m-Q4_0.gguf"])
def test_files_that_the_repository_no_longer_has_are_gone(name: str) -> None:
    others = [RemoteFile("m-Q8_0.gguf", 10, A)]
    if name.endswith(".gguf"):
        others.append(RemoteFile("new-Q4_0.gguf", 10, A))
    found = freshness(model(name), answer(*others))
    assert (found.state, found.pull, found.reason) == ("gone", None, "org/m no longer has m-Q4_0.gguf")


class FakeHub:
    """Raises what it is told to, by repository."""

    def __init__(self, **errors: LilliputError) -> None:
        self.errors = errors
        self.asked: list[tuple[str, str, bool]] = []

    async def repository(
        self, repo_id: str, revision: str = "main", *, on_wait: OnWait | None = None, brief: bool = False
    ) -> Repository:
        self.asked.append((repo_id, revision, brief))
        if repo_id in self.errors:
            raise self.errors[repo_id]
        return Repository(repo_id, NEW, ())


async def test_each_repository_is_asked_once_and_a_refusal_is_an_answer() -> None:
    hub = FakeHub(
        gone=RepositoryNotFound("no repository", hint="look again"),
        old=VariantNotFound("no revision"),
        silent=HubUnreachable("no answer"),
        locked=BadToken("bad token"),
    )
    names = ("gone", "old", "silent", "locked", "there", "there")
    answers = await ask_hub(hub, [(name, "main") for name in names])
    assert sorted(hub.asked) == sorted((name, "main", True) for name in set(names))
    assert answers["gone", "main"] == HubAnswer(gone=True, reason="no repository (look again)")
    assert answers["old", "main"].gone
    assert [answers[name, "main"].reason for name in ("silent", "locked")] == ["no answer", "bad token"]
    assert answers["there", "main"].repository is not None
