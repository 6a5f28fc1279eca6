"""Finding what was trained on among what is scored: a score on it would be no test.

Two ways: the same voxels under whatever names, by :func:`oncoseg_core.imaging.content_hash`, and the overlaps that the
records of datasets declare. The first sees exact copies only, the second what is known to have been converted or cut
as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from oncoseg_core import DataError, DatasetSpec

SHOWN = 5
"""Of so many leaks a message tells."""

_HASH = re.compile(r"[0-9a-f]{64}")


class Scan(NamedTuple):
    """A case and the hash of its voxels."""

    dataset: str
    case_id: str
    content_hash: str

    @property
    def name(self) -> str:
        """``dataset/case``."""
        return f"{self.dataset}/{self.case_id}"


class Leak(NamedTuple):
    """Something scored that was, or may have been, trained on: a case or a whole dataset each, and how it is known.

    ``certain`` is False where it is suspected only: that is told, not refused.
    """

    trained: str
    scored: str
    how: str
    certain: bool


@dataclass(frozen=True)
class TrainedOn:
    """What an adapter has seen: the names of the datasets, and the content hash of each case."""

    datasets: tuple[str, ...]
    hashes: frozenset[str]

    def __or__(self, other: TrainedOn) -> TrainedOn:
        """What was seen by either: datasets in the order of their first training."""
        return TrainedOn(tuple(dict.fromkeys((*self.datasets, *other.datasets))), self.hashes | other.hashes)

    def encode(self) -> bytes:
        """The hashes, sorted, one a line: 65 bytes a case."""
        return "".join(f"{one}\n" for one in sorted(self.hashes)).encode()

    @classmethod
    def decode(cls, datasets: Sequence[str], content: bytes) -> TrainedOn:
        """Read what :meth:`encode` wrote.

        Raises:
            DataError: a line is no SHA-256.
        """
        lines = content.decode("ascii", "replace").splitlines()
        if not all(_HASH.fullmatch(line) for line in lines):
            raise DataError("the list of what was trained on holds a line that is no SHA-256")
        return cls(tuple(datasets), frozenset(lines))


def declared_leaks(trained: Iterable[DatasetSpec | str], scored: Iterable[DatasetSpec]) -> list[Leak]:
    """Overlaps between datasets trained on and others scored, declared by either record.

    A dataset trained on whose plugin is not installed here is given by its name: the other's record may know it.
    """
    scored = list(scored)
    leaks = []
    for one in trained:
        name, own = (one, ()) if isinstance(one, str) else (one.name, one.overlaps)
        for other in scored:
            for overlaps, partner in ((own, other.name), (other.overlaps, name)):
                found = [overlap for overlap in overlaps if overlap.dataset == partner and name != other.name]
                leaks += [Leak(name, other.name, overlap.how, overlap.certain) for overlap in found]
    return sorted(set(leaks))


def same_scans(trained: Iterable[Scan], scored: Iterable[Scan]) -> list[Leak]:
    """Cases scored whose voxels are those of a case trained on, sorted."""
    by_hash: dict[str, list[Scan]] = {}
    for scan in scored:
        by_hash.setdefault(scan.content_hash, []).append(scan)
    return sorted(
        Leak(scan.name, held_out.name, "the same voxels", certain=True)
        for scan in trained
        for held_out in by_hash.get(scan.content_hash, ())
    )


def seen_scans(trained_on: TrainedOn, scored: Iterable[Scan]) -> list[Leak]:
    """Cases scored whose voxels an adapter was trained on, sorted."""
    return sorted(
        Leak("the adapter's training", scan.name, "the same voxels", certain=True)
        for scan in scored
        if scan.content_hash in trained_on.hashes
    )


def refuse_leaks(leaks: Sequence[Leak], *, allowed: bool, setting: str) -> None:
    """Refuse to score what was certainly trained on, unless ``allowed`` by ``setting``; the result must then say so.

    Raises:
        DataError: naming the first few.
    """
    certain = [leak for leak in leaks if leak.certain]
    if not certain or allowed:
        return
    told = "; ".join(f"{leak.scored} is {leak.trained} ({leak.how})" for leak in certain[:SHOWN])
    more = f"; and {len(certain) - SHOWN} more" if len(certain) > SHOWN else ""
    raise DataError(
        f"scored, but trained on: {told}{more}. Such a score is no test: leave them out on one side, or set "
        f"{setting}, and every result will say so"
    )


def leak_rows(leaks: Sequence[Leak]) -> list[Mapping[str, object]]:
    """Leaks as plain values for JSON."""
    return [leak._asdict() for leak in leaks]
