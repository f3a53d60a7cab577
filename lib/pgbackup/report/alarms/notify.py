"""One evaluation is told: what has changed since the last one goes into the outbox, and the outbox to the channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from pgbackup.errors import CannotCreate, LockHeld
from pgbackup.host.channels import Alerts, Channel
from pgbackup.report.alarms import decision, outbox, remembered, wording
from pgbackup.report.alarms.delivery import deliver
from pgbackup.report.promises.status import Status
from pgbackup.store import folder, lock
from pgbackup.store.folder import Folder
from pgbackup.store.state import alarms, statefile
from pgbackup.store.state.alarms import Alarms, Message


@dataclass
class Outcome:
    """What came of it. made: the message that was made, None for none; waiting: how many are not delivered to all.

    failing: the name of a channel that was tried just now to why it took nothing. warnings: what else went wrong.
    """

    made: Message | None = None
    waiting: int = 0
    failing: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@contextmanager
def memory(state: Path, backup_dir: Path) -> Iterator[Folder]:
    """Open the directory that remembers what was told of one BACKUP_DIR; it must not be on the disk that is watched.

    state: ALERTS_STATE. Raise CannotCreate where the set-up has not made it, PermissionDenied.
    """
    if not state.is_dir():
        raise CannotCreate(f"'{state}' is not there, so nobody can know what was told before", "sudo setup-alerts.sh")
    with (
        folder.opened(state, create=False, top=True, writing=True) as place,
        folder.opened(place.path / remembered.called(backup_dir), create=True) as own,
    ):
        yield own


def notify(
    top: Folder, alerts: Alerts, evaluate: Callable[[], Status], send: outbox.Deliver = deliver, *, prefix: str = ""
) -> tuple[Status, Outcome]:
    """Evaluate, and tell what has changed. Two at once: one tells, the other only evaluates.

    It is evaluated under the lock: what is older than what another one has told would be told as a change. Raise
    PermissionDenied or statefile.Newer where it cannot be known what was told; OSError.
    """
    outcome, begun = Outcome(), datetime.now(timezone.utc)
    if not alerts.channels:
        outcome.warnings.append("nobody is told: there is no channel (sudo setup-alerts.sh)")
        return evaluate(), outcome
    try:
        with lock.held(top, alarms.LOCK):
            held = _known(top, outcome)
            status = evaluate()
            told, notice = decision.decide(held.told_of(), status)
            held = alarms.with_told(alarms.for_channels(held, remembered.keys(alerts.channels)), told)
            if notice:
                text = wording.body(notice, status)
                subject = wording.subject(notice, status.host, prefix)
                outcome.made = Message(status.now, notice.level, subject, text)
                held = alarms.with_message(held, replace(outcome.made, left=remembered.keys(alerts.channels)))
            outbox.keep(top, held, outcome.warnings)
            held = outbox.send(top, held, alerts.channels, send, outcome.warnings)
    except LockHeld:
        outcome.warnings.append("another run tells what has changed")
        return evaluate(), outcome
    _note(outcome, held, alerts.channels, begun)
    return status, outcome


def test(top: Folder, alerts: Alerts, subject: str, body: str, send: outbox.Deliver = deliver) -> Outcome:
    """Send a message to all channels now, and note where it arrived. Raise LockHeld, and as notify() does."""
    message = Message(datetime.now(timezone.utc), "test", subject, body)
    outcome, begun = Outcome(message), message.made
    with lock.held(top, alarms.LOCK):
        held = alarms.for_channels(_known(top, outcome), remembered.keys(alerts.channels))
        for channel, why in outbox.send_now(message, alerts.channels, send).items():
            now = datetime.now(timezone.utc)
            held = alarms.failed(held, channel, why, now) if why else alarms.arrived(held, channel, now)
        outbox.keep(top, held, outcome.warnings)
    _note(outcome, held, alerts.channels, begun)
    return outcome


def _known(top: Folder, outcome: Outcome) -> Alarms:
    """What was told before. Where that cannot be read, all that is broken is told again rather than not at all."""
    try:
        return alarms.read(top)
    except statefile.Newer:
        raise
    except statefile.Unreadable as error:
        outcome.warnings.append(f"{error.message}: what is broken is told anew")
        return Alarms()


def _note(outcome: Outcome, held: Alarms, channels: Sequence[Channel], begun: datetime) -> None:
    outcome.waiting = len(held.outbox)
    for channel in channels:
        failure = held.failure(channel.key)
        if failure and failure.tried >= begun.replace(microsecond=0):  # it is kept to the second
            outcome.failing[channel.name] = failure.why
