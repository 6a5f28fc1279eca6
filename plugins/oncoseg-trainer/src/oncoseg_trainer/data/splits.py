"""The data of a run, looked at once before anything is scored or written, and guarded against leakage."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oncoseg_core.path import Preprocessor
from oncoseg_lora import Leak, Scan, TrainedOn, declared_leaks, refuse_leaks, same_scans, seen_scans
from oncoseg_trainer.checkpoints.warm_start import NOTHING, Ancestry
from oncoseg_trainer.config.data_settings import AugmentationSettings
from oncoseg_trainer.config.settings import TrainSettings
from oncoseg_trainer.data.case_selection import ChosenCases
from oncoseg_trainer.data.case_source import MEMORY_BYTES
from oncoseg_trainer.data.held_out import HeldOut
from oncoseg_trainer.data.prompting import PromptMixture
from oncoseg_trainer.data.samples import Augmentation, SampleMaker
from oncoseg_trainer.data.sampling import LabelledSlices, Sampler, build_sampler

ALLOW_LEAKAGE = "data.allow_leakage: true"


@dataclass(frozen=True, eq=False)
class RunData:
    """What is trained on and scored; ``validation`` is None where the run has no such side.

    ``hash`` is the SHA-256 of the names and content hashes of all cases. ``leaks`` are suspected ones, and
    certain ones that the user allowed. ``trained_on`` is what the adapter will have seen, its ancestors' training
    included; None where that of an ancestor is not known.
    """

    held_out: HeldOut
    validation: HeldOut | None
    sampler: Sampler
    maker: SampleMaker
    leaks: list[Leak]
    trained_on: TrainedOn | None
    hash: str


def read_data(
    chosen: ChosenCases,
    settings: TrainSettings,
    preprocessors: Mapping[str, Preprocessor],
    prompting: PromptMixture,
    low: float,
    *,
    ancestry: Ancestry = NOTHING,
    unseen: Sequence[Scan] = (),
) -> RunData:
    """Look at every case of a run once: the held-out ones first, so that a bad one is found early.

    Args:
        chosen: the cases.
        settings: the run's.
        preprocessors: by modality.
        prompting: makes the prompts of training samples.
        low: the value of 0 in the model's range.
        ancestry: what the adapter that training starts from was trained on.
        unseen: cases that will be scored later, elsewhere: none may be trained on.

    Raises:
        DataError: a case cannot be taken, or something that is scored was trained on, and that is not allowed.
    """
    trained = [each for each in chosen.datasets if each.train]
    leaks = _declared_leaks(chosen, ancestry)
    refuse_leaks(leaks, allowed=settings.data.allow_leakage, setting=ALLOW_LEAKAGE)
    several = len(chosen.datasets) > 1
    scored, validated = (
        [each.source(rows, preprocessors, 0) for each in chosen.datasets if (rows := getattr(each, side))]
        for side in ("scored", "validation")
    )
    held_out = HeldOut(scored, several=several)
    validation = HeldOut(validated, several=several) if validated else None
    share = MEMORY_BYTES // (len(trained) * max(1, settings.training.workers))
    sources = [each.source(each.train, preprocessors, share) for each in trained]
    slices = [
        LabelledSlices.of(source, targets, [row.targets for row in each.train])
        for each, (source, targets) in zip(trained, sources, strict=True)
    ]
    scans = [
        Scan(each.name, row.case_id, source.content_hash(number))
        for each, (source, _) in zip(trained, sources, strict=True)
        for number, row in enumerate(each.train)
    ]
    watched = [] if validation is None else validation.scans
    leaks += _leaks_by_content(scans, held_out.scans, watched, unseen, ancestry)
    refuse_leaks(leaks, allowed=settings.data.allow_leakage, setting=ALLOW_LEAKAGE)
    if settings.training.workers:
        for source, _ in sources:
            source.release()  # the workers read for themselves
    maker = SampleMaker(
        sources=[source for source, _ in sources],
        weak=[each.weak for each in trained],
        preprocessors=preprocessors,
        prompting=prompting,
        seed=settings.seed,
        augmentation=_augmentation(settings.augmentation, low),
        hard_negatives=settings.prompts.hard_negatives,
        sequences=settings.prompts.sequences,
    )
    names = [each.name for each in trained]
    points = prompting.points_at_object
    sampler = build_sampler(slices, settings.sampling, settings.seed, points_at_object=points, names=names)
    trained_on = ancestry.joined(TrainedOn(tuple(names), frozenset(scan.content_hash for scan in scans)))
    content = _hash_of([*scans, *held_out.scans, *watched])
    return RunData(held_out, validation, sampler, maker, leaks, trained_on, content)


def _declared_leaks(chosen: ChosenCases, ancestry: Ancestry) -> list[Leak]:
    """Leaks between datasets that are declared to share images."""
    trained, scored, validated = (
        [each.dataset.spec for each in chosen.datasets if getattr(each, side)]
        for side in ("train", "scored", "validation")
    )
    seen = [*ancestry.datasets, *trained]
    leaks = declared_leaks(seen, [*scored, *validated])
    return leaks + _validated_on(declared_leaks([spec for spec in validated if spec not in seen], scored))


def _leaks_by_content(
    trained: Sequence[Scan],
    scored: Sequence[Scan],
    validated: Sequence[Scan],
    unseen: Sequence[Scan],
    ancestry: Ancestry,
) -> list[Leak]:
    """Leaks between cases with the same image."""
    leaks = same_scans(trained, scored) + same_scans(trained, validated)
    leaks += _validated_on(same_scans(validated, scored))
    held_out = [*scored, *validated]
    known = {(scan.dataset, scan.case_id) for scan in held_out}
    leaks += same_scans(trained, [scan for scan in unseen if (scan.dataset, scan.case_id) not in known])
    return leaks if ancestry.trained_on is None else leaks + seen_scans(ancestry.trained_on, held_out)


def _hash_of(scans: Sequence[Scan]) -> str:
    lines = sorted(f"{scan.name} {scan.content_hash}" for scan in scans)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _validated_on(leaks: list[Leak]) -> list[Leak]:
    """Leaks of cases by which an epoch is chosen: their scores are no test either, if less wrong."""
    return [leak._replace(how=f"validated on, {leak.how}") for leak in leaks]


def _augmentation(settings: AugmentationSettings, low: float) -> Augmentation | None:
    if settings == AugmentationSettings():
        return None
    from oncoseg_trainer.data.augmentation import SpatialAugmentation  # MONAI takes seconds to import

    return SpatialAugmentation(settings, low)
