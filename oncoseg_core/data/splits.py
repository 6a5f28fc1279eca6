"""Which patients are trained on and which are held out: decided once, frozen to a file, never torn.

A patient is known by dataset and patient id together: ids are pseudonyms that only their own dataset gives a meaning.
All cases of a patient are on one side.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from oncoseg_core.contract.errors import DataError
from oncoseg_core.contract.interfaces import Settings
from oncoseg_core.contract.records import Split
from oncoseg_core.plugins.configuration import validation_message
from oncoseg_core.system.atomic import atomic_write
from oncoseg_core.system.foreign_files import read_regular
from oncoseg_core.system.output import json_text
from oncoseg_core.system.randomness import derived_seed

Side: TypeAlias = Literal["train", "validation", "test", "unused"]
"""``unused``: cases that the split knows and leaves out."""

FORMAT = 1
SHOWN = 5
"""Of so many cases a message gives the names."""


class SplitCase(Protocol):
    """What a split asks of a case; :class:`~oncoseg_core.contract.records.Case` has it."""

    @property
    def dataset(self) -> str: ...  # noqa: D102 - as in Case
    @property
    def case_id(self) -> str: ...  # noqa: D102
    @property
    def patient_id(self) -> str: ...  # noqa: D102
    @property
    def split(self) -> Split | None: ...  # noqa: D102
    @property
    def category(self) -> str | None: ...  # noqa: D102


class OfficialSplit(Settings):
    """The sides that the dataset itself gives its cases; a case without one is left out."""

    how: Literal["official"] = "official"


class MadeSplit(Settings):
    """A split made from the patients' ids and a seed, where the dataset gives none.

    ``fractions`` are shares of the patients, which add up to 1. A side that a dataset has officially stays as it is,
    and only those that it lacks are taken out of the rest.
    """

    how: Literal["made"]
    fractions: dict[Split, Annotated[float, Field(gt=0, lt=1)]] = Field(default={"train": 0.8, "test": 0.2})
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("fractions")
    @classmethod
    def _whole(cls, fractions: dict[Split, float]) -> dict[Split, float]:
        if "train" not in fractions or abs(sum(fractions.values()) - 1) > 1e-6:
            raise ValueError("fractions name train and one or two other sides, and add up to 1")
        return fractions


class FileSplit(Settings):
    """A split that was frozen before: the ``split.json`` of a run, or one written by hand."""

    how: Literal["file"]
    file: Path


SplitSettings: TypeAlias = Annotated[OfficialSplit | MadeSplit | FileSplit, Field(discriminator="how")]


class _SplitFile(BaseModel):
    """The file: ``{side: {dataset: {patient: [case, ...]}}}``."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    how: dict[str, Any] = Field(default_factory=dict)
    sides: dict[Side, dict[str, dict[str, list[str]]]]
    sha256: str | None = None


