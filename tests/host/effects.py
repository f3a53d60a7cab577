"""What each command of the runbook has to do, seen from outside.

An effect is a generator: what it needs is arranged and looked at before, then it yields and gets what the command said,
and then it asserts. tests/host/expected.py says which command has which.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Generator, Iterable

from tests.host.host import SCRIPTS, USERS, Host, healthy, wait_for

Steps = Generator[None, str, None]
Effect = Callable[[Host], Steps]

FOREIGN_JOB = "17 4 * * 1 /bin/true"
DRILL_JOB = f"0 5 * * 3 BACKUP_DIR=/opt/backups {SCRIPTS}/drill-backups.sh --rotate # goes with backup-postgres.sh"
VERIFY_JOB = f"0 4 * * 0 BACKUP_DIR=/opt/backups {SCRIPTS}/verify-backups.sh -q # goes with backup-postgres.sh"
CRON_JOB = f"0 2 * * * BACKUP_DIR=/opt/backups RETENTION_DAYS=7 {SCRIPTS}/backup-postgres.sh"
_SERVERS = {"auth": "postgres-a", "payment": "postgres-b"}
_SERVICES = {"auth": ["service-a-1", "service-a-2"], "payment": ["service-b-1", "service-b-2"]}
_NUMBERS = itertools.count(1)


def shows(*patterns: str) -> Effect:
    """It says what matches each of the patterns."""

    def steps(host: Host) -> Steps:
        said = yield
        for pattern in patterns:
            assert re.search(pattern, said, re.MULTILINE), f"no '{pattern}' in: {said}"

    return steps


def holds(condition: str, before: str = "true") -> Effect:
    """Afterwards a shell command succeeds on the host. before: one that arranges something first."""

    def steps(host: Host) -> Steps:
        host.run(before)
        yield
        assert host.succeeds(condition), f"not so: {condition}"

    return steps


def nothing_said(host: Host) -> Steps:
    said = yield
    assert said == ""


def changes_nothing(host: Host) -> Steps:
    """Files, schedules and databases are as they were."""
    looks = (
        "find /opt/backups /etc/systemd/system -type f ! -name backup.log | sort | xargs md5sum; crontab -u deployer -l"
    )
    looks += "; docker exec postgres-a psql -U auth_user -d postgres -XAtc 'SELECT datname FROM pg_database ORDER BY 1'"
    before = host.run(looks, check=False)
    said = yield
    assert said, "it says what it would do"
    assert host.run(looks, check=False) == before


def publishes(*targets: str) -> Effect:
    """One new backup of each database, deployer's alone, the newest by its link; none of the others."""

    def steps(host: Host) -> Steps:
        before = {target: host.files(target) for target in _SERVERS}
        yield
        for target, server in _SERVERS.items():
            new = host.files(target) - before[target]
            assert len(new) == (1 if target in targets else 0), f"new backups of {target}: {new}"
            for path in new:
                assert host.run(f"stat -c '%U %a' {path}") == "deployer 600"
                assert host.run(f"readlink -f /opt/backups/{server}/{target}_db_LATEST.sql.gz") == path
                assert host.succeeds(f"gunzip -t {path}")

    return steps


def made_by_hand(target: str) -> Effect:
    def steps(host: Host) -> Steps:
        before = host.files(target)
        yield
        (path,) = host.files(target) - before
        assert re.search(rf"/{target}_db_manual_\d{{8}}_\d{{6}}\.sql\.gz$", path)
        assert "PostgreSQL database dump complete" in host.run(f"gunzip -c {path} | tail -5")

    return steps


def restored(target: str) -> Effect:
    """What was written since the backup is gone, the services are well, the old database is kept."""

    def steps(host: Host) -> Steps:
        table = f"written_since_{next(_NUMBERS)}"
        host.sql(target, f"CREATE TABLE {table} ()")
        yield
        assert host.sql(target, f"SELECT to_regclass('{table}') IS NULL") == "t"
        assert int(host.sql(target, f"SELECT count(*) FROM {'users' if target == 'auth' else 'payments'}")) >= USERS
        assert int(host.sql(target, _kept(target))) >= 1
        assert running(host, _SERVICES[target])
        assert healthy(host)

    return steps


MOMENT = "/run/a_moment"


