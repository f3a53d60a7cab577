"""Reads what Docker, psql and pg_dump say when they fail, and says it again with an exit status and a next step."""

from __future__ import annotations

import re

from pgbackup import docker
from pgbackup.errors import IoFailed, KnownFailure, PermissionDenied, SuiteError, Unavailable
from pgbackup.settings.config import Target

_CROWDED = r"too many clients already|remaining connection slots|too many connections for"

_KNOWN = [
    *docker.FAILURES,
    KnownFailure(
        # A write that came to less than was asked for has no error number of its own (storage/smgr/md.c).
        r"(?:ERROR|FATAL|PANIC): .*(?:No space left on device|could not (?:extend|write to) file .*: wrote only)",
        IoFailed,
        "the disk of the server of '{database}' is full: {reason}",
        "make room on the server: --drop-old drops old copies, --in-place needs room for one and an empty one",
    ),
    KnownFailure(
        r'permission denied for database "?([^"\n]+)',
        PermissionDenied,
        "role '{user}' may not connect to '{0}': {reason}",
        'let it: GRANT CONNECT ON DATABASE "{0}" TO "{user}";',
    ),
    KnownFailure(
        r"permission denied for large object",
        PermissionDenied,
        "role '{user}' may not read everything in '{database}': {reason}",
        "dump as the owner of the large objects, or as a superuser: {KEY}_USER",
    ),
    KnownFailure(
        r"permission denied for \S+ \S+",
        PermissionDenied,
        "role '{user}' may not read everything in '{database}': {reason}",
        'let it: GRANT pg_read_all_data TO "{user}";',
    ),
    KnownFailure(
        r"row-level security policy",
        PermissionDenied,
        "row level security hides rows of '{database}' from role '{user}': {reason}",
        'let it see them all: ALTER ROLE "{user}" BYPASSRLS;',
    ),
    KnownFailure(
        r"no password supplied|no pg_hba\.conf entry|authentication failed|pg_hba\.conf rejects",
        PermissionDenied,
        "the server does not let role '{user}' in: {reason}",
        "with the sidecar or direct client set {KEY}_PASSFILE to a .pgpass file (0600) with a line for the host"
        " (127.0.0.1); exec cannot use one and needs 'trust' or 'peer' for 'local' in pg_hba.conf",
    ),
    KnownFailure(
        r'role "[^"]*" does not exist|role "[^"]*" is not permitted to log in',
        PermissionDenied,
        "the server does not let role '{user}' in: {reason}",
        'check {KEY}_USER, or CREATE ROLE "{user}" LOGIN;',
    ),
    KnownFailure(
        r"due to conflict with recovery",
        Unavailable,
        "the standby of '{database}' has cancelled the dump, to go on with what its primary sends: {reason}",
        "back up from the primary; or on the standby: ALTER SYSTEM SET hot_standby_feedback = on; or a"
        " max_standby_streaming_delay longer than a dump takes; then: SELECT pg_reload_conf();",
    ),
    KnownFailure(
        r'cannot connect to invalid database "?([^"\n]*)',
        Unavailable,
        "database '{0}' is invalid, a DROP DATABASE was interrupted: {reason}",
        'DROP DATABASE "{0}"; then restore its last backup',
    ),
    KnownFailure(
        r'database "(.*)" does not exist',
        Unavailable,
        "there is no database '{0}': {reason}",
        "check {KEY}_DATABASE, or restore its last backup",
    ),
    KnownFailure(
        r"is not currently accepting connections",
        Unavailable,
        "database '{database}' is closed to connections: {reason}",
        'open it: ALTER DATABASE "{database}" ALLOW_CONNECTIONS true;',
    ),
    KnownFailure(
        # pg_dump sets --lock-wait-timeout as statement_timeout, around LOCK TABLE only.
        r"due to (?:lock|statement) timeout(?:.*\n)*?.*Query was: (LOCK TABLE .*)|due to lock timeout",
        Unavailable,
        "a table of '{database}' stayed locked by another session: {reason}; {0}",
        "find who: SELECT relation::regclass, pid FROM pg_locks WHERE mode = 'AccessExclusiveLock'; or raise"
        " LOCK_WAIT_SECONDS",
    ),
    KnownFailure(
        r"server version mismatch(?:.*\n)*?.*?(server version: .*)",
        Unavailable,
        "the client programs are older than the server of '{database}': {0}",
        "use {KEY}_CLIENT=auto, or install the server's own client programs: apt-get install postgresql-client",
    ),
    KnownFailure(
        _CROWDED,
        Unavailable,
        "the server of '{database}' is out of connections: {reason}",
        'raise max_connections, or on PostgreSQL 16 and later GRANT pg_use_reserved_connections TO "{user}";',
    ),
    KnownFailure(
        r"the database system is",
        Unavailable,
        "the server of '{database}' does not accept connections: {reason}",
        "{LOGS}",
    ),
    KnownFailure(
        r"server closed the connection unexpectedly|connection to server was lost",
        Unavailable,
        "the server of '{database}' has ended the connection: {reason}",
        "{LOGS}",
    ),
]

