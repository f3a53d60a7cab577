"""A way to the Docker engine that a test can cut, silence and restore."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Relay:
    """A socket that leads to the engine, which itself goes on whatever is done to the way."""

    def __init__(self, path: Path, tcp: bool = False) -> None:
        self.path, self.tcp, self.silent = path, tcp, False
        self.pairs: list[socket.socket] = []
        self.listener: socket.socket | None = None
        self.open()

    @property
    def host(self) -> str:
        return f"tcp://127.0.0.1:{self.port}" if self.tcp else f"unix://{self.path}"

    def open(self) -> None:
        if self.tcp:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
        else:
            self.path.unlink(missing_ok=True)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(self.path))
            self.listener.listen(64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.pairs.append(client)
            if not self.silent:
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(engine_socket())
                self.pairs.append(engine)
                for source, sink in ((client, engine), (engine, client)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                while self.silent:
                    time.sleep(0.05)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Close all that is open and listen no more: what a daemon does that ends."""
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            listener.close()
        pairs, self.pairs = self.pairs, []
        for one in pairs:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def engine_socket() -> str:
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


@contextmanager
def relay(tcp: bool = False) -> Iterator[Relay]:
    made = Relay(Path("/tmp", f"pgbackup-relay-{secrets.token_hex(4)}.sock"), tcp)
    try:
        yield made
    finally:
        made.silent = False
        made.cut()
        made.path.unlink(missing_ok=True)
