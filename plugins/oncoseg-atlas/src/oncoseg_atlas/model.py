"""The automatic model ``atlas``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from oncoseg_atlas.alignment import starts
from oncoseg_atlas.cache import Cache
from oncoseg_atlas.contours import contour_grid
from oncoseg_atlas.folder import Atlas, AtlasCase, AtlasFolder
from oncoseg_atlas.fusion import Fused, FusedMasks, Voter, fuse
from oncoseg_atlas.in_turn import Watch, in_turn
from oncoseg_atlas.plugin import SPEC
from oncoseg_atlas.prepared import prepare
from oncoseg_atlas.registering import Aligned, Deformed, Target, align_atlas, deform_atlas, one_thread
from oncoseg_atlas.settings import AtlasSettings
from oncoseg_core import AutomaticModel, AutomaticResult, DataError, Licence, Progress, Volume
from oncoseg_core.imaging import content_hash


class Registered(NamedTuple):
    """The atlases that were registered with an image, the most similar first, and what must be known of that."""

    target: Target
    atlases: list[Deformed]
    takers: dict[str, frozenset[str]]
    """By structure, the keys of those atlases that speak for it."""
    notes: list[str]


class AtlasModel(AutomaticModel[AtlasSettings]):
    """Contours by registration of the clinic's own contoured cases.

    Raises:
        DataError, ConfigError: the folder of atlases is not what it should be.
    """

    Settings = AtlasSettings

    def __init__(self, settings: AtlasSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(settings)
        self._clock = clock
        self._cache = Cache(settings.cache_bytes)
        self.folder = AtlasFolder(settings, self._cache)
        self.weights_sha256 = self.folder.sha256
        about = self.folder.description
        self.spec = SPEC.model_copy(
            update={
                "structures": self.folder.structures,
                "modalities": (about.modality,),
                "licence": Licence(code="Apache-2.0", weights=about.licence),
            }
        )

    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        """Segment; the notes say which atlases took part, and why a structure is empty.

        Raises:
            DataError: the image is of another modality, cannot be registered, or no atlas fits it.
        """
        if unknown := sorted(set(structures) - set(self.spec.structures)):
            raise DataError(f"no atlas has {', '.join(unknown)}; they have: {', '.join(self.spec.structures)}")
        with one_thread():
            registered = self.register(volume, structures, progress)
            fused = self.fuse(registered, volume, structures, progress)
        confidences, notes = self._judged(fused)
        likes = ", ".join(f"{one.like.inside:.2f}" for one in registered.atlases)
        taken = f"{len(registered.atlases)} of {len(self.folder.cases)} atlases took part; they fit by {likes}"
        most = max((one.atlases for name, one in fused.items() if one is not None and name in confidences), default=0)
        method = f"agreement of {most} atlases" if most else ""
        masks = FusedMasks(volume.geometry, self.settings.contour_spacing_mm, fused)
        return AutomaticResult(masks, confidences, method, (*self.folder.notes, *registered.notes, taken, *notes))

    def register(self, volume: Volume, structures: Sequence[str], progress: Progress) -> Registered:
        """Register the atlases that have any of these structures, and fit, with an image.

        Raises:
            DataError: as for :meth:`segment`.
        """
        expected = self.folder.description.modality
        if volume.modality not in {expected, "unknown"}:
            raise DataError(f"the image is {volume.modality!r}, the atlases are {expected!r}")
        settings, began = self.settings, self._clock()
        watch = Watch(progress, lambda: self._clock() - began > settings.seconds, settings.threads)
        progress("reading the image", 0, 1)
        image = target_of(volume, settings, expected)
        fitting, notes = self._fitting(image, content_hash(volume.voxels, volume.geometry), structures, watch)
        # Each structure takes the most similar of those that have it: it must not depend on what else is asked for.
        takers = {name: _first(fitting, name, settings.most_atlases) for name in structures}
        chosen = [one for one in fitting if any(one.atlas.key in keys for keys in takers.values())]

        def work(aligned: Aligned) -> Deformed:
            return deform_atlas(image, aligned, settings, self._cache, watch.late)

        deformed = in_turn("deforming atlases", chosen, len(chosen), work, watch)
        if len(deformed) < len(chosen):
            notes.append(
                f"after {settings.seconds:g} s (`seconds`) {len(deformed)} of {len(chosen)} atlases were deformed, and "
                "no other was begun"
            )
        faults = [fault for one in deformed if (fault := one.fault(settings)) is not None]
        kept = [one for one in deformed if one.fault(settings) is None]
        if not kept:
            raise DataError(_none_fits(len(deformed), faults))
        notes += [f"an atlas was given up: {fault}" for fault in faults]
        return Registered(image, kept, takers, notes)

    def fuse(
        self, registered: Registered, volume: Volume, structures: Sequence[str], progress: Progress
    ) -> dict[str, Fused | None]:
        """What the registered atlases make of each structure; None where none of them puts it into the image."""
        fusion = self.settings.fusion
        voters = [Voter(registered.target.scan, one, fusion) for one in registered.atlases]
        grid = contour_grid(volume.geometry, self.settings.contour_spacing_mm)
        fused = {}
        for number, name in enumerate(structures):
            progress("fusing structures", number, len(structures))
            keys = registered.takers[name]
            fused[name] = fuse(name, [one for one in voters if one.deformed.atlas.key in keys], grid, fusion)
        progress("fusing structures", len(structures), len(structures))
        return fused

    def _judged(self, fused: dict[str, Fused | None]) -> tuple[dict[str, float], list[str]]:
        """How much the atlases agree on each structure; one on which they agree too little is emptied, with a note."""
        confidences, notes, least = {}, [], self.settings.minimum_agreement
        numbers = {case.key: case.number for case in self.folder.cases}
        for name, one in list(fused.items()):
            if one is not None and one.apart:
                which = ", ".join(f"atlas case {numbers[key]}" for key in one.apart)
                notes.append(f"{name}: {which} has it where no other atlas has it: look at its names, and sides")
            if one is None:
                notes.append(f"{name}: no atlas that fits the image puts it there; it was not contoured")
            elif one.agreement is None:
                notes.append(f"{name}: one atlas alone, so that there is no agreement to judge it by")
            elif one.agreement < least:
                notes.append(
                    f"{name}: {one.atlases} atlases agree by {one.agreement:.2f}, {least:.2f} is needed; it was not "
                    "contoured"
                )
                fused[name] = None
            else:
                confidences[name] = one.agreement
        return confidences, notes

    def _fitting(
        self, target: Target, voxels: str, structures: Sequence[str], watch: Watch
    ) -> tuple[list[Aligned], list[str]]:
        """The atlases that fit the image, the most similar first. One of the very same voxels is no atlas for it.

        Raises:
            DataError: none does.
        """
        settings, notes = self.settings, []
        cases = self.folder.cases
        others = [case for case in cases if self.folder.voxels[case.number] != voxels]
        if len(others) < len(cases):
            notes.append("the image is one of the atlases, which takes no part")
        tried = self._candidates(target, others, structures, watch)
        if len(tried) < len(others):
            notes.append(f"{len(tried)} of {len(others)} atlases were aligned (`most_candidates`)")

        def work(atlas: Atlas) -> Aligned:
            return align_atlas(target, atlas, settings, self._cache)

        aligned = in_turn("aligning atlases", self._loaded(tried), len(tried), work, watch)
        if len(aligned) < len(tried):
            notes.append(
                f"after {settings.seconds:g} s (`seconds`) {len(aligned)} of {len(tried)} atlases were aligned"
            )
        fitting = [one for one in aligned if one.fault is None]
        if not fitting:
            raise DataError(_none_fits(len(others), [one.fault or "" for one in aligned]))
        return sorted(fitting, key=lambda one: (-one.like.correlation, one.atlas.key)), notes

    def _candidates(
        self, target: Target, cases: list[AtlasCase], structures: Sequence[str], watch: Watch
    ) -> list[AtlasCase]:
        """Those that are worth the affine step: the most similar where they are only laid on the image, if many."""
        most = self.settings.most_candidates
        if len(cases) <= most:
            return [case for case in cases if set(case.structures) & set(structures)]

        def work(atlas: Atlas) -> float:
            return max((worth for worth, _ in starts(target.scan, atlas.scan)), default=-1.0)

        worth = in_turn("choosing atlases", self._loaded(cases), len(cases), work, watch)
        ranked = [case for _, case in sorted(zip(worth, cases, strict=False), key=lambda one: (-one[0], one[1].key))]
        kept = {case.key for name in structures for case in [one for one in ranked if name in one.structures][:most]}
        return [case for case in ranked if case.key in kept]

    def _loaded(self, cases: Sequence[AtlasCase]) -> Iterator[Atlas]:
        return (self.folder.load(case) for case in cases)


def _none_fits(atlases: int, faults: Sequence[str]) -> str:
    why = "; ".join(dict.fromkeys(faults)) or "there is no other"
    return f"none of {atlases} atlases fits the image, nothing was contoured: {why}"


def _first(fitting: Sequence[Aligned], name: str, most: int) -> frozenset[str]:
    return frozenset([one.atlas.key for one in fitting if name in one.atlas.masks][:most])


def target_of(volume: Volume, settings: AtlasSettings, modality: str) -> Target:
    """An image made ready, with the hash of all that its registration depends on.

    Raises:
        DataError: it cannot be registered.
    """
    digest = hashlib.sha256(content_hash(volume.voxels, volume.geometry).encode())
    digest.update(np.ascontiguousarray(volume.geometry.affine).tobytes())
    digest.update(repr((volume.geometry.shape, modality, settings.spacing_mm, settings.most_voxels)).encode())
    return Target(prepare(volume, settings, "the image"), digest.hexdigest(), modality)
