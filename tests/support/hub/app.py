"""The two origins: the Hub with its API and ``resolve`` routes, and the CDN with the large files."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.support.hub.body import file_response
from tests.support.hub.config import MEMBER_TOKEN, READER_TOKEN, ServerConfig, parse_repository
from tests.support.hub.faults import Fault, LogEntry, Trouble
from tests.support.hub.repositories import ServedFile, ServedRepository

Handler = Callable[[Request, LogEntry, Fault | None], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


class RefusedError(Exception):
    """A request that ends with an error answer."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def refuse(status: int, code: str | None, message: str, **headers: str) -> RefusedError:
    """An error as the Hub words it: code and message in headers, message in the body."""
    named = {"X-Error-Message": message, **headers} | ({"X-Error-Code": code} if code else {})
    return RefusedError(JSONResponse({"error": message}, status_code=status, headers=named))


class HubApp:
    """Both applications over one set of repositories and one log."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._trouble = Trouble()
        self._repositories: dict[str, ServedRepository] = {}
        for name, repository in config.repositories.items():
            self._repositories[name] = ServedRepository(name, repository, config.lfs_threshold_bytes)
        self.cdn_url = ""

    def hub(self) -> Starlette:
        """The Hub's own origin, with the ``/_test`` routes."""
        model = "/api/models/{owner}/{name}"
        read = ["GET", "HEAD"]
        return Starlette(
            routes=[
                Route("/_test/fault", self._add_fault, methods=["POST"]),
                Route("/_test/reset", self._reset, methods=["POST"]),
                Route("/_test/repositories", self._add_repositories, methods=["POST"]),
                Route("/_test/log", self._show_log),
                Route("/api/whoami-v2", self._logged("hub", self._whoami)),
                Route("/api/models", self._logged("hub", self._search)),
                Route(model, self._logged("hub", self._info), methods=read),
                Route(model + "/revision/{revision:path}", self._logged("hub", self._info), methods=read),
                Route(model + "/refs", self._logged("hub", self._refs)),
                Route(model + "/auth-check", self._logged("hub", self._auth_check)),
                Route(model + "/tree/{revision}", self._logged("hub", self._tree)),
                Route(model + "/tree/{revision}/{folder:path}", self._logged("hub", self._tree)),
                Route(model + "/paths-info/{revision}", self._paths_info, methods=["POST"]),
                Route(
                    "/{owner}/{name}/resolve/{revision}/{path:path}", self._logged("hub", self._resolve), methods=read
                ),
                Route("/{rest:path}", self._logged("hub", self._nothing), methods=read),
            ]
        )

    def cdn(self) -> Starlette:
        """The CDN's origin: files by digest."""
        route = Route("/cdn/{sha256}", self._logged("cdn", self._serve), methods=["GET", "HEAD"])
        return Starlette(routes=[route, Route("/{rest:path}", self._logged("cdn", self._nothing))])

    def _logged(self, origin: str, handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return await self._handle(origin, request, handler)

        return endpoint

    async def _handle(self, origin: str, request: Request, handler: Handler) -> Response:
        headers = {key.lower(): value for key, value in request.headers.items()}
        entry, fault = self._trouble.enter(origin, request.method, request.url.path, request.url.query, headers)
        if fault is not None and fault.hang_s is not None:
            await asyncio.sleep(fault.hang_s)
        if fault is not None and fault.status is not None:
            response = Response(status_code=fault.status, headers=fault.headers)
        else:
            try:
                response = handler(request, entry, fault)
            except RefusedError as error:
                response = error.response
        entry.status = response.status_code
        return response

    # Control

    async def _add_fault(self, request: Request) -> Response:
        self._trouble.add(await request.json())
        return JSONResponse({})

    async def _reset(self, _request: Request) -> Response:
        self._trouble.reset()
        return JSONResponse({})

    async def _add_repositories(self, request: Request) -> Response:
        document: dict[str, Any] = await request.json()
        for name, entry in document.items():
            self._repositories[name] = ServedRepository(name, parse_repository(entry), self._config.lfs_threshold_bytes)
        return JSONResponse({name: self._repositories[name].revision for name in document})

    async def _show_log(self, _request: Request) -> Response:
        return JSONResponse(self._trouble.log())

    # API

    def _whoami(self, request: Request, _entry: LogEntry, _fault: Fault | None) -> Response:
        token = _token(request)
        if token is None:
            raise refuse(401, None, "Invalid credentials in Authorization header")
        return JSONResponse({"type": "user", "name": token, "auth": {"accessToken": {"role": "read"}}})

    def _search(self, request: Request, _entry: LogEntry, _fault: Fault | None) -> Response:
        token = _token(request)
        wanted = request.query_params.get("search", "").lower()
        limit = int(request.query_params.get("limit", "100"))
        shown = [
            repository.info(blobs=False)
            for name, repository in self._repositories.items()
            if wanted in name.lower() and (not repository.config.private or token == MEMBER_TOKEN)
        ]
        return JSONResponse(shown[:limit])

    def _info(self, request: Request, _entry: LogEntry, _fault: Fault | None) -> Response:
        repository = self._repository(request)
        return JSONResponse(repository.info(blobs=request.query_params.get("blobs", "").lower() == "true"))

    def _refs(self, request: Request, _entry: LogEntry, _fault: Fault | None) -> Response:
        revision = self._repository(request).revision
        branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": revision}]
        return JSONResponse({"branches": branches, "converts": [], "tags": []})

    def _auth_check(self, request: Request, _entry: LogEntry, _fault: Fault | None) -> Response:
        _check_gate(request, self._repository(request))
        return JSONResponse({})

    def _tree(self, request: Request, _entry: LogEntry, _fault: Fault | None) -> Response:
        repository = self._repository(request)
        folder = request.path_params.get("folder", "").strip("/")
        entries = repository.entries(folder, recursive=request.query_params.get("recursive", "").lower() == "true")
        if folder and not entries:
            raise refuse(404, "EntryNotFound", f"{folder} does not exist", **{"X-Repo-Commit": repository.revision})
        start = int(request.query_params.get("cursor", "0"))
        stop = start + self._config.page_size
        headers = {"X-Repo-Commit": repository.revision}
        if stop < len(entries):
            headers["Link"] = f'<{request.url.include_query_params(cursor=stop)}>; rel="next"'
        return JSONResponse(entries[start:stop], headers=headers)

    async def _paths_info(self, request: Request) -> Response:
        paths = parse_qs((await request.body()).decode()).get("paths", [])

        def answer(request: Request, _entry: LogEntry, _fault: Fault | None) -> Response:
            files = self._repository(request).files
            return JSONResponse([files[path].tree_entry() for path in paths if path in files])

        return await self._handle("hub", request, answer)

    def _resolve(self, request: Request, entry: LogEntry, fault: Fault | None) -> Response:
        repository = self._repository(request)
        _check_gate(request, repository)
        headers = {"X-Repo-Commit": repository.revision}
        file = repository.files.get(request.path_params["path"])
        if file is None:
            raise refuse(404, "EntryNotFound", "Entry not found", **headers)
        if not file.is_lfs:
            return file_response(request, file, entry, fault, headers)
        return Response(status_code=302, headers=headers | self._lfs_headers(repository, file))

    def _lfs_headers(self, repository: ServedRepository, file: ServedFile) -> dict[str, str]:
        headers = {
            "Location": f"{self.cdn_url}/cdn/{file.sha256}?filename={quote(file.path)}&Signature=test",
            "ETag": f'"{hashlib.md5(file.sha256.encode(), usedforsecurity=False).hexdigest()}"',
            "X-Linked-Etag": f'"{file.sha256}"',
            "X-Linked-Size": str(file.size_bytes),
            "Accept-Ranges": "bytes",
        }
        if repository.config.xet:
            route = f"/api/models/{repository.name}/xet-read-token/{repository.revision}"
            headers |= {"X-Xet-Hash": file.sha256, "Link": f'<{route}>; rel="xet-auth"'}
        return headers

    def _serve(self, request: Request, entry: LogEntry, fault: Fault | None) -> Response:
        wanted = request.path_params["sha256"]
        for repository in self._repositories.values():
            for file in repository.files.values():
                if file.is_lfs and file.sha256 == wanted:
                    return file_response(request, file, entry, fault, {})
        return Response(status_code=404)

    def _nothing(self, _request: Request, _entry: LogEntry, _fault: Fault | None) -> Response:
        return Response(status_code=404)

    def _repository(self, request: Request) -> ServedRepository:
        token = _token(request)
        name = f"{request.path_params['owner']}/{request.path_params['name']}"
        repository = self._repositories.get(name)
        if repository is None or (repository.config.private and token != MEMBER_TOKEN):
            raise refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        if not repository.knows(request.path_params.get("revision", "main")):
            raise refuse(404, "RevisionNotFound", "Invalid rev id")
        return repository


def _token(request: Request) -> str | None:
    """The token of the request; refused when it is not one of the known two."""
    value = request.headers.get("authorization")
    if value is None:
        return None
    token = value.removeprefix("Bearer ")
    if token not in (READER_TOKEN, MEMBER_TOKEN):
        raise refuse(401, None, "Invalid credentials in Authorization header")
    return token


def _check_gate(request: Request, repository: ServedRepository) -> None:
    token = _token(request)
    if repository.config.gated and token != MEMBER_TOKEN:
        message = f"Access to model {repository.name} is restricted and you are not in the authorized list."
        raise refuse(403 if token else 401, "GatedRepo", message)
