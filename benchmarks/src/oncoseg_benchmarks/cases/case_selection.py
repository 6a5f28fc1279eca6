"""Which cases are scored: datasets opened, split, reduced to the wanted targets, and put in a fixed order."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from oncoseg_benchmarks.config.settings import BenchDataset, BenchSettings
from oncoseg_core import (
    Case,
    ConfigError,
    DataError,
    DatasetAdapter,
    DatasetSpec,
    NormalizerSpec,
    PluginError,
    Progress,
    Registry,
    Target,
)
from oncoseg_core.data import (
    WEAK,
    FrozenSplit,
    discover_cases,
    refuse_bad_cases,
    require_known_modalities,
    require_known_targets,
    split_cases,
)
from oncoseg_core.system import derived_seed


class Scored(NamedTuple):
    """A case to be scored, the adapter that reads it, and the side of the split that it is on (``all`` without one)."""

    case: Case
    adapter: DatasetAdapter
    side: str


class Skip(NamedTuple):
    """What is not scored, and why: listed in the report, no failure."""

    model: str
    dataset: str
    what: str
    reason: str


@dataclass(frozen=True, eq=False)
class BenchCases:
    """The cases of a run, their datasets, the splits by dataset, and what was left out.

    ``left_out`` are the numbers of cases that the user left out, by name or because they cannot be used, by dataset;
    ``flags`` the settings of a dataset that are switched on.
    """

    cases: list[Scored]
    specs: dict[str, DatasetSpec]
    splits: dict[str, FrozenSplit]
    skips: list[Skip] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    flags: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def _families(self) -> dict[str, str]:
        """Of each dataset, the first by name of those that are declared to hold its images, over however many steps."""
        families = {name: name for name in sorted(self.specs)}
        for name, spec in sorted(self.specs.items()):
            for other in (overlap.dataset for overlap in spec.overlaps):
                if other in families:
                    first, last = sorted((families[name], families[other]))
                    families = {each: first if family == last else family for each, family in families.items()}
        return families

    def patient(self, case: Case) -> str:
        """The patient, for statistics: the same in datasets that are said to share images, surely or not."""
        return f"{self._families[case.dataset]}/{case.patient_id}"

    @property
    def sha256(self) -> str:
        """Of which cases, patients, targets and sides are scored."""
        listed = [
            (each.case.dataset, each.case.case_id, each.case.patient_id, each.side, [t.name for t in each.case.targets])
            for each in self.cases
        ]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def choose_cases(settings: BenchSettings, registry: Registry, progress: Progress) -> BenchCases:
    """Open the datasets and choose; no image is read.

    Raises:
        UnknownComponentError, ConfigError: a dataset is unknown, or its settings are wrong.
        PluginError: an adapter made two cases of one name, or a case of another dataset.
        DataError: a folder is not its dataset, a target is in no case, or nothing is left to score.
    """
    found = [
        (choice, registry.get(DatasetSpec, choice.name), registry.build(DatasetSpec, choice.name, choice.settings))
        for choice in settings.datasets
    ]
    for modality, values in settings.normalizers.items():  # wrong ones are skipped before a folder is begun
        registry.prepare(NormalizerSpec, modality, values)
    for _, spec, _ in found:
        _require_absent(settings.absent, spec.name, spec.targets)
    chosen = BenchCases([], {spec.name: spec for _, spec, _ in found}, {})
    for choice, spec, adapter in found:
        chosen.flags[spec.name] = sorted(name for name, value in adapter.settings if value is True)
        root = choice.root
        if root is None and settings.data_root is not None:
            root = settings.data_root / choice.name
        if choice.optional and not (root is not None and root.is_dir()):
            where = "no root is given" if root is None else f"{root}: no such folder"
            chosen.skips.append(Skip("", spec.name, "the dataset", where))
            continue
        if root is None:
            root = adapter.fetch(progress)
        cases = _usable(choice, _discovered(adapter, spec, root), chosen)
        for case in cases:  # some datasets know their targets only by the files
            _require_absent(settings.absent, spec.name, case.targets)
        chosen.cases.extend(_choose(choice, cases, adapter, settings.seed, chosen))
    if not chosen.cases:
        skipped = "; ".join(f"{skip.dataset}: {skip.what}, {skip.reason}" for skip in chosen.skips[:3])
        raise DataError(
            f"no case is left to be scored ({skipped or 'the datasets hold none'}); give folders as data_root or root; "
            "see with `oncoseg datasets check NAME ROOT` what is found in one"
        )
    modalities = {scored.case.modality for scored in chosen.cases}
    require_known_modalities(settings.normalizers, settings.channels, modalities)
    return chosen


def _require_absent(absent: Collection[str], dataset: str, targets: Iterable[Target]) -> None:
    """Refuse to call absent what a dataset's images show.

    Raises:
        ConfigError: naming it.
    """
    for target in targets:
        for word in (target.name, *target.synonyms):
            if word in absent:
                raise ConfigError(
                    f"prompts: {word!r} is called absent, and dataset {dataset!r} has the target {target.name!r}; a "
                    "concept is absent only where no image shows it"
                )


def _discovered(adapter: DatasetAdapter, spec: DatasetSpec, root: Path) -> list[Case]:
    cases = sorted(discover_cases(adapter, spec, root), key=lambda case: case.case_id)
    for case, following in itertools.zip_longest(cases, cases[1:]):
        if case.dataset != spec.name:
            raise PluginError(f"dataset {spec.name!r} made a case of {case.dataset!r}: {case.case_id!r}")
        if following is not None and following.case_id == case.case_id:
            raise PluginError(
                f"dataset {spec.name!r} made two cases {case.case_id!r} in {root}: rows would be mixed up"
            )
        for name in (case.case_id, case.patient_id, *(target.name for target in case.targets)):
            if not (name and name.isprintable()):
                raise DataError(
                    f"dataset {spec.name!r} in {root}: case {case.case_id!r} has the name {name!r}, empty or with "
                    "characters that a table cannot hold; rename its files"
                )
        names = [target.name for target in case.targets]
        if len(set(names)) < len(names):
            raise PluginError(f"dataset {spec.name!r}: case {case.case_id!r} names a target twice ({', '.join(names)})")
    return cases


def _usable(choice: BenchDataset, cases: Sequence[Case], chosen: BenchCases) -> list[Case]:
    """The cases that can be used. Those that are left out become skips with a reason; by name, once the split is made.

    Raises:
        DataError: a case cannot be used, and is not left out; or a name is no case's.
    """
    bad = {case.case_id: case.fault.message for case in cases if case.fault is not None}
    faults = {case.case_id: bad.get(case.case_id) for case in cases}
    where = f"leave_out of the dataset {choice.name!r}"
    refuse_bad_cases(choice.name, faults, choice.leave_out, allowed=choice.leave_out_bad, where=where)
    left_out = {**bad, **dict.fromkeys(choice.leave_out, "left out by name")}
    chosen.skips.extend(Skip("", choice.name, f"case {name}", reason) for name, reason in left_out.items())
    chosen.left_out.update({choice.name: len(left_out)} if left_out else {})
    return [case for case in cases if case.fault is None]


def _choose(
    choice: BenchDataset, cases: Sequence[Case], adapter: DatasetAdapter, seed: int, chosen: BenchCases
) -> list[Scored]:
    with_masks = _with_masks(choice.name, cases, chosen)
    known = {target.name for case in with_masks for target in case.targets}
    require_known_targets(choice.name, choice.targets, known)
    kept = []
    for case, side in _by_side(choice, with_masks, chosen):
        targets = tuple(target for target in case.targets if not choice.targets or target.name in choice.targets)
        if targets and case.case_id not in choice.leave_out:
            kept.append(Scored(case.model_copy(update={"targets": targets}), adapter, side))
    return _limited(choice, kept, seed, chosen)


def _with_masks(dataset: str, cases: Sequence[Case], chosen: BenchCases) -> list[Case]:
    labelled = [case for case in cases if case.labels]
    _skip(chosen, dataset, len(cases) - len(labelled), "without a label")
    weak = Counter(case.annotation for case in labelled if case.annotation in WEAK)
    for annotation, number in sorted(weak.items()):
        _skip(chosen, dataset, number, f"annotated with {annotation}: nothing that a mask can be scored against")
    return [case for case in labelled if case.annotation not in WEAK]


def _by_side(choice: BenchDataset, cases: Sequence[Case], chosen: BenchCases) -> list[tuple[Case, str]]:
    """The cases on the chosen side of the split, which is kept, each with its side."""
    if choice.side == "all":
        return [(case, "all") for case in cases]
    split = chosen.splits[choice.name] = split_cases(cases, choice.chosen_split)
    kept: list[tuple[Case, str]] = [(case, choice.side) for case in cases if split.side_of(case) == choice.side]
    if not kept:
        raise DataError(
            f"dataset {choice.name!r}: no labelled case is on the side {choice.side!r} of its "
            f"{choice.chosen_split.how} split; take side: all, or make a split (split: {{how: made}})"
        )
    return kept


def _limited(choice: BenchDataset, scored: list[Scored], seed: int, chosen: BenchCases) -> list[Scored]:
    if choice.limit is None or len(scored) <= choice.limit:
        return scored
    _skip(chosen, choice.name, len(scored) - choice.limit, f"beyond the limit of {choice.limit}, by the seed")
    drawn = sorted(scored, key=lambda each: derived_seed(seed, "limit", choice.name, each.case.case_id))
    return sorted(drawn[: choice.limit], key=lambda each: each.case.case_id)


def _skip(chosen: BenchCases, dataset: str, number: int, reason: str) -> None:
    if number:
        chosen.skips.append(Skip("", dataset, f"{number} cases", reason))
