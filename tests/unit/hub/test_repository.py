from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.hub import MEMBER_TOKEN, READER_TOKEN, HubServer, RepositoryConfig
from tests.unit.hub.conftest import BIG_BYTES, IMPATIENT, MakeHub, Served

from lilliput.errors import (
    BadName,
    BadToken,
    GatedRepository,
    HubError,
    HubUnreachable,
    RateLimited,
    RepositoryNotFound,
    VariantNotFound,
)
from lilliput.hub import Hub


async def test_a_repository_has_exact_sizes_digests_licence_and_a_pinned_commit(hub: Hub, served: Served) -> None:
    repository = await hub.repository("org/model")
    assert len(repository.revision) == 40
    assert (repository.license, repository.gated, repository.ref) == ("apache-2.0", False, "main")
    big = repository.file("big.gguf")
    assert (big.size_bytes, big.sha256) == (BIG_BYTES, hashlib.sha256(served.big).hexdigest())
    small = repository.file("README.md")
    blob_id = hashlib.sha1(b"blob %d\0" % len(served.small) + served.small, usedforsecurity=False).hexdigest()
    assert (small.size_bytes, small.sha256, small.git_sha1) == (len(served.small), None, blob_id)
    assert [file.path for file in repository.files] == ["README.md", "big.gguf", "folder/copy.gguf"]


async def test_a_commit_can_be_asked_for(hub: Hub) -> None:
    repository = await hub.repository("org/model")
    again = await hub.repository("org/model", repository.revision)
    assert again.revision == repository.revision
    assert again.files == repository.files


async def test_no_other_request_is_made_than_the_one_for_the_repository(hub: Hub, server: HubServer) -> None:
    await hub.repository("org/model")
    assert [(entry.method, entry.path, entry.query) for entry in server.log()] == [
        ("GET", "/api/models/org/model", "blobs=true")
    ]


async def test_a_gated_repository_is_shown_and_marked(hub: Hub) -> None:
    repository = await hub.repository("org/gated")
    assert repository.gated
    assert repository.license is None


async def test_a_private_repository_is_seen_with_the_right_token_only(make_hub: MakeHub) -> None:
    assert (await make_hub(MEMBER_TOKEN).repository("org/private")).repo_id == "org/private"
    for token in (None, READER_TOKEN):
        with pytest.raises(RepositoryNotFound, match="org/private") as caught:
            await make_hub(token).repository("org/private")
        assert "HF_TOKEN" in (caught.value.hint or "")


async def test_a_missing_repository_a_missing_revision_and_a_bad_token_each_have_their_error(make_hub: MakeHub) -> None:
    with pytest.raises(RepositoryNotFound, match="org/nothing"):
        await make_hub().repository("org/nothing")
    with pytest.raises(VariantNotFound, match="org/model at v9"):
        await make_hub().repository("org/model", "v9")
    with pytest.raises(BadToken) as caught:
        await make_hub("hf_wrong").repository("org/model")
    assert "HF_TOKEN" in (caught.value.hint or "")


async def test_names_are_checked_before_anything_is_asked(hub: Hub, server: HubServer) -> None:
    with pytest.raises(BadName):
        await hub.repository("../../etc")
    with pytest.raises(BadName):
        await hub.repository("org/model", "../x")
    assert server.log() == []


