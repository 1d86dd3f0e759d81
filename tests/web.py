"""A web server in this process, with the faults of real ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """One file that is served, and how."""

    content: bytes
    ranges: bool = True
    """Whether parts of it are sent when asked for."""
    tag: str | None = "digest"
    """The ETag; "digest": of the content, in quotes; None: none."""
    dated: bool = False
    """Whether it says when it was changed."""
    chunked: bool = False
    """Sent without its length."""
    cuts: list[int] = field(default_factory=list)
    """The connection is closed after so many bytes, once for each."""
    answers: list[int] = field(default_factory=list)
    """Answered by these codes first."""
    to: str | None = None
    """Redirected there."""
    gate: threading.Event | None = None
    """The second half is sent once it is set."""

    @property
    def etag(self) -> str | None:
        return f'"{hashlib.md5(self.content).hexdigest()}"' if self.tag == "digest" else self.tag


@dataclass
class Web:
    """`pages` by path; `asked` has (path, Range header) of each request."""

    url: str = ""
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def add(self, path: str, content: bytes, **how: object) -> str:
        self.pages[path] = Page(content, **how)
        return self.url + path


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            web.asked.append((self.path, wanted))
            page = web.pages.get(self.path)
            if page is None or page.answers:
                return self.send_error(page.answers.pop(0) if page else 404)
            if page.to:
                self.send_response(302)
                self.send_header("Location", page.to)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            date = "Mon, 01 Jan 2024 00:00:00 GMT" if page.dated else None
            begin = 0
            if wanted and page.ranges and self.headers.get("If-Range") in (page.etag, date):
                begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(page.content) > 0:
                return self.send_error(416)
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(page.content) - 1}/{len(page.content)}")
            for name, value in (("ETag", page.etag), ("Last-Modified", date)):
                if value:
                    self.send_header(name, value)
            body = page.content[begin:]
            if page.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = page.cuts.pop(0) if page.cuts else None
            part = body if cut is None else body[:cut]
            if page.gate is not None:
                self.wfile.write(part[:len(part) // 2])
                self.wfile.flush()
                page.gate.wait(25)  # less than clients wait for a byte
                part = part[len(part) // 2:]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if page.chunked else part)
            if page.chunked and cut is None:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

    return Handler


@contextmanager
def serving() -> Iterator[Web]:
    """A `Web` on a free port of this machine."""
    web = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(web))
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
