"""The automatic model ``atlas``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np

from oncoseg_atlas.cache import Cache
from oncoseg_atlas.contours import contour_grid
from oncoseg_atlas.folder import Atlas, AtlasFolder
from oncoseg_atlas.fusion import Fused, FusedMasks, Voter, fuse
from oncoseg_atlas.plugin import SPEC
from oncoseg_atlas.prepared import prepare
from oncoseg_atlas.registering import Aligned, Deformed, Target, align_atlas, deform_atlas, one_thread
from oncoseg_atlas.settings import AtlasSettings
from oncoseg_core import AutomaticModel, AutomaticResult, DataError, Progress, Volume
from oncoseg_core.imaging import content_hash

BEAT_SECONDS = 2.0
"""Whoever watches the work hears of it that often, however long an atlas takes."""

Item = TypeVar("Item")
Result = TypeVar("Result")


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
        self.spec = SPEC.model_copy(
            update={"structures": self.folder.structures, "modalities": (self.folder.description.modality,)}
        )

    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        """Segment; the notes say which atlases took part, and what each structure that is empty is empty for.

        Raises:
            DataError: the image is of another modality, cannot be registered, or no atlas fits it.
        """
        if unknown := sorted(set(structures) - set(self.spec.structures)):
            raise DataError(f"no atlas has {', '.join(unknown)}; they have: {', '.join(self.spec.structures)}")
        expected = self.folder.description.modality
        if volume.modality not in {expected, "unknown"}:
            raise DataError(f"the image is {volume.modality!r}, the atlases are {expected!r}")
        began = self._clock()
        settings = self.settings

        def late() -> bool:
            return self._clock() - began > settings.seconds

        notes = list(self.folder.notes)
        with one_thread():
            target = _target(volume, settings, expected)
            fitting, more = self._fitting(
                target, content_hash(volume.voxels, volume.geometry), structures, progress, late
            )
            notes += more
            chosen = fitting[: settings.most_atlases]
            registered: list[Deformed] = []
            for one in self._each(
                "deforming atlases",
                chosen,
                lambda it: deform_atlas(target, it, settings, self._cache, late),
                progress,
                late,
            ):
                registered.append(one)
            if len(registered) < len(chosen):
                notes.append(_cut(settings.seconds, len(registered), len(chosen)))
            voters = [Voter(target.scan, one, settings.fusion) for one in registered]
            grid = contour_grid(volume.geometry, settings.contour_spacing_mm)
            fused: dict[str, Fused | None] = {}
            for number, name in enumerate(structures):
                progress("fusing structures", number, len(structures))
                fused[name] = fuse(name, voters, grid, settings.fusion)
            progress("fusing structures", len(structures), len(structures))
        confidences = {}
        for name, one in fused.items():
            if one is None:
                notes.append(f"{name}: no atlas that fits the image puts it there; it was not contoured")
            elif one.agreement is None:
                notes.append(f"{name}: one atlas alone, so that there is no agreement to judge it by")
            elif one.agreement < settings.minimum_agreement:
                notes.append(
                    f"{name}: {one.atlases} atlases agree by {one.agreement:.2f}, {settings.minimum_agreement:.2f} is "
                    "needed; it was not contoured"
                )
                fused[name] = None
            else:
                confidences[name] = one.agreement
        similar = ", ".join(f"{one.like.correlation:.2f}" for one in chosen)
        notes.append(f"{len(registered)} of {len(self.folder.cases)} atlases took part; similarity {similar}")
        masks = FusedMasks(volume.geometry, settings.contour_spacing_mm, fused)
        return AutomaticResult(masks, confidences, f"agreement of {len(registered)} atlases", tuple(notes))

    def _fitting(
        self, target: Target, voxels: str, structures: Sequence[str], progress: Progress, late: Callable[[], bool]
    ) -> tuple[list[Aligned], list[str]]:
        """The atlases that fit the image, the most similar first.

        Raises:
            DataError: none does.
        """
        cases = [case for case in self.folder.cases if set(case.structures) & set(structures)]
        notes = []
        if len(cases) > self.settings.most_candidates:
            notes.append(f"{self.settings.most_candidates} of {len(cases)} atlases were tried (`most_candidates`)")
        tried = cases[: self.settings.most_candidates]

        def work(atlas: Atlas) -> Aligned:
            return align_atlas(target, atlas, self.settings, self._cache)

        loaded = (atlas for case in tried if (atlas := self.folder.load(case)).voxels_sha256 != voxels)
        aligned = list(self._each("aligning atlases", loaded, work, progress, late, len(tried)))
        if len(aligned) < len(tried):
            notes.append(f"{len(tried) - len(aligned)} atlases were not tried: the image itself, or time ran out")
        fitting = [one for one in aligned if one.fault is None]
        if not fitting:
            faults = (
                "; ".join(dict.fromkeys(one.fault or "" for one in aligned)) or "there is none but the image itself"
            )
            raise DataError(f"none of {len(tried)} atlases fits the image, nothing was contoured: {faults}")
        fitting.sort(key=lambda one: (-one.like.correlation, one.atlas.key))
        return fitting, notes

    def _each(
        self,
        what: str,
        items: Iterable[Item],
        work: Callable[[Item], Result],
        progress: Progress,
        late: Callable[[], bool],
        total: int | None = None,
    ) -> Iterator[Result]:
        """The results in order, ``threads`` at a time, with a beat; once it is late, no other item is begun."""
        queue = iter(items)
        count = total if total is not None else len(list(items)) if isinstance(items, list) else 0
        results: dict[int, Result] = {}
        begun = 0
        with ThreadPoolExecutor(self.settings.threads) as pool:
            running = {}
            while True:
                while len(running) < self.settings.threads and not (begun and late()):
                    item = next(queue, None)
                    if item is None:
                        break
                    running[pool.submit(work, item)] = begun
                    begun += 1
                if not running:
                    break
                done, _ = wait(running, timeout=BEAT_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    results[running.pop(future)] = future.result()
                progress(what, len(results), count)
        yield from (results[number] for number in sorted(results))


def _target(volume: Volume, settings: AtlasSettings, modality: str) -> Target:
    digest = hashlib.sha256(content_hash(volume.voxels, volume.geometry).encode())
    digest.update(np.ascontiguousarray(volume.geometry.affine).tobytes())
    digest.update(repr((volume.geometry.shape, modality, settings.spacing_mm, settings.most_voxels)).encode())
    return Target(prepare(volume, settings, "the image"), digest.hexdigest(), modality)


def _cut(seconds: float, done: int, planned: int) -> str:
    return f"after {seconds:g} s (`seconds`) {done} of {planned} atlases were deformed, and no other was begun"
