"""Writes the status as files for others: the page for a browser, and metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgbackup.errors import SuiteError
from pgbackup.report.promises.status import Status
from pgbackup.settings.config import Settings
from pgbackup.store import output

_PAGE_MODE = 0o640  # it tells what there is to take, and where it lies
_METRICS_MODE = 0o644  # node_exporter runs as an account of its own


@dataclass(frozen=True)
class Files:
    """Where a page and metrics are wanted; None: they are not."""

    html: Path | None = None
    metrics: Path | None = None


def of_schedule(settings: Settings) -> Files:
    """Where a schedule writes them. Pure."""
    return Files(settings.page_file or settings.backup_dir / "status" / "index.html", settings.metrics_file)


def write(files: Files, status: Status) -> Sequence[SuiteError]:
    """Write both, each in one step, and return why one could not be: the other one is written all the same."""
    failed = []
    for path, put in ((files.html, _page), (files.metrics, _metrics)):
        try:
            if path is not None:
                put(path, status)
        except SuiteError as error:
            failed.append(error)
    return failed


# What draws them is loaded only where it is asked for: it takes longer than all that a status reads.
def _page(path: Path, status: Status) -> None:
    from pgbackup.report.page import page

    output.replace(path, page.text(status), mark=page.MARK, mode=_PAGE_MODE)


def _metrics(path: Path, status: Status) -> None:
    from pgbackup.report.metrics import series

    output.replace(path, series.text(status), mark=series.MARK, mode=_METRICS_MODE)
