"""The test Hub itself: what it must get right for the other tests to mean anything."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.support.hub import MEMBER_TOKEN, READER_TOKEN, HubServer, RepositoryConfig
from tests.unit.hub.conftest import BIG_BYTES, Served


@pytest.fixture
def client(server: HubServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        yield client


def test_large_files_are_redirected_to_the_other_origin_with_their_digest(
    client: httpx.Client, server: HubServer
) -> None:
    answer = client.head("/org/model/resolve/main/big.gguf")
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(server.cdn_url + "/cdn/")
    assert answer.headers["x-linked-size"] == str(BIG_BYTES)
    assert len(answer.headers["x-linked-etag"].strip('"')) == 64
    assert len(answer.headers["x-repo-commit"]) == 40
    assert "x-xet-hash" in answer.headers


def test_small_files_are_answered_directly(client: httpx.Client, served: Served) -> None:
    answer = client.get("/org/model/resolve/main/README.md")
    assert answer.content == served.small
    assert len(answer.headers["etag"].strip('"')) == 40


@pytest.mark.parametrize(
    ("wanted", "status", "start", "stop"),
    [("bytes=0-9", 206, 0, 10), ("bytes=100-", 206, 100, BIG_BYTES), (f"bytes=5-{BIG_BYTES * 2}", 206, 5, BIG_BYTES)],
)
def test_ranges_are_honoured(
    client: httpx.Client, served: Served, wanted: str, status: int, start: int, stop: int
) -> None:
    answer = client.get("/org/model/resolve/main/big.gguf", headers={"Range": wanted}, follow_redirects=True)
    assert answer.status_code == status
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{BIG_BYTES}"
    assert answer.content == served.big[start:stop]


def test_a_range_past_the_end_is_refused(client: httpx.Client) -> None:
    headers = {"Range": f"bytes={BIG_BYTES}-"}
    answer = client.get("/org/model/resolve/main/big.gguf", headers=headers, follow_redirects=True)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{BIG_BYTES}"


def test_errors_carry_the_codes_of_the_hub(client: httpx.Client) -> None:
    def code(path: str, token: str | None = None) -> tuple[int, str | None]:
        answer = client.get(path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return answer.status_code, answer.headers.get("x-error-code")

    assert code("/api/models/org/none") == (401, "RepoNotFound")
    assert code("/api/models/org/none", READER_TOKEN) == (404, "RepoNotFound")
    assert code("/api/models/org/private", READER_TOKEN) == (404, "RepoNotFound")
    assert code("/api/models/org/private", MEMBER_TOKEN) == (200, None)
    assert code("/api/models/org/model/revision/none") == (404, "RevisionNotFound")
    assert code("/org/model/resolve/main/none") == (404, "EntryNotFound")
    assert code("/org/gated/resolve/main/big.gguf") == (401, "GatedRepo")
    assert code("/org/gated/resolve/main/big.gguf", READER_TOKEN) == (403, "GatedRepo")
    assert code("/api/models/org/gated/auth-check", MEMBER_TOKEN) == (200, None)
    assert code("/api/models/org/model", "hf_wrong") == (401, None)
    assert code("/api/whoami-v2") == (401, None)
    assert code("/no/such/route") == (404, None)


def test_trees_come_in_pages(server: HubServer, served: Served) -> None:
    file = str(served.directory / "README.md")
    paths = [f"folder/{number}.txt" for number in range(5)]
    with HubServer({"org/many": RepositoryConfig(dict.fromkeys(paths, file))}, page_size=2) as small_pages:
        found: list[str] = []
        address: str | None = f"{small_pages.url}/api/models/org/many/tree/main?recursive=true"
        while address is not None:
            answer = httpx.get(address, trust_env=False)
            found += [entry["path"] for entry in answer.json()]
            address = answer.links.get("next", {}).get("url")
        assert len(small_pages.log()) == 3
    assert found == ["folder", *paths]


def test_paths_references_and_the_owner_of_a_token_can_be_asked_for(client: httpx.Client) -> None:
    body = {"paths": ["README.md", "none"], "expand": "False"}
    entries = client.post("/api/models/org/model/paths-info/main", data=body).json()
    assert [entry["path"] for entry in entries] == ["README.md"]
    (branch,) = client.get("/api/models/org/model/refs").json()["branches"]
    assert branch["name"] == "main"
    assert (
        client.get("/api/whoami-v2", headers={"Authorization": f"Bearer {READER_TOKEN}"}).json()["name"] == READER_TOKEN
    )
    assert [model["id"] for model in client.get("/api/models", params={"search": "GATED"}).json()] == ["org/gated"]


def test_faults_apply_as_often_as_asked_and_the_log_tells(client: httpx.Client, server: HubServer) -> None:
    server.fault("GET /api/models/org/model", status=418, headers={"X-Fault": "yes"}, skip=1)
    answers = [client.get("/api/models/org/model").status_code for _ in range(3)]
    assert answers == [200, 418, 200]
    assert [entry.status for entry in server.log("/api/models")] == answers
    server.reset()
    assert server.log() == []


def test_a_cut_body_breaks_the_connection(client: httpx.Client, server: HubServer) -> None:
    server.fault("GET /cdn/.*", cut_after_bytes=1000)
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/org/model/resolve/main/big.gguf", follow_redirects=True)
    assert server.log("cdn")[0].sent_bytes == 1000


def test_a_corrupt_byte_is_the_only_difference(client: httpx.Client, server: HubServer, served: Served) -> None:
    server.fault("GET /cdn/.*", corrupt_at=70_000)
    content = client.get("/org/model/resolve/main/big.gguf", follow_redirects=True).content
    assert [offset for offset in range(BIG_BYTES) if content[offset] != served.big[offset]] == [70_000]