_PASSING = re.compile(
    r"the database system is (starting up|shutting down|in recovery mode|not yet accepting)"
    rf"|{_CROWDED}"
    r"|is paused|is restarting|Connection refused|failed: No such file or directory"
    r"|timeout expired|server closed the connection unexpectedly"
    r"|terminating connection due to administrator command"
)

_NOISE = re.compile(r"^(psql|pg_dump|pg_basebackup|docker|Error response from daemon|Error): +(error: |FATAL: +)?")


_NOBODY = re.compile(r"Connection refused|failed: No such file or directory")
# As psql says it with VERBOSITY=verbose: the severity is in the server's language, the code is not.
_STATE = re.compile(r"^((?:psql:\S+ )?\w+: +)([0-9A-Z]{5}): ", re.MULTILINE)
_LOCATION = re.compile(r"^LOCATION: .*\n?", re.MULTILINE)
_OUR_LINE = re.compile(r"^psql:<stdin>:\d+: ", re.MULTILINE)


def unnumbered(stderr: str) -> str:
    """What psql said of statements of our own, without the lines in which they stood."""
    return _OUR_LINE.sub("", stderr)


def nobody_listens(stderr: str) -> bool:
    """Whether there is no server at the port that was asked."""
    return bool(_NOBODY.search(stderr))


def is_pooler(stderr: str) -> bool:
    """Whether a connection pooler has refused what a server takes (PgBouncer: ignore_startup_parameters)."""
    return "unsupported startup parameter" in stderr


def crowded(message: str) -> bool:
    """Whether the server is out of connections, which does not mean that nobody is connected."""
    return bool(re.search(_CROWDED, message))


def is_over(stderr: str, sqlstate: str) -> bool:
    """Whether the server has ended the connection, or was lost with it (class 57P, operator intervention)."""
    return sqlstate.startswith("57P") or bool(re.search(r"server closed the connection|server was lost", stderr))


def is_absent(message: str) -> bool:
    """Whether there is no such database, or no longer its files."""
    return bool(re.search(r'database ".*" does not exist', message))


def passing(stderr: str) -> bool:
    """Whether a short wait may help: the server starts, is out of connections, the container is paused."""
    return bool(_PASSING.search(stderr))


def explained(stderr: str, status: int, program: str, target: Target) -> SuiteError:
    """Given what a program said and its status, return the error to raise, worded for the operator.

    status: minus a signal's number when one killed it. stderr may be empty. Values that the server quotes are still in
    the message: redaction.py takes them out of what is written down.
    """
    # Classes 00 and 01 are no failures but notices and warnings.
    state = next((found for found in _STATE.finditer(stderr) if found[2][:2] not in ("00", "01")), None)
    error = _explained(primary(_LOCATION.sub("", _STATE.sub(r"\1", stderr))), status, program, target)
    error.sqlstate = state[2] if state else ""
    return error