@dataclass(frozen=True, eq=False)
class FrozenSplit:
    """Which case is on which side.

    ``sides`` is ``{side: {dataset: {patient: [case, ...]}}}``, all sorted; ``how`` tells how it came about.

    Raises:
        DataError: a patient is on two sides, or a case is named twice.
    """

    sides: Mapping[Side, Mapping[str, Mapping[str, Sequence[str]]]]
    how: Mapping[str, Any]

    def __post_init__(self) -> None:
        first_side: dict[tuple[str, str], Side] = {}
        seen: set[tuple[str, str]] = set()
        for side, dataset, patient, case in self._entries():
            if (dataset, case) in seen:
                raise DataError(f"the split names case {case!r} of {dataset!r} twice")
            seen.add((dataset, case))
            if side != "unused" and first_side.setdefault((dataset, patient), side) != side:
                torn = sorted(c for _, d, p, c in self._entries() if (d, p) == (dataset, patient))
                raise DataError(
                    f"cases {_some_of(torn)} of {dataset!r} are of one patient but on several sides of the split; "
                    "put all cases of a patient on one side"
                )

    def _entries(self) -> Iterable[tuple[Side, str, str, str]]:
        for side, datasets in self.sides.items():
            for dataset, patients in datasets.items():
                for patient, cases in patients.items():
                    for case in cases:
                        yield side, dataset, patient, case

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of who is on which side. How the split was made does not count."""
        return hashlib.sha256(json.dumps([FORMAT, self.sides], sort_keys=True).encode()).hexdigest()

    @cached_property
    def _by_case(self) -> dict[tuple[str, str], tuple[str, Side]]:
        return {(dataset, case): (patient, side) for side, dataset, patient, case in self._entries()}

    def side_of(self, case: SplitCase) -> Side:
        """The side of a case.

        Raises:
            KeyError: the split does not know it.
        """
        return self._by_case[case.dataset, case.case_id][1]

    def write(self, path: Path) -> None:
        """Freeze the split to a JSON file.

        Raises:
            StorageError: it cannot be written.
        """
        content = {"format": FORMAT, "how": self.how, "sha256": self.sha256, "sides": self.sides}
        atomic_write(path, json_text(content, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> FrozenSplit:
        """Read a frozen split. A file without ``sha256``, as one writes it by hand, is taken as it is.

        Raises:
            DataError: it cannot be read, is no split, was changed after it was frozen, or has a patient on two sides.
        """
        try:
            found = _SplitFile.model_validate_json(read_regular(path))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}; expected a frozen split (split.json)") from error
        except ValidationError as error:
            raise DataError(f"{path}: is no frozen split: {validation_message(_SplitFile, error)}") from error
        try:
            split = cls(_sorted_sides(found.sides), found.how)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        if found.sha256 not in (None, split.sha256):
            raise DataError(
                f"{path}: was changed after it was frozen (its sides have SHA-256 {split.sha256}, it says "
                f"{found.sha256}); restore it, or remove its sha256 to use it as it is now"
            )
        return split

    def require_matches(self, cases: Iterable[SplitCase], name: str) -> None:
        """Refuse a split that was made of other cases than the data has now.

        Args:
            cases: all labelled cases of the run's datasets.
            name: of the split, for messages.

        Raises:
            DataError: listing the cases that are missing, were added, or are of another patient now.
        """
        found = {(case.dataset, case.case_id): case.patient_id for case in cases}
        known = {key: patient for key, (patient, _) in self._by_case.items()}
        problems = {
            "the data lacks": known.keys() - found.keys(),
            "the split does not know": found.keys() - known.keys(),
            "another patient has": {key for key in known.keys() & found.keys() if known[key] != found[key]},
        }
        told = [
            f"{what} {_some_of(sorted('/'.join(key) for key in keys))} ({len(keys)})"
            for what, keys in problems.items()
            if keys
        ]
        if told:
            raise DataError(f"{name}: the split is of other cases than the data: {'; '.join(told)}")


def split_cases(
    cases: Sequence[SplitCase],
    settings: OfficialSplit | MadeSplit | FileSplit,
    whole: Mapping[str, Side] | None = None,
) -> FrozenSplit:
    """Split labelled cases as the settings say.

    Args:
        cases: all labelled cases of all datasets of a run, in any order.
        settings: how.
        whole: the side of datasets all of whose cases go to one; a frozen split does not ask.

    Raises:
        DataError: a patient is on two sides, a side stays empty, or a frozen split does not match the cases.
    """
    if isinstance(settings, FileSplit):
        split = FrozenSplit.read(settings.file)
        split.require_matches(cases, str(settings.file))
        return split
    whole = whole or {}
    chosen: dict[tuple[str, str], Side] = {}
    if isinstance(settings, MadeSplit):
        for dataset in sorted({case.dataset for case in cases} - whole.keys()):
            chosen |= _make([case for case in cases if case.dataset == dataset], settings)
    sides: dict[Side, dict[str, dict[str, list[str]]]] = {}
    for case in cases:
        side = whole.get(case.dataset) or chosen.get((case.dataset, case.patient_id)) or case.split or "unused"
        sides.setdefault(side, {}).setdefault(case.dataset, {}).setdefault(case.patient_id, []).append(case.case_id)
    return FrozenSplit(_sorted_sides(sides), settings.model_dump(mode="json"))


def _make(cases: Sequence[SplitCase], settings: MadeSplit) -> dict[tuple[str, str], Side]:
    """The side of each patient of one dataset, but for those who are held out officially.

    Patients are put in an order that the seed and their ids decide, category by category, and dealt out one by one to
    the side that lags most behind its share. So every side comes within a patient or two of its share, over all and in
    each category, and the order in which the cases were listed plays no part.
    """
    dataset = cases[0].dataset
    official = {case.split for case in cases} - {None, "train"}
    held_out = {case.patient_id for case in cases if case.split in official}
    shares = {side: share for side, share in settings.fractions.items() if side not in official}
    if list(shares) == ["train"]:
        return {(dataset, case.patient_id): "train" for case in cases if case.patient_id not in held_out}
    whole = sum(shares.values())
    categories = _categories(cases)
    patients = sorted(
        (p for p in categories if p not in held_out),
        key=lambda patient: (categories[patient], derived_seed(settings.seed, "split", dataset, patient), patient),
    )
    dealt: Counter[Split] = Counter()
    sides: dict[tuple[str, str], Side] = {}
    for number, patient in enumerate(patients, start=1):
        behind = {side: number * share / whole - dealt[side] for side, share in sorted(shares.items())}
        side = max(behind, key=lambda name: behind[name])
        dealt[side] += 1
        sides[dataset, patient] = side
    for side, share in shares.items():
        if not dealt[side]:
            raise DataError(
                f"dataset {dataset!r} has {len(patients)} patients to split: too few for a side {side!r} of {share:g} "
                "(data.split.fractions)"
            )
    return sides


def _categories(cases: Sequence[SplitCase]) -> dict[str, str]:
    """Each patient's category: of those of its cases, the one that is rarest in the dataset.

    Stratifying serves the rare categories, which chance would leave off a side. Which is more severe, no name tells.
    """
    counted = Counter(case.category or "" for case in cases)
    found: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        found[case.patient_id].add(case.category or "")
    return {patient: min(own, key=lambda name: (counted[name], name)) for patient, own in found.items()}


def _sorted_sides(
    sides: Mapping[Side, Mapping[str, Mapping[str, Sequence[str]]]],
) -> dict[Side, dict[str, dict[str, list[str]]]]:
    return {
        side: {
            dataset: {patient: sorted(cases) for patient, cases in sorted(patients.items())}
            for dataset, patients in sorted(datasets.items())
        }
        for side, datasets in sorted(sides.items())
    }


def _some_of(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
