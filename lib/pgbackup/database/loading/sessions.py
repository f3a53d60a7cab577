"""Sessions of psql that load side by side: each is fed as far as it takes, and says how far it is."""

from __future__ import annotations

import os
import re
import secrets
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from pgbackup import interrupt
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import psql
from pgbackup.database.loading.psql import Feed
from pgbackup.errors import BackupBad, SuiteError, Unavailable

_COMMENTS = re.compile(rb"^--[^\n]*\n", re.MULTILINE)
_SETTINGS_BYTES = 1 << 20
_TICK_MS = 200
_ANSWER_BYTES = 1 << 16
_LONGEST_ANSWER = 100
# A server that has lost one session to a crash ends the others: which one was the cause is then to be seen.
_ALL_TELL_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """What a session is at work on. about: the object, "" where its tape is to tell; rows_before: see Feed.end()."""

    number: int
    about: str
    rows_before: int


class Session:
    """One psql. What it is given waits here until psql takes it.

    tasks: what it has not done yet, oldest first; asked: how many it was given so far. waiting_bytes: not taken by psql
    yet. over: psql has ended.
    """

    def __init__(self, feed: Feed, answers: int) -> None:
        """answers: a descriptor that reads what psql prints; does not block."""
        self.tasks: deque[Task] = deque()
        self.waiting_bytes = 0
        self.over = False
        self.feed, self.answers = feed, answers
        self._waiting: deque[memoryview] = deque()
        self._token = secrets.token_hex(24)  # no dump can know it, and so none can answer for us
        self._answer = re.compile(self._token.encode() + rb" (\d+)\n")
        self._heard = b""
        self.asked = 0
        self._since = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether it has done all that it was given, up to the last task()."""
        return not self.waiting_bytes and not self.tasks

    def has_done(self, number: int) -> bool:
        """Whether it has done so many of its tasks."""
        return not self.tasks or self.tasks[0].number > number

    def put(self, statements: bytes) -> None:
        """Give it statements."""
        self.feed.tape.note(statements)
        self._wait_with(statements)

    def put_rows(self, rows: bytes) -> int:
        """Give it more rows for the COPY that was put. Return how many lines they are."""
        lines = rows.count(b"\n")
        self.feed.tape.note(b"\n" * lines)
        self._wait_with(rows)
        return lines

    def task(self, about: str = "", rows_before: int = 0) -> None:
        """What was put since the last one is a task, which it will say when it has done it."""
        self.asked += 1
        self.tasks.append(Task(self.asked, about, rows_before))
        self.put(f"\nSELECT '{self._token} {self.asked}';\n".encode())

    def _wait_with(self, text: bytes) -> None:
        if self.is_idle:
            self._since = time.monotonic()
        if text:
            self._waiting.append(memoryview(text))
            self.waiting_bytes += len(text)

    def move(self) -> None:
        """Hand psql what it takes now, and hear what it says."""
        try:
            while self._waiting and (taken := self.feed.sink.offer(self._waiting[0])):
                self._since = time.monotonic()
                self.waiting_bytes -= taken
                if taken == len(self._waiting[0]):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = self._waiting[0][taken:]
        except BrokenPipeError:
            self.over = True
        self._hear()

    def _hear(self) -> None:
        try:
            while said := os.read(self.answers, _ANSWER_BYTES):
                self._heard += said
                for found in self._answer.finditer(self._heard):
                    self._since = time.monotonic()
                    while self.tasks and self.tasks[0].number <= int(found[1]):
                        self.tasks.popleft()
                self._heard = self._heard[-_LONGEST_ANSWER:]
            self.over = True
        except BlockingIOError:
            pass

    def require_progress(self) -> None:
        """Raise Unavailable when it has neither taken nor said anything for LOAD_STALL_SECONDS."""
        if not self.is_idle and time.monotonic() - self._since > self.feed.patience:
            raise Unavailable(
                f"the load into '{self.feed.sink.database}' took nothing for {self.feed.patience:g} s",
                "is a statement waiting for a lock? LOAD_STALL_SECONDS sets the limit",
            )

    def failure(self) -> SuiteError:
        """Why psql is over."""
        task = self.tasks[0] if self.tasks else Task(0, "", 0)
        found = self.feed.end(task.about, task.rows_before)
        return found or Unavailable(f"psql for '{self.feed.sink.database}' ended before it was done")


Opening = Callable[[bytes], AbstractContextManager[Session]]


class Crew:
    """The sessions of one load.

    main: the one for all that keeps the dump's order. members: those that were opened. most: how many there may be.
    """

    def __init__(self, opening: Opening, stack: ExitStack) -> None:
        """opening: opens a session, given what it begins with. stack: closes them."""
        self._opening, self._stack = opening, stack
        self._settings: dict[bytes, bytes] = {}
        self.main = stack.enter_context(opening(b""))
        self.members = [self.main]
        self.most = 1

    def everybody(self) -> list[Session]:
        """All that there may be, opened where they are not."""
        while len(self.members) < self.most:
            self.members.append(self._stack.enter_context(self._opening(b"".join(self._settings.values()))))
        return self.members

    def set(self, text: bytes) -> None:
        """Give all of them a setting, now or when they are opened."""
        note(text, self._settings)
        self.main.put(text)
        for session in self.members[1:]:
            session.put(text + b"\n")

    def has_default(self, setting: str) -> bool:
        """Whether the dump leaves a setting as it is in a new database, or empty, which for some means the same."""
        statement = self._settings.get(f"SET {setting}".encode(), b"")
        return not statement or statement.strip().endswith(b"= '';")

    def gather(self, but: Mapping[Session, int] = MappingProxyType({})) -> None:
        """Wait until all have done what they were given, or of those, so many of their tasks. Raise as pump() does."""
        awaited = [session for session in self.members if session not in but]
        for session in awaited:
            session.task()
        self.pump(
            lambda: (
                all(session.is_idle for session in awaited)
                and all(session.has_done(number) for session, number in but.items())
            )
        )

    def hand_over(self, session: Session, bytes_left: int) -> None:
        """Wait until no more than that waits for a session to take it. Raise as pump() does."""
        self.pump(lambda: session.waiting_bytes <= bytes_left)

    def pump(self, done: Callable[[], bool]) -> None:
        """Move them all on until `done`."""
        pump(self.members, done)


def note(text: bytes, made: dict[bytes, bytes]) -> None:
    """Remember a setting that a dump makes; the last one of its name counts."""
    statement = _COMMENTS.sub(b"", text).strip()
    name = b" ".join(statement.split(b"=")[0].split()[:2])
    made.pop(name, None)
    made[name] = statement + b"\n"
    if sum(map(len, made.values())) > _SETTINGS_BYTES:
        raise BackupBad("the dump has more settings than any that pg_dump writes")


@contextmanager
def opened(client: Client, program: list[str], restricts: bool, prelude: bytes) -> Iterator[Session]:
    """Give a session for the length of the block; see psql.fed(). Raise what its failure means."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    with ExitStack() as stack:
        stack.callback(os.close, read_end)
        try:
            os.set_blocking(read_end, False)
            feed = stack.enter_context(psql.fed(client, program, restricts, prelude, write_end))
        finally:
            os.close(write_end)
        yield Session(feed, read_end)


