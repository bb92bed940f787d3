"""The only door to huggingface_hub: where the Hub is, who asks, and what it says about repositories and files.

Imported late (it takes most of a second), its telemetry off. Its functions are synchronous: call them in threads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from lilliput.errors import BadName, HubError, LilliputError
from lilliput.hub.failures import from_status, offline, unreachable
from lilliput.hub.patience import Transient
from lilliput.hub.records import RemoteFile, Repository

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_LIBRARY_NAME = "lilliput"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Location:
    """Where a file can be fetched right now (often a signed URL that expires), and what the Hub says it is."""

    url: str
    size_bytes: int | None
    digest: str | None


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of ``url``; HubError when it has none that HTTP could use."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise HubError("the Hub gave a location that is not a URL") from error
    host = (parts.hostname or "").lower()
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise HubError(f"the Hub gave a location that HTTP cannot reach ({parts.scheme[:20]!r})")
    return parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]


class Library:
    """huggingface_hub for one endpoint; ``endpoint``, ``cache_dir`` and ``token`` default to what its environment says.

    Without ``token``, it is looked up for each call (HF_TOKEN, else the token file): a login takes effect at once.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None, cache_dir: Path | None = None) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        from huggingface_hub import constants  # late: read from the environment at import

        constants.HF_HUB_DISABLE_TELEMETRY = True
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.cache_dir = cache_dir if cache_dir is not None else Path(constants.HF_HUB_CACHE)
        self._token = token.strip() if token else None

    def load(self) -> None:
        """Import what calls will need, in a thread: it takes a quarter of a second.

        What the client would import in the event loop at its first request, tens of milliseconds, too.
        """
        from huggingface_hub import HfApi, get_async_session, get_hf_file_metadata, hf_hub_url

        assert all((HfApi, get_async_session, get_hf_file_metadata, hf_hub_url, anyio.connect_tcp))
        anyio.run(anyio.sleep, 0, backend="asyncio")

    @property
    def place(self) -> str:
        """The Hub by name, for messages."""
        return f"the Hub at {self.endpoint}"

    def token(self) -> str | None:
        """The token to send to the Hub, None without one."""
        if self._token:
            return self._token
        from huggingface_hub import constants, get_token  # late: slow to import

        return None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()

    def client(self) -> httpx2.AsyncClient:
        """A new client with the library's transport, proxies and offline switch; the caller closes it."""
        from huggingface_hub import get_async_session  # late: slow to import

        self.load()
        return get_async_session()

    def repository(self, repo_id: str, revision: str, timeout_s: float) -> Repository:
        """A repository with the size and digest of every file, pinned to the commit that ``revision`` means now."""
        from huggingface_hub import HfApi  # late: slow to import

        token = self.token()
        with self._asking(f"{repo_id} at {revision}", repo_id, has_token=token is not None):
            api = HfApi(endpoint=self.endpoint, token=token or False, library_name=_LIBRARY_NAME)
            info = api.model_info(
                repo_id, revision=None if revision == "main" else revision, timeout=timeout_s, files_metadata=True
            )
            return _repository(repo_id, revision, info)

    def locate(self, repository: Repository, path: str, timeout_s: float) -> Location:
        """Where to fetch a file of a repository from; the Hub's own origin for small files, a CDN for large ones."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url  # late: slow to import

        token = self.token()
        with self._asking(f"{repository.repo_id}/{path}", repository.repo_id, has_token=token is not None):
            url = hf_hub_url(repository.repo_id, path, revision=repository.revision, endpoint=self.endpoint)
            found = get_hf_file_metadata(url, token=token or False, timeout=timeout_s, library_name=_LIBRARY_NAME)
            return Location(url=found.location, size_bytes=found.size, digest=found.etag)

    def headers_for(self, url: str, token: str | None) -> dict[str, str]:
        """Headers for fetching ``url``; the token goes to the Hub's own origin and nowhere else."""
        if token is not None and origin_of(url) == origin_of(self.endpoint):
            return {"Authorization": f"Bearer {token}"}
        return {}

    @contextmanager
    def _asking(self, what: str, repo_id: str, *, has_token: bool) -> Iterator[None]:
        from huggingface_hub.errors import HfHubHTTPError  # late: slow to import

        try:
            yield
        except LilliputError:
            raise
        except HfHubHTTPError as error:
            response = error.response
            raise from_status(
                response.status_code,
                response.headers,
                what=what,
                repo_id=repo_id,
                endpoint=self.endpoint,
                has_token=has_token,
            ) from error
        except Exception as error:
            raise self.translate(error, what) from error

    def translate(self, error: Exception, what: str, place: str | None = None) -> LilliputError | Transient:
        """What an exception of huggingface_hub or its HTTP client means, raised while asking ``place`` for ``what``."""
        import httpx2  # late: slow to import
        from huggingface_hub.errors import OfflineModeIsEnabled

        place = place or self.place
        reason = str(error) or type(error).__name__
        if isinstance(error, OfflineModeIsEnabled):
            return offline(self.endpoint)
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
            return HubError(f"{what} cannot be asked for: {reason}", hint="check HF_ENDPOINT and HF_TOKEN")
        if isinstance(error, httpx2.TimeoutException):
            return Transient(unreachable(place, f"no answer in time for {what}"))
        if isinstance(error, httpx2.TransportError):
            return Transient(unreachable(place, reason))
        return HubError(
            f"{place} gave an answer for {what} that cannot be used ({type(error).__name__}: {reason[:200]})",
            hint="check that HF_ENDPOINT is a Hugging Face Hub",
        )


def _repository(asked_id: str, ref: str, info: ModelInfo) -> Repository:
    files = [file for sibling in info.siblings or () if (file := _file(sibling)) is not None]
    return Repository(
        # The Hub finds names in any case; the cache of all tools is under the one spelling that the Hub itself uses.
        repo_id=info.id if info.id.lower() == asked_id.lower() else asked_id,
        revision=info.sha or "",
        files=tuple(files),
        gated=bool(info.gated),
        license=_license(info),
        ref=ref,
    )


def _file(sibling: RepoSibling) -> RemoteFile | None:
    size_bytes = sibling.lfs.size if sibling.lfs is not None else sibling.size
    if not isinstance(size_bytes, int):
        raise HubError(f"the Hub gave no size for {sibling.rfilename[:200]!r}")
    try:
        return RemoteFile(
            path=sibling.rfilename,
            size_bytes=size_bytes,
            sha256=sibling.lfs.sha256 if sibling.lfs is not None else None,
            git_sha1=sibling.blob_id,
        )
    except BadName as error:
        _log.warning("a file of the repository is left out: %s", error.message)
        return None


def _license(info: ModelInfo) -> str | None:
    name = getattr(info.card_data, "license", None)
    if name == "other":
        name = getattr(info.card_data, "license_name", None) or name
    if isinstance(name, str):
        return name
    return next((tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")), None)