def recovered(into: str = "", *, latest: bool = False) -> Effect:
    """payment_db comes back as it was at the moment in the file MOMENT, or at the end, in its place or beside it."""

    def steps(host: Host) -> Steps:
        table = f"written_since_{next(_NUMBERS)}"
        host.run(f"sleep 1; date '+%F %T%z' >{MOMENT}; sleep 1.1")
        host.sql("payment", f"CREATE TABLE {table} ()")
        written = host.run("date --utc +%FT%T.%6N")
        confirmed = 'sed -n \'s/.*confirmed_time": "\\(.*\\)".*/\\1/p\' /opt/backups/pitr/postgres-b/receiver.json'
        wait_for(lambda: host.run(confirmed)[:26] > written, 60)
        yield
        query = f"SELECT to_regclass('{table}') IS NULL, (SELECT count(*) FROM payments) >= {USERS}"
        said = host.run(f'docker exec postgres-b psql -XAtq -U payment_user -d {into or "payment_db"} -c "{query}"')
        assert said == ("f|t" if latest else "t|t")
        assert into or int(host.sql("payment", _kept("payment"))) >= 1
        assert running(host, _SERVICES["payment"])
        assert healthy(host)

    return steps


def all_are_healthy(host: Host) -> Steps:
    yield
    wait_for(lambda: healthy(host), 60)


def rolled_back(host: Host) -> Steps:
    """What the last restore had thrown away is there again."""
    since = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'written_since%'"
    assert host.sql("auth", since) == "0"
    yield
    assert host.sql("auth", since) == "1"
    assert healthy(host)


def restored_beside(host: Host) -> Steps:
    """There is a new database; the live one and the services were let alone."""
    started = host.run("docker inspect -f '{{.State.StartedAt}}' service-a-1")
    yield
    assert host.sql("auth", "SELECT count(*) FROM pg_database WHERE datname = 'auth_lookup'") == "1"
    assert host.run("docker inspect -f '{{.State.StartedAt}}' service-a-1") == started


def drops_old(target: str) -> Effect:
    def steps(host: Host) -> Steps:
        assert int(host.sql(target, _kept(target))) >= 1
        yield
        assert host.sql(target, _kept(target)) == "0"

    return steps


def _kept(target: str) -> str:
    return f"SELECT count(*) FROM pg_database WHERE datname LIKE '{target}_db_before_restore_%'"


def stops(target: str) -> Effect:
    def steps(host: Host) -> Steps:
        assert running(host, _SERVICES[target])
        yield
        assert not any(running(host, [name]) for name in _SERVICES[target])

    return steps


def starts(target: str) -> Effect:
    def steps(host: Host) -> Steps:
        yield
        assert running(host, _SERVICES[target])

    return steps


def restarts(host: Host) -> Steps:
    ask = "docker inspect -f '{{.State.StartedAt}}' service-a-1 service-a-2"
    before = host.run(ask).split()
    yield
    assert not set(before) & set(host.run(ask).split())
    wait_for(lambda: healthy(host), 30)


def running(host: Host, names: Iterable[str]) -> bool:
    """Whether all these containers run on the host."""
    return set(names) <= set(host.run("docker ps --format '{{.Names}}'").split())


def ends_sessions(target: str) -> Effect:
    """A session that was open is ended; the services, if they run, find back by themselves."""

    def steps(host: Host) -> Steps:
        server, mark = _SERVERS[target], f"lingering_{next(_NUMBERS)}"
        session = f"psql -U {target}_user -d {target}_db -c 'SELECT pg_sleep(600) AS {mark}'"
        host.run(f"docker exec -d {server} {session}")
        there = f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%AS {mark}' AND pid <> pg_backend_pid()"
        wait_for(lambda: host.sql(target, there) == "1", 60)
        services = running(host, _SERVICES[target])
        yield
        wait_for(lambda: host.sql(target, there) == "0", 60)
        assert not services or healthy(host)

    return steps


def databases(target: str, gone: str = "", there: str = "") -> Effect:
    def steps(host: Host) -> Steps:
        yield
        ask = (
            f"docker exec {_SERVERS[target]} psql -U {target}_user -d postgres -XAtc 'SELECT datname FROM pg_database'"
        )
        names = host.run(ask).split()
        assert gone not in names
        assert not there or there in names

    return steps


def loaded(target: str, table: str) -> Effect:
    def steps(host: Host) -> Steps:
        yield
        assert int(host.sql(target, f"SELECT count(*) FROM {table}")) >= USERS

    return steps