async def test_the_token_of_the_environment_is_used(
    make_hub: MakeHub, server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub = make_hub()
    monkeypatch.setenv("HF_TOKEN", READER_TOKEN)
    await hub.repository("org/model")
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "no-token").write_text(MEMBER_TOKEN)
    await hub.repository("org/model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    await hub.repository("org/model")
    assert [entry.token for entry in server.log()] == [READER_TOKEN, MEMBER_TOKEN, None]


async def test_a_rate_limit_is_waited_out_and_told(hub: Hub, server: HubServer) -> None:
    server.fault("GET /api/models/.*", status=429, headers={"Retry-After": "0"}, count=2)
    heard: list[str] = []
    await hub.repository("org/model", on_wait=lambda message, _wait_s: heard.append(message))
    assert len(heard) == 2
    assert "slow down" in heard[0]
    assert len(server.log()) == 3


async def test_a_rate_limit_that_lasts_ends_with_the_wait_the_hub_asks_for(
    make_hub: MakeHub, server: HubServer
) -> None:
    server.fault("GET /api/models/.*", status=429, headers={"Retry-After": "5000"}, count=None)
    with pytest.raises(RateLimited) as caught:
        await make_hub().repository("org/model")
    assert caught.value.retry_after_s == 5000
    assert len(server.log()) == 1


async def test_an_outage_is_retried_a_bounded_number_of_times(hub: Hub, server: HubServer) -> None:
    server.fault("GET /api/models/.*", status=503, count=None)
    with pytest.raises(HubUnreachable, match="503"):
        await hub.repository("org/model")
    assert len(server.log()) == IMPATIENT.attempts


async def test_a_hub_that_is_not_needed_is_asked_once(
    make_hub: MakeHub, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub()
    server.fault("GET /api/models/.*", status=503)
    with pytest.raises(HubUnreachable, match="503"):
        await hub.repository("org/model", brief=True)
    assert len(server.log()) == 1
    assert (await hub.repository("org/model", brief=True)).repo_id == "org/model"
    monkeypatch.setattr("lilliput.hub.library.Library.repository", lambda *_: threading.Event().wait(5))
    with pytest.raises(HubUnreachable, match=r"did not answer in 0\.1 s"):
        await make_hub(patience=replace(IMPATIENT, metadata_timeout_s=0.1)).repository("org/model", brief=True)


async def test_a_hub_that_is_down_is_named(cache_dir: Path) -> None:
    hub = Hub("http://127.0.0.1:9", cache_dir=cache_dir, patience=IMPATIENT)
    with pytest.raises(HubUnreachable, match=r"http://127\.0\.0\.1:9") as caught:
        await hub.repository("org/model")
    assert "HF_ENDPOINT" in (caught.value.hint or "")
    await hub.aclose()


async def test_a_hub_that_says_nothing_is_given_up(make_hub: MakeHub, server: HubServer) -> None:
    server.fault("GET /api/models/.*", hang_s=60, count=None)
    hub = make_hub(patience=replace(IMPATIENT, metadata_timeout_s=0.1, attempts=2))
    with pytest.raises(HubUnreachable, match="no answer in time"):
        await hub.repository("org/model")


async def test_a_cancel_does_not_wait_for_a_silent_hub(hub: Hub, server: HubServer) -> None:
    server.fault("GET /api/models/.*", hang_s=60, count=None)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hub.repository("org/model"), 0.1)
    assert time.monotonic() - began < 0.8


async def test_offline_mode_asks_nobody(hub: Hub, server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachable, match="offline") as caught:
        await hub.repository("org/model")
    assert "HF_HUB_OFFLINE" in (caught.value.hint or "")
    assert server.log() == []


def lie(server: HubServer, *siblings: dict[str, object]) -> None:
    server.add("org/lies", RepositoryConfig({}, siblings=siblings))


async def test_files_with_unsafe_paths_are_left_out(hub: Hub, server: HubServer) -> None:
    sound = {"size": 1, "blobId": "a" * 40}
    lie(server, *({"rfilename": path, **sound} for path in ("../../x", "/etc/cron.d/x", "a\\b", "ok.gguf")))
    assert [file.path for file in (await hub.repository("org/lies")).files] == ["ok.gguf"]


@pytest.mark.parametrize(
    "sibling",
    [
        {"rfilename": "a", "size": 1, "blobId": "../../x"},
        {"rfilename": "a", "size": 1, "blobId": "a" * 40, "lfs": {"sha256": "../../x", "size": 1, "pointerSize": 1}},
        {"rfilename": "a", "size": -1, "blobId": "a" * 40},
        {"rfilename": "a", "size": "1", "blobId": "a" * 40},
        {"rfilename": "a", "blobId": "a" * 40},
        {"rfilename": 7, "size": 1, "blobId": "a" * 40},
        {"size": 1},
    ],
)
async def test_an_answer_that_cannot_be_true_is_refused(
    hub: Hub, server: HubServer, sibling: dict[str, object]
) -> None:
    lie(server, sibling)
    with pytest.raises(HubError):
        await hub.repository("org/lies")


async def test_gated_files_are_refused_with_the_page_to_accept_the_terms_on(
    make_hub: MakeHub, server: HubServer
) -> None:
    for token in (None, READER_TOKEN):
        hub = make_hub(token)
        repository = await hub.repository("org/gated")
        with pytest.raises(GatedRepository) as caught:
            await hub.download(repository, repository.file("big.gguf"))
        assert f"{server.url}/org/gated" in (caught.value.hint or "")
    member = make_hub(MEMBER_TOKEN)
    repository = await member.repository("org/gated")
    assert (await member.download(repository, repository.file("big.gguf"))).exists()
