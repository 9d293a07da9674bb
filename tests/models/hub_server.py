"""A Hugging Face hub for tests: one repository on this machine, as far as fetching a file asks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds, how it answers and what it was asked; may be changed while it runs."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Files of the repository `owner/repo`, at `main` and at `COMMIT`."""
    commit: str = COMMIT
    refusal: tuple[int, dict[str, str]] | None = None
    """Status and headers of every answer to a request for a file, in place of it."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of the requests for files, in order."""
    endpoint: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if self.refusal is not None:
            return *self.refusal, b""
        owner, repository, _, revision, file = unquote(path).lstrip("/").split("/", 4)
        if (owner, repository) != ("owner", "repo"):
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in ("main", self.commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        headers = {"X-Repo-Commit": self.commit}
        if file not in self.files:
            return 404, headers | {"X-Error-Code": "EntryNotFound"}, b""
        data = self.files[file]
        return 200, headers | {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'}, data


@contextmanager
def serve(hub: Hub) -> Iterator[None]:
    """Serves `hub` at `hub.endpoint` until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/resolve/" in self.path:
                hub.requests.append((self.command, self.path))
                status, headers, data = hub.answer(self.path)
            else:  # huggingface_hub asks for things of its own
                status, headers, data = 404, {}, b""
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
