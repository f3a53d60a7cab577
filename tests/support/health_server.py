"""An HTTPS server on this host that answers as a payment service's health URL does."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Health:
    """status: what it answers, changed at will; asked: how often it was. certificate: its own, self-signed."""

    url: str
    certificate: Path
    status: int = 200
    asked: list[str] = field(default_factory=list)


def certificate(directory: Path, name: str = "localhost") -> tuple[Path, Path]:
    """Make a self-signed certificate; return it and its key."""
    made, key = directory / f"{name}.pem", directory / f"{name}.key"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    request += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(made)]
    subprocess.run(request, check=True, capture_output=True)
    return made, key


@contextmanager
def running(directory: Path) -> Iterator[Health]:
    """Give a server that listens on a free port of localhost."""
    made, key = certificate(directory)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            health.asked.append(self.path)
            self.send_response(health.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    health = Health(f"https://localhost:{server.server_address[1]}/auth/health", made)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield health
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
