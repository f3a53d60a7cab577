"""A way to an S3 server that makes trouble when a test wants it: refuses, fails, cuts off, is slow."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_PIECE_BYTES = 1 << 16
_CODES = {403: "AccessDenied", 412: "PreconditionFailed", 500: "InternalError", 503: "SlowDown", 507: "StorageFull"}


class Trouble:
    """What is done to requests. of: their methods; status: the answer, 0 to pass them on.

    after: how many of copies of backups go unharmed, and with them all that goes along at the same time.

    cut_after: bytes of an upload after which both sides lose the connection, before the server has all of it; -1 for
    never. lost: the server does what it is asked, and its answer is lost. bytes_a_second: 0 for no limit.
    """

    def __init__(
        self,
        of: str = "",
        status: int = 0,
        after: int = 0,
        cut_after: int = -1,
        lost: bool = False,
        bytes_a_second: int = 0,
    ) -> None:
        self.of, self.status, self.after = of.split(), status, after
        self.cut_after, self.lost, self.bytes_a_second = cut_after, lost, bytes_a_second
        self.seen = 0
        self.counting = threading.Lock()

    def meets(self, method: str, path: str) -> bool:
        """Whether this request is one of those."""
        if method not in self.of:
            return False
        if "/dumps/" not in path:
            return not self.after
        with self.counting:
            self.seen += 1
            return self.seen > self.after


class Way:
    """endpoint: what a client is told. trouble: set it while it runs; None for none."""

    def __init__(self, server: str) -> None:
        self.trouble: Trouble | None = None
        self._server = urlsplit(server).netloc
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, self._server))
        self.http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.http.server_address[1]}"


def _handler(way: Way, server: str) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def log_message(self, *_: object) -> None:
            pass

        def _pass(self) -> None:
            trouble = way.trouble
            if trouble and not trouble.meets(self.command, self.path):
                trouble = None
            left = int(self.headers.get("Content-Length") or 0)
            if trouble and trouble.status:
                while left:
                    left -= len(self.rfile.read(min(left, _PIECE_BYTES)))
                self._answer(trouble.status)
                return
            upstream = http.client.HTTPConnection(server, timeout=60)
            try:
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "expect":
                        upstream.putheader(name, value)
                upstream.endheaders()
                sent = 0
                while left:
                    piece = self.rfile.read(min(left, _PIECE_BYTES))
                    if not piece or (trouble and 0 <= trouble.cut_after < sent + len(piece)):
                        self.close_connection = True
                        return
                    upstream.send(piece)
                    sent, left = sent + len(piece), left - len(piece)
                    if trouble and trouble.bytes_a_second:
                        time.sleep(len(piece) / trouble.bytes_a_second)
                self._hand_back(upstream.getresponse(), trouble)
            except OSError:
                self.close_connection = True
            finally:
                upstream.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass

        def _hand_back(self, answer: http.client.HTTPResponse, trouble: Trouble | None) -> None:
            body = answer.read()
            if trouble and trouble.lost:
                self.close_connection = True
                return
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _answer(self, status: int) -> None:
            text = f"<Error><Code>{_CODES[status]}</Code><Message>trouble</Message></Error>".encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

    return Handler


@contextmanager
def way(server: str) -> Iterator[Way]:
    """A way to that endpoint, for the length of the block."""
    made = Way(server)
    serving = threading.Thread(target=made.http.serve_forever, daemon=True)
    serving.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        with suppress(OSError):
            made.http.server_close()
        serving.join()