def registers(phone: str) -> Effect:
    def steps(host: Host) -> Steps:
        host.sql("auth", f"DELETE FROM users WHERE phone_number = '{phone}'")
        said = yield
        assert json.loads(said).get("id")
        assert host.sql("auth", f"SELECT count(*) FROM users WHERE phone_number = '{phone}'") == "1"

    return steps


def only_the_first_user(host: Host) -> Steps:
    said = yield
    assert "+256700123456" in said
    assert "+256700999999" not in said


def adds_the_cron_job(host: Host) -> Steps:
    """The guide's line, the verification's and the drill's, once, behind what others have there."""
    host.run(f"echo '{FOREIGN_JOB}' | crontab -u deployer -")
    yield
    assert host.run("crontab -u deployer -l").splitlines() == [FOREIGN_JOB, CRON_JOB, VERIFY_JOB, DRILL_JOB]


def only_foreign_jobs(host: Host) -> Steps:
    assert SCRIPTS in host.run("crontab -u deployer -l")
    yield
    assert host.run("crontab -u deployer -l") == FOREIGN_JOB


def deletes(age: str, *, where: str = "postgres-a", spares: str = "-1 hour") -> Effect:
    """A backup of that age is deleted, a younger one is not."""

    def steps(host: Host) -> Steps:
        old, young = (f"/opt/backups/{where}/auth_db_manual_20230101_00000{n}.sql.gz" for n in (1, 2))
        newest = host.newest("auth")
        host.run(f"touch -d '{age}' {old}; touch -d '{spares}' {young}")
        try:
            yield
            assert host.succeeds(f"test ! -e {old} && test -e {young} && test -e {newest}")
        finally:
            host.run(f"rm -f {old} {young}")

    return steps


def finds_a_large_file(host: Host) -> Steps:
    host.run("truncate -s 101M /opt/backups/large.tmp")
    said = yield
    assert "101M" in said
    assert "/opt/backups/large.tmp" in said
    assert "sql.gz" not in said
    host.run("rm /opt/backups/large.tmp")


def all_is_kept(host: Host) -> Steps:
    """The first line says so once all that is promised has been done, and what is broken where one timer is off."""
    scripts = f"runuser -u deployer -- {SCRIPTS}"
    host.run(f"systemctl cat postgres-backup.timer >/dev/null || {SCRIPTS}/setup-backup-systemd.sh")
    host.run("systemctl enable --now postgres-backup.timer")
    host.run(
        f"{scripts}/backup-postgres.sh -q && {scripts}/verify-backups.sh -q; {scripts}/backup-status.sh -q --probe"
    )
    host.run(
        "systemctl stop postgres-verify.timer; crontab -u deployer -l >/root/jobs; crontab -u deployer -r", check=False
    )
    off = host.run(f"{scripts}/backup-status.sh; test $? = 66")
    assert re.match(r"BROKEN: 1 of \d+ promises on \S+: schedule installed \(verify\)$", off.splitlines()[0]), off
    host.run(
        "systemctl start postgres-verify.timer; test ! -s /root/jobs || crontab -u deployer /root/jobs; rm /root/jobs"
    )
    said = yield
    first = r"^OK: all \d+ promises on \S+ are kept; if it died now, nothing would come back"
    assert re.search(first, said, re.MULTILINE), said
    assert re.search(r"schedule installed +backup, verify, drill", said), said


def shows_the_timer(host: Host) -> Steps:
    host.run(f"systemctl cat postgres-backup.timer >/dev/null || {SCRIPTS}/setup-backup-systemd.sh")
    host.run("systemctl enable --now postgres-backup.timer")
    said = yield
    assert re.search(r"Active: active \(waiting\)", said)
    assert re.search(r"Trigger: .* 02:00:00", said)


def copied(command: str, expected: str) -> Effect:
    """Afterwards the other place lists the newest backup of auth_db. command: lists there; expected: file or path."""

    def steps(host: Host) -> Steps:
        yield
        listed = host.run(command)
        assert host.newest("auth").removeprefix(expected) in listed

    return steps


def is_json_without_a_bad_file(host: Host) -> Steps:
    said = yield
    assert json.loads(said[said.index("{") :])["status"] == 0  # on a terminal the talk of stderr comes before it
