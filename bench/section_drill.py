"""A drill with all its comparing, against the plain load of the same file into a server without durability."""

from __future__ import annotations

from pathlib import Path

import contenders
import ways
from contenders import OURS, PEER, Contender, Run, Table
from measure import run as run_once
from scene import USER, Scene, servers

_LOADED = "plain_load"
# As the drill's own server has them: nothing has to survive a crash.
_SETTINGS: dict[str, str | int] = {
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
}
SMALL_PAYMENTS = 11_000  # a database of 20 MB


def measure(scene: Scene, rows: int, rounds: int) -> list[Table]:
    """Return two tables: of one large database, and of a night with a small one, with its drill and without."""
    return [_large(scene, rows, rounds), _night(scene, rounds)]


def _large(scene: Scene, rows: int, rounds: int) -> Table:
    database, folder = scene.payments(rows), scene.folder("drill")
    environment = scene.settings(database, folder, "sidecar")
    run_once(ways.BACKUP, environment, 0.0)
    file = next(path for path in (folder / "payment").glob("*.sql.gz") if not path.is_symlink())
    with servers.running(15, database="postgres", user=USER, settings=_SETTINGS) as server:
        label = "gunzip -c | docker exec -i psql, into such a server"
        plain = Contender("plain", label, PEER, _plain(file, server.name), scene.environment,
                          prepare=lambda: _empty(server))  # fmt: skip
        drill = Contender("ours_drill", "drill-backups.sh: server, load, comparing", OURS,
                          "scripts/drill-backups.sh payment --json --quiet", environment, inspect=_phases)  # fmt: skip
        title = f"Drill of a payment_db of {scene.database_bytes(database) / 1e9:.2f} GB ({rows:,} payments)"
        table = contenders.compare("drill", title, [plain, drill], rounds, {})
    contenders.remove(folder)
    return table


def _night(scene: Scene, rounds: int) -> Table:
    database, folder = scene.demo_payments(SMALL_PAYMENTS), scene.folder("night")
    without = scene.settings(database, folder, "sidecar")
    both = [
        Contender("without", "backup-postgres.sh without a drill", PEER, ways.BACKUP, without),
        Contender("ours_night", "backup-postgres.sh, and the drill of it", OURS, ways.BACKUP,
                  {**without, "DRILL_AFTER_BACKUP": "yes"}),
    ]  # fmt: skip
    title = f"A night of a database of {scene.database_bytes(database) / 1e6:.0f} MB"
    table = contenders.compare("night", title, both, rounds, {})
    contenders.remove(folder)
    return table


def _plain(file: Path, server: str) -> str:
    create = f'docker exec {server} psql -q -U {USER} -d postgres -c "CREATE DATABASE {_LOADED}"'
    load = f"docker exec -i {server} psql -q -U {USER} -d {_LOADED} >/dev/null"
    return f'{create} && gunzip -c "$PLACE"/drill/payment/{file.name} | {load}'


def _empty(server: servers.Server) -> None:
    server.sql(f"DROP DATABASE IF EXISTS {_LOADED} WITH (FORCE)", "postgres")
    server.sql("CHECKPOINT", "postgres")


def _phases(stdout: str) -> Run:
    (made,) = contenders.only_document(stdout)["drills"]
    return {f"{name}_seconds": value for name, value in made["seconds"].items()}
