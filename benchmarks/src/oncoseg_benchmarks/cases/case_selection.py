"""Which cases are scored: datasets opened, split, reduced to the wanted targets, and put in a fixed order."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from oncoseg_benchmarks.config.settings import BenchSettings, DatasetChoice
from oncoseg_core import (
    Annotation,
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
    close_matches,
)
from oncoseg_core.data import FrozenSplit, split_cases
from oncoseg_core.path import parts_of
from oncoseg_core.system import derived_seed

WEAK: tuple[Annotation, ...] = ("boxes", "recist", "class")
"""Annotations that no mask can be scored against."""


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
class ChosenCases:
    """The cases of a run, their datasets, the splits by dataset, and what was left out."""

    cases: list[Scored]
    specs: dict[str, DatasetSpec]
    splits: dict[str, FrozenSplit]
    skips: list[Skip] = field(default_factory=list)

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


def choose_cases(settings: BenchSettings, registry: Registry, progress: Progress) -> ChosenCases:
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
    for modality, values in settings.normalizers.items():  # wrong ones are told before a folder is begun
        registry.prepare(NormalizerSpec, modality, values)
    for _, spec, _ in found:
        _require_absent(settings.absent, spec.name, spec.targets)
    chosen = ChosenCases([], {spec.name: spec for _, spec, _ in found}, {})
    for choice, spec, adapter in found:
        root = choice.root
        if root is None and settings.data_root is not None:
            root = settings.data_root / choice.name
        if choice.optional and not (root is not None and root.is_dir()):
            where = "no root is given" if root is None else f"{root}: no such folder"
            chosen.skips.append(Skip("", spec.name, "the dataset", where))
            continue
        if root is None:
            root = adapter.fetch(progress)
        cases = _discovered(adapter, spec, root)
        for case in cases:  # some datasets know their targets only by the files
            _require_absent(settings.absent, spec.name, case.targets)
        chosen.cases.extend(_choose(choice, cases, adapter, settings.seed, chosen))
    if not chosen.cases:
        told = "; ".join(f"{skip.dataset}: {skip.what}, {skip.reason}" for skip in chosen.skips[:3])
        raise DataError(
            f"no case is left to be scored ({told or 'the datasets hold none'}); give folders as data_root or root; "
            "see with `oncoseg datasets check NAME ROOT` what is found in one"
        )
    _require_known_modalities(settings, {scored.case.modality for scored in chosen.cases})
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


def _require_known_modalities(settings: BenchSettings, modalities: set[str]) -> None:
    """Refuse settings of a modality that no case has: nothing would read them.

    Raises:
        ConfigError: naming it.
    """
    parts = {part for modality in modalities for part in parts_of(modality)}
    for section, given, known in (
        ("normalizers", settings.normalizers, parts),
        ("channels", settings.channels, modalities),
    ):
        for name in given:
            if name not in known:
                raise ConfigError(f"{section}.{name}: no case here is of that modality{close_matches(name, known)}")


def _discovered(adapter: DatasetAdapter, spec: DatasetSpec, root: Path) -> list[Case]:
    try:
        cases = sorted(adapter.discover(root), key=lambda case: case.case_id)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise PluginError(f"dataset {spec.name!r} made a wrong case: {first['loc']}: {first['msg']}") from error
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


def _choose(
    choice: DatasetChoice, cases: Sequence[Case], adapter: DatasetAdapter, seed: int, chosen: ChosenCases
) -> list[Scored]:
    name = choice.name
    labelled = [case for case in cases if case.labels]
    _told(chosen, name, len(cases) - len(labelled), "without a label")
    weak = [case for case in labelled if case.annotation in WEAK]
    for annotation in sorted({case.annotation for case in weak}):
        number = sum(case.annotation == annotation for case in weak)
        _told(chosen, name, number, f"annotated with {annotation}: nothing that a mask can be scored against")
    strict = [case for case in labelled if case.annotation not in WEAK]
    known = {target.name for case in strict for target in case.targets}
    for wanted in choice.targets:
        if wanted not in known:
            raise DataError(f"dataset {name!r}: target {wanted!r} is in no case{close_matches(wanted, known)}")
    sides = dict.fromkeys((case.case_id for case in strict), "all")
    if choice.side != "all":
        split = chosen.splits[name] = split_cases(strict, choice.chosen_split)
        sides = {case.case_id: split.side_of(case) for case in strict}
        strict = [case for case in strict if sides[case.case_id] == choice.side]
        if not strict:
            raise DataError(
                f"dataset {name!r}: no labelled case is on the side {choice.side!r} of its {choice.chosen_split.how} "
                "split; take side: all, or make a split (split: {how: made})"
            )
    kept = [
        case.model_copy(
            update={"targets": tuple(t for t in case.targets if not choice.targets or t.name in choice.targets)}
        )
        for case in strict
    ]
    kept = [case for case in kept if case.targets]
    if choice.limit is not None and len(kept) > choice.limit:
        _told(chosen, name, len(kept) - choice.limit, f"beyond the limit of {choice.limit}, by the seed")
        drawn = sorted(kept, key=lambda case: derived_seed(seed, "limit", name, case.case_id))[: choice.limit]
        kept = sorted(drawn, key=lambda case: case.case_id)
    return [Scored(case, adapter, sides[case.case_id]) for case in kept]


def _told(chosen: ChosenCases, dataset: str, number: int, why: str) -> None:
    if number:
        chosen.skips.append(Skip("", dataset, f"{number} cases", why))
