"""A service of the payment system: service.py CONNECTION. It keeps its session with the database open, as a pool does.

POST /auth/register   adds a user: JSON with phone_number, email, password
GET  /auth/health     whether the database answers; /payments/health/check likewise
GET  /payments        the newest payments
"""

import hashlib
import json
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg2

_ADD = """INSERT INTO users (id, phone_number, email, full_name, password_hash)
          VALUES (gen_random_uuid(), %s, %s, '', %s) RETURNING id::text"""
_LIST = "SELECT id::text FROM payments ORDER BY created_at DESC LIMIT 20"


class Database:
    """One session, opened anew when it was lost. One query at a time."""

    def __init__(self, connection: str) -> None:
        self.connection = connection
        self.session: psycopg2.extensions.connection | None = None
        self.alone = threading.Lock()

    def ask(self, query: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Return the rows. A session that turns out to have been ended since the last query is replaced once."""
        with self.alone:
            try:
                return self.once(query, values)
            except psycopg2.OperationalError:
                self.session = None
                return self.once(query, values)

    def once(self, query: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
        if self.session is None or self.session.closed:
            self.session = psycopg2.connect(self.connection)
            self.session.autocommit = True
        with self.session.cursor() as cursor:
            cursor.execute(query, values)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows


class Server(ThreadingHTTPServer):
    def __init__(self, connection: str) -> None:
        super().__init__(("0.0.0.0", 8080), Handler)  # noqa: S104  the container's own network
        self.database = Database(connection)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path in ("/auth/health", "/payments/health/check"):
            self.answer(200, lambda: {"status": "healthy", "database": self.server.database.ask("SELECT 1")[0][0] == 1})
        elif self.path == "/payments":
            self.answer(200, lambda: [row[0] for row in self.server.database.ask(_LIST)])
        else:
            self.answer(404, lambda: {"error": "no such path"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/auth/register":
            self.answer(404, lambda: {"error": "no such path"})
            return
        self.answer(201, lambda: {"id": self.register(json.loads(body))})

    def register(self, user: dict[str, str]) -> str:
        secret = hashlib.sha256(user["password"].encode()).hexdigest()
        return str(self.server.database.ask(_ADD, (user["phone_number"], user["email"], secret))[0][0])

    def answer(self, status: int, make: Callable[[], object]) -> None:
        try:
            document = make()
        except psycopg2.IntegrityError as error:
            status, document = 409, {"error": str(error).splitlines()[0]}
        except psycopg2.Error as error:
            status, document = 503, {"status": "unhealthy", "error": str(error).splitlines()[0]}
        except (KeyError, ValueError) as error:
            status, document = 400, {"error": repr(error)}
        data = json.dumps(document).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # PID 1 has no default action
    server = Server(sys.argv[1])
    print("listening", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
