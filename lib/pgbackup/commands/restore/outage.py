"""The services of a database are down while it is replaced, and up again whatever happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pgbackup.commands.restore.work import Work
from pgbackup.host import health, services


@contextmanager
def services_stopped(work: Work) -> Iterator[None]:
    """Stop the services that run, in order; start them in reverse and wait for their health, whatever happened.

    After a signal the health is not waited for.
    """
    job, record, up = work.job, work.record, work.situation.up
    begun = time.monotonic()
    try:
        for name in up:
            job.tell(f"stopping service '{name}'")
            services.stop(name, job.settings.docker)
        yield
    finally:
        record.unwell += [
            f"service '{name}' did not start: docker start {name}" for name in services.start(up, job.settings.docker)
        ]
        record.downtime_seconds = round(time.monotonic() - begun, 1) if up else 0.0
        if up and job.target.health_url:
            with record.timed("health"):
                _await_health(work)


def _await_health(work: Work) -> None:
    url, settings = work.job.target.health_url, work.job.settings
    said = health.wait(url, settings.health_ca, settings.health_seconds)
    work.record.health = said or "healthy"
    if said:
        work.record.unwell.append(f"the services are not healthy: '{url}' says: {said}")