def _explained(stderr: str, status: int, program: str, target: Target) -> SuiteError:
    names = {
        "container": target.container,
        "database": target.database,
        "user": target.user,
        "KEY": target.name.upper(),
        "LOGS": "look into the server's log" if target.url else f"docker logs --tail 20 {target.container}",
    }
    for known in _KNOWN:
        found = re.search(known.pattern, stderr)
        if found:
            reason = _line_around(stderr, found.start())
            words = {**names, "reason": reason, "0": _clean((found.groups() or ("",))[0] or "")}
            return known.kind(_filled(known.message, words), _filled(known.hint, words))
    reason = first_error(stderr)
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return Unavailable(
        f"{program} on '{target.database}' {how}{': ' + reason if reason else ' and said nothing'}",
        names["LOGS"],
    )


# What begins a message: a program's name, or a line of the server's log.
_BEGINS = re.compile(
    r"(?:psql|pg_\w+|docker|Error)\b|HINT:  |(?:\d{4}-\d\d-\d\d .*)?\b(?:ERROR|FATAL|PANIC|LOG|WARNING|NOTICE): "
)
# The first line of a message of the server's about a statement, whatever the language: a value in it may have more.
_OF_STATEMENT = re.compile(r"(?:psql:\S*:\d+: )?(?!HINT)[^\W\d_]+:  ")
# What follows it: the fields that show rows. A hint does not.
_FIELD = re.compile(r"(?!HINT)[^\W\d_]+:  |LINE \d+: ")
# What the database's own functions say in their own words: RAISE, and languages other than PL/pgSQL.
_OWN_WORDS = re.compile(r"PL/\w+.*\bRAISE\b|PL/(?!pgSQL)\w+")


def primary(stderr: str) -> str:
    """Given what programs said, return it without the server's DETAIL, CONTEXT and the like, which show rows.

    What a function of the database has raised is put into quotes: its words may be a row's. Pure.
    """
    kept: list[str] = []
    told, in_field = -1, False  # told: the line of the message that the fields belong to
    for line in stderr.splitlines():
        of_statement = bool(_OF_STATEMENT.match(line))
        begins = bool(_BEGINS.match(line)) or (told < 0 and of_statement)
        if begins or not (in_field or _FIELD.match(line)):
            told = len(kept) if begins and not line.startswith("HINT") else told
            kept.append(line)
            in_field = begins and of_statement
            continue
        in_field = True
        if told >= 0 and _OWN_WORDS.search(line):
            kept[told] = re.sub(r"(\w+:  )(?!a function says)(.*)", r'\1a function says "\2"', kept[told], count=1)
    return "\n".join(kept)


def _filled(template: str, words: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: words[found.group(1)], template).removesuffix("; ")


def _line_around(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return _clean(text[start : len(text) if end < 0 else end])


def first_error(stderr: str) -> str:
    """The line that tells the reason: the first that is an error, else that says so, else the last one."""
    lines = [line for line in primary(stderr).splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(?:ERROR|FATAL|PANIC): |\berror: ", line)]
    telling = errors or [line for line in lines if re.search(r"error|fatal", line, re.IGNORECASE)]
    return _clean((telling or lines[-1:] or [""])[0])


_DETAIL = re.compile(r"^DETAIL:  (.*)|^CONTEXT:  (COPY .*)", re.MULTILINE)


def first_failure(stderr: str) -> str:
    """What first_error() says, without its code, and the server's detail of it: for who sees the rows anyway."""
    plain = unnumbered(_LOCATION.sub("", _STATE.sub(r"\1", stderr)))
    told = [_clean(found[0]) for found in _DETAIL.finditer(plain)][:2]
    return "; ".join([first_error(plain), *told])


def _clean(line: str) -> str:
    line = line.strip()
    while (shorter := _NOISE.sub("", line)) != line:
        line = shorter
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
    return printable if len(printable) <= 300 else printable[:297] + "..."
