"""The rules of an exporter."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from oncoseg_core import Exporter, ExportReport, Geometry, Segmentation, StorageError
from oncoseg_testing.checks.rules import for_all, refuses, require, rule, show


def check_exporter(exporter: Exporter, folder: Path, *, suffix: str, segmentation: Segmentation | None = None) -> None:
    """Check an exporter on generated segmentations of one or two targets that do not overlap, on oblique grids too.

    Args:
        exporter: built, with whatever settings.
        folder: an empty folder to write in.
        suffix: of its files, as in its record.
        segmentation: what to export instead, for a format that needs the series it belongs to.

    Raises:
        AssertionError: a rule is broken.
    """
    counter = iter(range(1_000_000))
    chosen = _segmentations() if segmentation is None else st.just(segmentation)
    count = 30 if segmentation is None else 1
    for_all(chosen, lambda drawn: _check(exporter, drawn, folder / str(next(counter)), suffix), count=count)


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
