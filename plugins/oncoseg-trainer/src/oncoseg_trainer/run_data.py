"""The data of a run, looked at once before anything is scored or written, and guarded against leakage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oncoseg_core.interfaces import PromptGenerator
from oncoseg_core.leakage import Leak, Scan, TrainedOn, declared_leaks, refuse_leaks, same_scans
from oncoseg_core.preprocess import Preprocessor
from oncoseg_trainer.cases import ChosenCases
from oncoseg_trainer.data import Augmentation, SampleMaker
from oncoseg_trainer.data_settings import AugmentationSettings
from oncoseg_trainer.held_out import HeldOut
from oncoseg_trainer.sampling import LabelledSlices, Sampler, build_sampler
from oncoseg_trainer.settings import TrainSettings
from oncoseg_trainer.sources import MEMORY_BYTES

ALLOW_LEAKAGE = "data.allow_leakage: true"


@dataclass(frozen=True, eq=False)
class RunData:
    """What is trained on and scored. ``leaks`` are suspected ones, and certain ones that the user allowed."""

    held_out: HeldOut
    sampler: Sampler
    maker: SampleMaker
    leaks: list[Leak]
    trained_on: TrainedOn


def read_data(
    chosen: ChosenCases,
    settings: TrainSettings,
    preprocessors: Mapping[str, Preprocessor],
    generator: PromptGenerator,
    low: float,
    *,
    points_at_object: bool,
) -> RunData:
    """Look at every case of a run once: the held-out ones first, so that a bad one is found early.

    Args:
        chosen: the cases.
        settings: the run's.
        preprocessors: by modality.
        generator: makes the prompts of training samples.
        low: the value of 0 in the model's range.
        points_at_object: whether the generator's prompts need the object on the slice.

    Raises:
        DataError: a case cannot be taken, or something that is scored was trained on, and that is not allowed.
    """
    allowed = settings.data.allow_leakage
    trained = [each for each in chosen.datasets if each.train]
    scored = [each for each in chosen.datasets if each.scored]
    leaks = declared_leaks([each.dataset.spec for each in trained], [each.dataset.spec for each in scored])
    refuse_leaks(leaks, allowed=allowed, setting=ALLOW_LEAKAGE)
    held_out = HeldOut(
        [each.source(each.scored, preprocessors, 0) for each in scored], several=len(chosen.datasets) > 1
    )
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
    leaks += same_scans(scans, held_out.scans)
    refuse_leaks(leaks, allowed=allowed, setting=ALLOW_LEAKAGE)
    if settings.training.workers:
        for source, _ in sources:
            source.release()  # the workers read for themselves
    maker = SampleMaker(
        sources=[source for source, _ in sources],
        weak=[each.weak for each in trained],
        preprocessors=preprocessors,
        generator=generator,
        seed=settings.seed,
        augmentation=_augmentation(settings.augmentation, low),
        points_at_object=points_at_object,
        hard_negatives=settings.prompts.hard_negatives,
    )
    return RunData(
        held_out,
        build_sampler(slices, settings.sampling, settings.seed, points_at_object=points_at_object),
        maker,
        leaks,
        TrainedOn(tuple(each.name for each in trained), frozenset(scan.content_hash for scan in scans)),
    )


def _augmentation(settings: AugmentationSettings, low: float) -> Augmentation | None:
    if settings == AugmentationSettings():
        return None
    from oncoseg_trainer.augmentation import SpatialAugmentation  # MONAI takes seconds to import

    return SpatialAugmentation(settings, low)
