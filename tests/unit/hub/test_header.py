from __future__ import annotations

from pathlib import Path

import gguf
import pytest
from tests.support.hub import HubServer, RepositoryConfig
from tests.unit.hub.conftest import MakeHub

from lilliput.errors import BadFile, GatedRepository, HubUnreachable, VariantNotFound
from lilliput.hub import Hub

MIB = 1024 * 1024


def write_model(path: Path, vocabulary: int, weights_bytes: int) -> None:
    import numpy

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("Tiny")
    writer.add_token_list([f"token-number-{number:08}" for number in range(vocabulary)])
    writer.add_tensor("blk.0.attn_q.weight", numpy.ones(weights_bytes // 4, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def models(running_server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    write_model(directory / "short.gguf", 10, 12 * MIB)
    write_model(directory / "long.gguf", 100_000, 12 * MIB)  # a header of 2.9 MB
    (directory / "page.gguf").write_bytes(b"<!DOCTYPE html>" * 10_000)
    (directory / "empty.gguf").write_bytes(b"")
    files = {path.name: str(path) for path in directory.iterdir()}
    running_server.add("org/models", RepositoryConfig(files))
    return directory


@pytest.mark.usefixtures("models")
async def test_a_header_is_read_without_the_file(hub: Hub, server: HubServer) -> None:
    repository = await hub.repository("org/models")
    header = await hub.read_header(repository, "short.gguf")
    assert (header.architecture, header.name, header.vocab_size) == ("llama", "Tiny", 10)
    requests = server.log("cdn")
    assert [(entry.method, entry.range) for entry in requests] == [("GET", f"bytes=0-{MIB - 1}")]


@pytest.mark.usefixtures("models")
async def test_a_long_header_is_fetched_in_growing_pieces_and_little_more(hub: Hub, server: HubServer) -> None:
    repository = await hub.repository("org/models")
    header = await hub.read_header(repository, "long.gguf")
    assert header.vocab_size == 100_000
    requests = server.log("cdn")
    assert [entry.sent_bytes for entry in requests[:2]] == [MIB, 2 * MIB]
    assert sum(entry.sent_bytes for entry in requests) <= header.data_offset_bytes + 4 * MIB
    assert len(server.log("/resolve/")) == 1


@pytest.mark.usefixtures("models")
async def test_a_server_without_ranges_is_hung_up_on(hub: Hub, server: HubServer) -> None:
    server.fault("GET /cdn/.*", no_range=True, count=None, bytes_per_s=20_000_000)
    repository = await hub.repository("org/models")
    header = await hub.read_header(repository, "long.gguf")
    assert header.vocab_size == 100_000
    assert sum(entry.sent_bytes for entry in server.log("cdn")) < 12 * MIB


@pytest.mark.usefixtures("models")
async def test_faults_in_between_are_retried_with_a_fresh_location(hub: Hub, server: HubServer) -> None:
    server.fault("GET /cdn/.*", status=403)
    server.fault("GET /cdn/.*", cut_after_bytes=1000)
    repository = await hub.repository("org/models")
    heard: list[str] = []
    header = await hub.read_header(repository, "short.gguf", on_wait=lambda message, _wait_s: heard.append(message))
    assert header.name == "Tiny"
    assert len(heard) == 2
    assert len(server.log("/resolve/")) == 3


@pytest.mark.usefixtures("models")
async def test_a_server_that_stalls_is_given_up(hub: Hub, server: HubServer) -> None:
    server.fault("GET /cdn/.*", stall_after_bytes=1000, count=None)
    repository = await hub.repository("org/models")
    with pytest.raises(HubUnreachable, match="no answer in time"):
        await hub.read_header(repository, "short.gguf")


@pytest.mark.usefixtures("models")
async def test_a_file_in_the_cache_is_read_there(hub: Hub, server: HubServer) -> None:
    repository = await hub.repository("org/models")
    await hub.download(repository, repository.file("short.gguf"))
    server.reset()
    assert (await hub.read_header(repository, "short.gguf")).name == "Tiny"
    assert server.log() == []


@pytest.mark.usefixtures("models")
async def test_what_is_no_gguf_file_is_named(hub: Hub) -> None:
    repository = await hub.repository("org/models")
    for path in ("page.gguf", "empty.gguf"):
        with pytest.raises(BadFile, match=path):
            await hub.read_header(repository, path)


async def test_missing_and_gated_files_have_their_errors(make_hub: MakeHub) -> None:
    hub = make_hub()
    with pytest.raises(VariantNotFound):
        await hub.read_header(await hub.repository("org/model"), "none.gguf")
    with pytest.raises(GatedRepository):
        await hub.read_header(await hub.repository("org/gated"), "big.gguf")
