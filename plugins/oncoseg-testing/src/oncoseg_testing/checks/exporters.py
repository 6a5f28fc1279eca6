"""The rules of an exporter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from hypothesis import strategies as st

from oncoseg_core import BoolArray, Exporter, ExportReport, Geometry, Segmentation, StorageError, Volume
from oncoseg_testing.checks.rules import for_all, refuses, require, rule, show
from oncoseg_testing.phantoms import phantom

ReadBack: TypeAlias = Callable[[Path, Volume], Mapping[str, BoolArray] | None]
"""Masks of a written file, by name or, as from a label image, as ``label 1`` and so on in the segmentation's order.

None where nobody reads the format. The image that is given lies on the segmentation's grid, and has no values."""


def check_exporter(
    exporter: Exporter,
    folder: Path,
    *,
    suffix: str,
    segmentation: Segmentation | None = None,
    read_back: ReadBack | None = None,
) -> None:
    """Check an exporter on generated segmentations of one or two targets that do not overlap, on oblique grids too.

    Args:
        exporter: built, with whatever settings.
        folder: an empty folder to write in.
        suffix: of its files, as in its record.
        segmentation: what to export instead, for a format that needs the series it belongs to.
        read_back: reads a file as somebody else would, and refuses one that lies elsewhere with ``GeometryError``; the
            phantom's masks must come back where they were.

    Raises:
        AssertionError: a rule is broken.
    """
    counter = iter(range(1_000_000))
    chosen = _segmentations() if segmentation is None else st.just(segmentation)
    count = 30 if segmentation is None else 1
    for_all(chosen, lambda drawn: _check(exporter, drawn, folder / str(next(counter)), suffix), count=count)
    if read_back is not None:
        image, masks = phantom()
        given = segmentation or Segmentation(masks, image.geometry)
        _check_place(exporter, given, folder / f"phantom{suffix}", read_back)


def _check_place(exporter: Exporter, segmentation: Segmentation, destination: Path, read_back: ReadBack) -> None:
    """Whether the file has the masks where they were."""
    geometry = segmentation.geometry
    image = Volume(np.zeros((1, *geometry.shape), np.uint8), geometry, "unknown")
    with rule("what was written reads back as the same masks, in the same place", "the phantom"):
        exporter.export(segmentation, destination)
        read = read_back(destination, image)
        for number, (name, mask) in enumerate(segmentation.masks.items() if read is not None else (), start=1):
            again = read.get(name, read.get(f"label {number}"))
            require(again is not None, f"no {name!r}, but {sorted(read)}")
            wrong = np.count_nonzero(again != mask)
            require(wrong == 0, f"{name!r}: {wrong} voxels differ, of {np.count_nonzero(mask)}")


def _names(paths: Iterable[Path]) -> list[str]:
    """As a message shows them."""
    return sorted(path.name for path in paths)


def _check(exporter: Exporter, segmentation: Segmentation, folder: Path, suffix: str) -> None:
    masks = "; ".join(f"{name!r} {show(mask)}" for name, mask in segmentation.masks.items())
    example = f"{masks}; affine {segmentation.geometry.affine.tolist()}"
    before = {name: mask.copy() for name, mask in segmentation.masks.items()}
    folder.mkdir(parents=True)
    destination = folder / f"mask{suffix}"
    with rule("export writes what it is given, and does not change it", example):
        report = exporter.export(segmentation, destination)
        unchanged = all(np.array_equal(mask, before[name]) for name, mask in segmentation.masks.items())
        require(unchanged, "a mask was modified")
    with rule("export returns an ExportReport that names the destination", example):
        require(isinstance(report, ExportReport) and destination in report.files, repr(report))
    with rule("files names the destination and all else that is written, beside it", example):
        declared = exporter.files(destination)
        require(set(report.files) <= set(declared), f"written: {_names(report.files)}; declared: {_names(declared)}")
        require(destination in declared, f"declared: {_names(declared)}")
        require(all(path.parent == destination.parent for path in declared), f"{[str(path) for path in declared]}")
    with rule("no file takes the place of the manifest STEM.json or the preview STEM.png", example):
        reserved = {destination.with_name(f"mask{ending}") for ending in (".json", ".png")} - {destination}
        require(not reserved & set(declared), f"declared: {_names(declared)}")
    with rule("the files that the report names are there, not empty, and no others", example):
        written = sorted(path for path in folder.rglob("*") if path.is_file())
        require(written == sorted(report.files), f"{[str(path.relative_to(folder)) for path in written]}")
        require(all(path.stat().st_size > 0 for path in written), "an empty file")
    with rule("a place that cannot be written is refused with StorageError, and nothing is left behind", example):
        (folder / "taken").write_bytes(b"a file, not a folder")
        before_refusal = sorted(folder.rglob("*"))
        refuses(StorageError, lambda: exporter.export(segmentation, folder / "taken" / f"mask{suffix}"))
        require(sorted(folder.rglob("*")) == before_refusal, f"left behind: {sorted(folder.rglob('*'))}")


@st.composite
def _segmentations(draw: st.DrawFn) -> Segmentation:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(2, 8), st.integers(2, 8)))
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, shape)
    label.flat[0] = 1
    direction, _ = np.linalg.qr(rng.normal(size=(3, 3))) if draw(st.booleans()) else (np.eye(3), None)
    spacing = draw(st.tuples(*[st.sampled_from((0.7, 1.0, 3.5))] * 3))
    geometry = Geometry.from_parts(shape, spacing, direction, (-120.5, 33.0, 10.0))
    names = ("liver tumour", "liver")[: draw(st.integers(1, 2))]
    return Segmentation({name: label == value for value, name in enumerate(names, start=1)}, geometry)