def pump(sessions: Sequence[Session], done: Callable[[], bool]) -> None:
    """Move all sessions on until `done`. Raise why one of them has failed, Unavailable when one is stuck, Interrupted.

    That one session is slow holds up none of the others.
    """
    while True:
        interrupt.check()
        for session in sessions:
            session.move()
        if any(session.over for session in sessions):
            raise _failure(sessions)
        if done():
            return
        for session in sessions:
            session.require_progress()
        _wait(sessions)


def _wait(sessions: Sequence[Session]) -> None:
    poll = select.poll()
    for session in sessions:
        poll.register(session.answers, select.POLLIN)
        if session.waiting_bytes:
            poll.register(session.feed.sink.fd, select.POLLOUT)
    poll.poll(_TICK_MS)


def _failure(sessions: Sequence[Session]) -> SuiteError:
    """Why a session is over: what a statement has failed of, rather than the end of a connection."""
    deadline = time.monotonic() + _ALL_TELL_SECONDS
    told: dict[int, SuiteError] = {}
    while True:
        for number, session in enumerate(sessions):
            if number not in told:
                session.move()
                if session.over:
                    told[number] = session.failure()
        causes = [failure for failure in told.values() if not isinstance(failure, Unavailable)]
        if causes or len(told) == len(sessions) or time.monotonic() > deadline:
            return (causes or list(told.values()))[0]
        time.sleep(0.02)
