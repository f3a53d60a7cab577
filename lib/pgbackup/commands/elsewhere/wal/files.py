"""The files of an archive at a place elsewhere, as a recovery asks for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pgbackup import wal
from pgbackup.commands.elsewhere.copies import Copies
from pgbackup.commands.elsewhere.fetching import content
from pgbackup.commands.elsewhere.wal import opening
from pgbackup.commands.elsewhere.wal.ahead import Ahead
from pgbackup.commands.elsewhere.wal.listing import Listed
from pgbackup.errors import BackupBad, NoBackup
from pgbackup.formats.cluster import timelines
from pgbackup.formats.cluster.timelines import Switch
from pgbackup.formats.gzipped import inflated
from pgbackup.remotes.place import Object
from pgbackup.store.wal import segments as walfile
from pgbackup.store.wal.base_backups import MANIFEST, TAR
from pgbackup.wal import Segment

_LARGEST_MANIFEST = 1 << 30


@dataclass(frozen=True)
class Elsewhere:
    """known: what is listed. unfinished: the content of segments that are not whole. texts: of histories, by timeline.

    within: the segments that may be handed out; all else is as if it was not there. ahead: fetches finished ones.
    """

    there: Copies
    identities: Sequence[str]
    known: Listed
    within: frozenset[Segment]
    unfinished: Mapping[Segment, bytes]
    texts: Mapping[int, bytes]
    ahead: Ahead
    manifests: dict[str, bytes] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"WAL at {self.there.called}"

    @property
    def verify(self) -> str:
        return f"verify-backups.sh --at {self.there.called} --read --key FILE"

    def called(self, base: str) -> str:
        found = self.known.bases.get(base)
        return f"{self.there.called}:{found.record.name.rpartition('/')[0] if found else base}"

    def expect(self, name: str) -> None:
        segment = wal.parse_segment(name, self.known.series.segment_bytes)
        if segment in self.within and (found := self.known.segments.get(segment)):
            self.ahead.begin(found.name)

    def hand_out(self, name: str) -> bytes | None:
        size = self.known.series.segment_bytes
        if timeline := timelines.parse_history_name(name):
            return self.texts.get(timeline)
        segment = wal.parse_segment(name, size)
        if segment is None or segment not in self.within:
            return None
        if segment in self.unfinished:
            return self.unfinished[segment]
        found = self.known.segments[segment].name
        try:
            data = opening.unpacked(found, self.ahead.read(found), self.identities, size)
            walfile.check_header(data, segment, self.known.series.system)
        except (BackupBad, NoBackup) as bad:
            raise BackupBad(
                f"'{self.there.called}:{found}' is bad: {bad.message}",
                f"everything that comes before it: --to-lsn {wal.format_lsn(segment.number * size)}",
            ) from None
        return data

    def histories(self) -> Mapping[int, Sequence[Switch]]:
        return {timeline: timelines.history_of(timeline, text) for timeline, text in self.texts.items()}

    def tar(self, base: str, held: str, sha256: str, advance: Callable[[int], None]) -> Iterator[bytes]:
        digest = hashlib.sha256()

        def blocks() -> Iterator[bytes]:
            for piece in content(self.there, self._file(base, f"{held}{TAR}"), self.identities, advance):
                digest.update(piece)
                yield piece

        try:
            yield from inflated(blocks())
        except NoBackup as gone:
            raise BackupBad(gone.message) from None
        if digest.hexdigest() != sha256:
            raise BackupBad(f"its archive '{held}{TAR}' is not the one that was written (SHA-256 differs)")

    def manifest_text(self, base: str) -> bytes:
        if base not in self.manifests:
            found = self._file(base, MANIFEST)
            if found.bytes > _LARGEST_MANIFEST:
                raise BackupBad(f"its {MANIFEST} is larger than any")
            try:
                self.manifests[base] = b"".join(content(self.there, found, self.identities, lambda _bytes: None))
            except NoBackup as gone:
                raise BackupBad(gone.message) from None
        return self.manifests[base]

    def _file(self, base: str, name: str) -> Object:
        found = self.known.bases[base].files.get(name)
        if found is None:
            raise BackupBad(f"its '{name}' is not there")
        return found
