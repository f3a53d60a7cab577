"""What the set-ups share: one at a time, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pgbackup.commands.setup.options import Options
from pgbackup.errors import SuiteError, overall_status
from pgbackup.host.scheduling.installed import Change
from pgbackup.report.log import say, with_hint
from pgbackup.report.result import Result, document
from pgbackup.store import folder, lock

# Root's own, where others can neither make a file nor hold one that root made.
_DIRECTORY, _NAME = Path("/run"), "pgbackup-setup"
_PATIENCE_SECONDS = 30


@contextmanager
def alone() -> Iterator[None]:
    """Hold the set-ups' lock: two that read the same crontab would each write back what they have read.

    Raise LockHeld when another one has it for too long.
    """
    with (
        folder.opened(_DIRECTORY, create=False, top=True) as place,
        lock.awaited(place, _NAME, _PATIENCE_SECONDS),
    ):
        yield


def told(
    script: str,
    options: Options,
    changes: Sequence[Change],
    done: Sequence[str],
    warnings: Sequence[str],
    failures: Sequence[SuiteError] = (),
    what: str = "a backup",
) -> Result:
    """Return the result of a set-up: for --dry-run the diff, else the sentences `done`. Warnings go to stderr.

    failures: why what is set up (`what`) would fail now; their status is the result's.
    """
    diff = [line for change in changes for line in change.diff()]
    for warning in warnings:
        say(f"{script}: warning: {warning}")
    for error in failures:
        said = f"{script}: this is done, but {what} would fail now ({error.status}): {error.message}"
        say(with_hint(said, error.hint))
    status = overall_status([error.status for error in failures])
    contents = document(
        script.removesuffix(".sh"),
        status,
        dry_run=options.dry_run,
        changed=bool(diff),
        diff=diff,
        warnings=warnings,
        failures=[{"status": error.status, "error": error.message, "hint": error.hint} for error in failures],
    )
    if options.dry_run:
        return Result(status, diff or ["nothing would change"], contents)
    return Result(status, list(done), contents)
