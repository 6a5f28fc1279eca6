"""What the adapters of one dataset or family share: their record, cases made from it, and cases that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

from oncoseg_core import (
    BoolArray,
    Case,
    DataError,
    DatasetSpec,
    Fault,
    FileDataset,
    GeometryError,
    ImageReadError,
    PluginError,
    Target,
)
from oncoseg_datasets.folders import not_the_dataset

FaultKind: TypeAlias = Literal["twice", "missing-image", "missing-label", "unreadable", "wrong-table", "unclear"]
"""``twice``: files of one name; ``wrong-table``: a row is missing or says something unknown; ``unclear``: which of
several files is meant."""


class BadCaseError(DataError):
    """One case cannot be used. Raised while a case is made, and turned into its fault: the dataset goes on."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(message)
        self.kind: FaultKind = kind


def with_fault(case: Case, kind: FaultKind, message: str | None) -> Case:
    """The case without labels and with its fault; as it is where there is no message."""
    if message is None:
        return case
    fault = Fault(kind=kind, message=" ".join(message.split()))
    return case.model_copy(update={"labels": (), "targets": (), "fault": fault})


def made_or_fault(make: Callable[[], Case], otherwise: Callable[[], Case]) -> Case:
    """The case that ``make`` gives; where it cannot, what ``otherwise`` gives, with the reason as its fault."""
    try:
        return make()
    except BadCaseError as error:
        return with_fault(otherwise(), error.kind, str(error))
    except (DataError, ImageReadError, GeometryError) as error:
        return with_fault(otherwise(), "unreadable", str(error))


def each_once(cases: Iterable[Case]) -> Iterator[Case]:
    """The cases in their order; of those with one id the first, as a bad case: which copy is meant, nobody knows."""
    by_id: dict[str, list[Case]] = {}
    for case in cases:
        by_id.setdefault(case.case_id, []).append(case)
    for case_id, (first, *others) in by_id.items():
        twice = (
            f"{first.images[0]} and {others[0].images[0]} are both {case_id!r}; keep one of them" if others else None
        )
        yield with_fault(first, "twice", twice)


class LayoutAdapter(FileDataset):
    """An adapter that takes name, targets, modality and kind of annotation from its record."""

    @property
    def record(self) -> DatasetSpec:
        """The dataset's record.

        Raises:
            PluginError: the adapter was built without one.
        """
        if self.spec is None:
            raise PluginError(f"{type(self).__name__} is built with spec=, the dataset's record")
        return self.spec

    def case(self, **fields: Any) -> Case:
        """A case of this dataset, of its one modality and its kind of annotation unless ``fields`` say otherwise."""
        record = self.record
        return Case(
            **{"dataset": record.name, "modality": record.modalities[0], "annotation": record.annotation, **fields}
        )

    def named_case(self, case_id: str, image: Path, patient_id: str | None = None, **fields: Any) -> Case:
        """A case of which no more is known than its name and one file, for one that cannot be used."""
        return self.case(case_id=case_id, patient_id=patient_id or case_id, images=(image,), **fields)

    def refusal(self, root: Path, looked_for: str) -> DataError:
        """The error for a folder that is not this dataset."""
        return not_the_dataset(Path(root), self.record, looked_for)


def union_of_parts(targets: tuple[Target, ...], parts: dict[int, BoolArray], empty: BoolArray) -> dict[str, BoolArray]:
    """One mask per target: where any part whose label value belongs to the target is marked. Parts may overlap.

    Args:
        targets: those annotated.
        parts: mask by label value; a value without a part is not marked anywhere.
        empty: a mask of the image's shape with nothing marked; not modified.
    """
    masks = {}
    for target in targets:
        mask = empty.copy()
        for value in sorted(target.labels & parts.keys()):
            mask |= parts[value]
        masks[target.name] = mask
    return masks
