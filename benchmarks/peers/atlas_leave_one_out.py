"""Multi-atlas contouring, leave one out: Dice against doing nothing and against each step, agreement, similarity, time.

**Real pair**: the sample scans ``lung1`` and ``lung2``, two patients. The samples have no organ labels: lungs are
labelled here by threshold and connected components (air within the body, below -400 HU, closed by 3 voxels, the two
largest parts), bones by threshold (above 200 HU, within the body, parts of 1 ml and more).

**Made patients**: each real scan is warped at random with its labels (scale, rotation, smooth field), loses slices at
either end, and gets noise, so that the truth is known and fusion, selection and agreement have more than two patients
to be compared on. Made patients of one scan share its anatomy: results among them are too good, and are told apart from
those where all atlases are of the other real patient.

**Brains**, where ``--colin`` names a folder with ``ch2.nii.gz`` and ``aal.nii.gz`` (Colin27 with 116 regions: Debian's
``mricron-data``): made patients of one MR scan.

    OMP_NUM_THREADS=1 python benchmarks/peers/atlas_leave_one_out.py --colin /usr/share/mricron/templates
    python benchmarks/peers/atlas_leave_one_out.py --most 1    # try it small; nothing is recorded
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, stats

from oncoseg_atlas.alignment import likeness, starts
from oncoseg_atlas.cache import Cache
from oncoseg_atlas.fusion import FusedMasks
from oncoseg_atlas.model import AtlasModel, Registered, target_of
from oncoseg_atlas.prepared import Prepared, prepare
from oncoseg_atlas.registering import Deformed, align_atlas, deform_atlas, one_thread
from oncoseg_atlas.settings import AtlasSettings
from oncoseg_benchmarks.record import RESULTS, record
from oncoseg_core import BoolArray, DatasetSpec, Volume, load_plugins
from oncoseg_core.imaging import read_volume

FUSIONS = ("majority", "local", "staple")


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, help="made patients of each scan, to try the script; nothing is recorded")
    parser.add_argument("--colin", type=Path, help="folder with ch2.nii.gz and aal.nii.gz")
    parser.add_argument("--parts", nargs="+", help="measure these parts anew, keep the rest of the record")
    parser.add_argument("--targets", type=int, default=100, help="patients that are contoured, the real ones first")
    parser.add_argument("--load", default="none besides it", help="what else the machine did, for the record")
    options = parser.parse_args()
    made = options.most or 2
    path = RESULTS / "atlas_leave_one_out.json"
    found: dict[str, Any] = {"threads": 1}
    if options.parts and path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))["found"]

    def add(what: str, value: dict[str, Any]) -> None:
        found[what] = {"load": options.load, **value}
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what} {value}\n")
        if options.most is None:  # after each part: what is measured is not lost
            colin = "" if options.colin is None else f" --colin {options.colin}"
            command = f"OMP_NUM_THREADS=1 python benchmarks/peers/atlas_leave_one_out.py{colin}"
            record("atlas_leave_one_out", command, found)

    with tempfile.TemporaryDirectory() as folder, one_thread():
        os.environ["ONCOSEG_CACHE"] = str(Path(folder) / "cache")
        root = Path(folder) / "cases"
        chests = chest_patients(root / "ct", made)

        def left_out(what: str, patients: dict[str, str], whose: str) -> None:
            for value in leave_one_out(root / what, patients, whose, options.targets):
                add(f"made {'chests' if what == 'ct' else 'brains'}, atlases of {whose} patient", value)

        def made_brains() -> None:
            if options.colin is not None:
                left_out("mri", brain_patients(root / "mri", options.colin, made + 1), "any")

        steps = ("nothing", "translation", "affine", "demons")
        parts = {
            "pair": lambda: add("real pair", real_pair(root / "ct", steps)),
            "fit": lambda: add("similarity", pairs_that_do_not_fit(root / "ct")),
            "other": lambda: left_out("ct", chests, "the other"),
            "any": lambda: left_out("ct", chests, "any"),
            "time": lambda: add("time", time_by_phase(root / "ct", chests)),
            "brains": made_brains,
            "splines": lambda: add("real pair, B-splines", real_pair(root / "ct", ("bspline",))),
        }
        for part in options.parts or parts:
            parts[part]()


# Patients


def chest_patients(root: Path, made: int) -> dict[str, str]:
    """Write the two real chests and those made of them; each case with the scan that it comes of."""
    adapter = load_plugins().build(DatasetSpec, "samples", {"sources": ["pyradiomics"]})
    samples = Path(adapter.fetch(lambda *_: None))
    patients = {}
    for name in ("lung1", "lung2"):
        volume = read_volume(samples / f"{name}_image.nrrd", "ct")
        image = sitk.BinShrink(sitk.ReadImage(str(samples / f"{name}_image.nrrd")), [2, 2, 1])
        label = like(chest_labels(sitk.GetArrayFromImage(image), volume.geometry.voxel_mm3[0] * 4), image)
        patients |= write_patients(root, name, image, label, made, outside=-1000, noise=10)
    (root / "atlases.yaml").write_text("modality: ct\nnames: {1: Lung_L, 2: Lung_R, 3: Bones}\n", encoding="utf-8")
    return patients


def chest_labels(voxels: np.ndarray, mm3: float) -> np.ndarray:
    """Lungs (1 left, 2 right) and bones (3) by threshold and connected components."""
    labels = np.zeros(voxels.shape, np.uint8)
    body = ndimage.binary_opening(voxels > -300, iterations=2)
    parts, _ = ndimage.label(body)
    body = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in body])
    bones, count = ndimage.label((voxels > 200) & ndimage.binary_erosion(filled, iterations=4))
    large = np.flatnonzero(np.bincount(bones.ravel(), minlength=count + 1) * mm3 >= 1000)
    labels[np.isin(bones, large[large > 0])] = 3
    air = ndimage.binary_opening((voxels < -400) & filled, iterations=2)
    parts, _ = ndimage.label(air)
    for part in np.argsort(np.bincount(parts.ravel())[1:])[-2:] + 1:
        lung = ndimage.binary_closing(parts == part, iterations=3)
        side = 1 if ndimage.center_of_mass(lung)[2] > voxels.shape[2] / 2 else 2  # x grows to the patient's left
        labels[lung & (labels == 0)] = side
    return labels


def brain_patients(root: Path, colin: Path, made: int) -> dict[str, str]:
    """Write brains made of Colin27."""
    image, label = (sitk.ReadImage(str(colin / f"{name}.nii.gz")) for name in ("ch2", "aal"))
    label.CopyInformation(image)
    patients = write_patients(root, "colin", sitk.Cast(image, sitk.sitkInt16), label, made, outside=0, noise=3)
    lines = (colin / "aal.nii.txt").read_text(encoding="utf-8").split("\n")
    names = dict(line.split()[:2] for line in lines if len(line.split()) >= 2)
    numbers = "\n".join(f"  {number}: {name}" for number, name in names.items())
    (root / "atlases.yaml").write_text(f"modality: mri\nnames:\n{numbers}\n", encoding="utf-8")
    return patients


def write_patients(
    root: Path, name: str, image: sitk.Image, label: sitk.Image, made: int, *, outside: float, noise: float
) -> dict[str, str]:
    """Write a scan and its warped copies as cases."""
    for number in range(made + 1):
        rng = np.random.default_rng([sum(map(ord, name)), number])
        case = root / (name if number == 0 else f"{name}-{number}")
        case.mkdir(parents=True)
        one, two = image, label
        if number:
            transform = random_warp(image, rng)
            one = sitk.Resample(image, image, transform, sitk.sitkLinear, outside, sitk.sitkFloat32)
            two = sitk.Resample(label, label, transform, sitk.sitkNearestNeighbor, 0)
            one = like(np.rint(sitk.GetArrayFromImage(one) + rng.normal(0, noise, one.GetSize()[::-1])), image)
            depth = image.GetSize()[2]
            low, high = (int(depth * rng.uniform(0, 0.12)) for _ in range(2))
            one, two = (each[:, :, low : depth - high] for each in (one, two))
        sitk.WriteImage(sitk.Cast(one, sitk.sitkInt16), str(case / "image.nrrd"), useCompression=False)
        sitk.WriteImage(sitk.Cast(two, sitk.sitkUInt8), str(case / "structures.nrrd"), useCompression=True)
    return {path.name: name for path in root.iterdir() if path.name.split("-")[0] == name}


def random_warp(image: sitk.Image, rng: np.random.Generator) -> sitk.Transform:
    """Scales by 8 %, rotations by 4 degrees, shifts by 15 mm, and a smooth field of 6 mm (one standard deviation)."""
    affine = sitk.AffineTransform(3)
    affine.SetCenter(image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()]))
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*np.deg2rad(rng.normal(0, 4, 3)))
    affine.SetMatrix(
        (np.array(turn.GetMatrix()).reshape(3, 3) @ np.diag(rng.normal(1, 0.08, 3).clip(0.8, 1.2))).ravel()
    )
    affine.SetTranslation(rng.normal(0, 15, 3))
    mesh = [max(2, round(size * step / 70)) for size, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    spline = sitk.BSplineTransformInitializer(image, mesh, order=3)
    spline.SetParameters(rng.normal(0, 6 * 1.8, len(spline.GetParameters())))  # the spline's mean takes 1.8 of it
    return sitk.CompositeTransform([affine, spline])


def like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    """An array at an image's place."""
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image)
    return made


# Measuring


def folder_of(cases: Path, names: Sequence[str]) -> Path:
    """A folder of these cases alone."""
    folder = Path(tempfile.mkdtemp(dir=cases.parent))
    for path in cases.iterdir():
        if path.is_file() or path.name in names:
            (folder / path.name).symlink_to(path)
    return folder


def opened(case: Path, modality: str) -> tuple[Volume, np.ndarray]:
    """A case's image and label."""
    return read_volume(case / "image.nrrd", modality), sitk.GetArrayFromImage(
        sitk.ReadImage(str(case / "structures.nrrd"))
    )


def dice(one: BoolArray, two: BoolArray) -> float:
    """Of two masks; nan of two empty ones."""
    total = int(one.sum()) + int(two.sum())
    return 2 * int((one & two).sum()) / total if total else float("nan")


def quiet(*_: Any) -> None:
    """No progress."""


def scores(
    model: AtlasModel, registered: Registered, volume: Volume, label: np.ndarray
) -> Iterator[tuple[str, float, float | None]]:
    """Name, Dice and agreement of each structure that the case has."""
    numbers = {name: number for number, name in model.folder.description.names.items()}
    names = [name for name in model.spec.structures if (label == numbers[name]).any()]
    fused = model.fuse(registered, volume, names, quiet)
    masks = FusedMasks(volume.geometry, model.settings.contour_spacing_mm, fused)
    for name in names:
        one = fused[name]
        yield name, dice(masks[name], label == numbers[name]), None if one is None else one.agreement


def at_step(folder: Path, volume: Volume, step: str, **settings: Any) -> tuple[AtlasModel, Registered]:
    """The atlases after one of the steps."""
    deformation = step if step in {"demons", "bspline"} else "none"
    model = AtlasModel(
        AtlasSettings(folder=folder, deformation=deformation, minimum_similarity=-1, minimum_fit=-1, **settings)
    )
    registered = model.register(volume, model.spec.structures, quiet)
    if step in {"nothing", "translation"}:
        fixed = registered.target.scan
        moved = []
        for one in registered.atlases:
            if step == "translation":
                transform: Any = starts(fixed, one.atlas.scan)[0][1].transform()
            else:
                middle = [np.array(middle_of(each)) for each in (fixed, one.atlas.scan)]
                transform = sitk.TranslationTransform(3, (middle[1] - middle[0]).tolist())
            moved.append(Deformed(one.atlas, transform, likeness(fixed, one.atlas.scan, transform), 0.0))
        registered = registered._replace(atlases=moved)
    return model, registered


def middle_of(scan: Prepared) -> tuple[float, ...]:
    """The middle of a scan's body box."""
    middle: tuple[float, ...] = scan.image.TransformContinuousIndexToPhysicalPoint(
        [(size - 1) / 2 for size in scan.image.GetSize()]
    )
    return middle


def real_pair(cases: Path, steps: Sequence[str]) -> dict[str, Any]:
    """Each of the two real chests contoured by the other, after each step."""
    rows: dict[str, Any] = defaultdict(dict)
    for image, atlas in itertools.permutations(("lung1", "lung2")):
        volume, label = opened(cases / image, "ct")
        for step in steps:
            began = time.process_time()
            model, registered = at_step(folder_of(cases, [atlas]), volume, step, fusion="majority")
            seconds = time.process_time() - began
            rows[step][image] = {name: round(value, 3) for name, value, _ in scores(model, registered, volume, label)}
            rows[step][image] |= {
                "similarity": round(registered.atlases[0].like.correlation, 3),
                "folded": registered.atlases[0].folded,
                "processor seconds, opening included": round(seconds, 1),
            }
    return dict(rows)


def pairs_that_do_not_fit(cases: Path) -> dict[str, Any]:
    """How atlases fit, of one region and of what is none: ``[after the affine step, inside it, and when deformed]``."""
    found: dict[str, list[Any]] = defaultdict(list)
    for name, other in itertools.permutations(("lung1", "lung2")):
        volume, _ = opened(cases / name, "ct")
        folder = folder_of(cases, [other])
        model = AtlasModel(AtlasSettings(folder=folder, minimum_similarity=-1, minimum_overlap=0))
        axes = [slice(None)] * 4
        kinds = {"another chest": volume}
        for axis, kind in ((1, "upside down"), (2, "front to back"), (3, "left to right")):
            kinds[kind] = turned(volume, (*axes[:axis], slice(None, None, -1), *axes[axis + 1 :]))
        kinds |= {"lower third alone": part_of_scan(volume, 0, 3), "upper third alone": part_of_scan(volume, 2, 3)}
        kinds["noise in the body"] = noise_in(volume)
        for kind, image in kinds.items():
            target = target_of(image, model.settings, "ct")
            one = align_atlas(target, model.folder.load(model.folder.cases[0]), model.settings, Cache(0))
            if one.fault is not None:
                found[kind].append(one.fault)
                continue
            last = deform_atlas(target, one, model.settings, Cache(0), lambda: False)
            found[kind].append([round(each, 3) for each in (one.like.correlation, one.like.inside, last.like.inside)])
    return dict(found)


def turned(volume: Volume, axes: tuple[slice, ...]) -> Volume:
    """The voxels turned, and not the geometry: another body."""
    return Volume(np.ascontiguousarray(volume.voxels[axes]), volume.geometry, volume.modality)


def part_of_scan(volume: Volume, which: int, parts: int) -> Volume:
    """A third of the slices."""
    from oncoseg_atlas.grids import part_of

    depth = volume.geometry.shape[0] // parts
    geometry = part_of(volume.geometry, (which * depth, 0, 0), (depth, *volume.geometry.shape[1:]))
    return Volume(np.ascontiguousarray(volume.voxels[:, which * depth : (which + 1) * depth]), geometry, "ct")


def noise_in(volume: Volume) -> Volume:
    """A body of the same shape without organs."""
    rng = np.random.default_rng(0)
    solid = ndimage.binary_opening(volume.voxels[0] > -300, iterations=2)
    body = np.stack([ndimage.binary_fill_holes(plane) for plane in solid])
    noise = ndimage.gaussian_filter(rng.normal(0, 400, body.shape), 3) * 8
    return Volume(np.where(body, noise, -1000).astype(np.int16)[None], volume.geometry, "ct")


def leave_one_out(cases: Path, patients: dict[str, str], whose: str, targets: int) -> Iterator[dict[str, Any]]:
    """Patients contoured by the others (or by those of the other real patient alone); the result after each."""
    values: dict[str, list[float]] = defaultdict(list)
    by_structure: dict[str, list[float]] = defaultdict(list)
    pairs: list[tuple[float, float]] = []
    for done, (name, scan) in enumerate(sorted(patients.items(), key=lambda one: len(one[0]))[:targets], start=1):
        others = [one for one in patients if one != name and (whose == "any" or patients[one] != scan)]
        folder = folder_of(cases, others)
        volume, label = opened(cases / name, "ct" if cases.name == "ct" else "mri")
        for step in ("affine",):
            model, registered = at_step(folder, volume, step, fusion="majority")
            values[f"{step}, majority of all"] += [row[1] for row in scores(model, registered, volume, label)]
        _, registered = at_step(folder, volume, "demons")
        for count, fusion in ((1, "majority"), (3, "majority"), (3, "local"), *((0, one) for one in FUSIONS)):
            if count >= len(registered.atlases):
                continue
            model = AtlasModel(AtlasSettings(folder=folder, fusion=fusion))
            rows = list(scores(model, most_similar(registered, count), volume, label))
            values[f"demons, {fusion} of {count or 'all'}"] += [row[1] for row in rows]
            if (count, fusion) == (0, "local"):
                for structure, value, agreed in rows:
                    by_structure[structure].append(value)
                    if agreed is not None:
                        pairs.append((agreed, value))
        summary = {
            key: {"mean Dice": round(float(np.nanmean(each)), 4), "n": len(each)} for key, each in values.items()
        }
        yield {
            "patients contoured": done,
            "atlases of the last": len(registered.atlases),
            "summary": summary,
            "by structure, local of all": {
                structure: {"mean": round(float(np.nanmean(each)), 3), "min": round(float(np.nanmin(each)), 3)}
                for structure, each in by_structure.items()
            },
            "agreement and Dice": related(pairs),
        }


def most_similar(registered: Registered, count: int) -> Registered:
    """Those atlases alone that were the most similar after the affine step; 0: all."""
    kept = registered.atlases[: count or None]
    keys = frozenset(one.atlas.key for one in kept)
    return registered._replace(atlases=kept, takers={name: each & keys for name, each in registered.takers.items()})


def related(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Whether agreement tells Dice: rank correlation, and mean Dice by steps of agreement."""
    if len(pairs) < 3:
        return {}
    agreed, value = np.array(pairs).T
    rows = {}
    for low, high in itertools.pairwise((0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.01)):
        here = value[(agreed >= low) & (agreed < high)]
        if here.size:
            rows[f"{low}-{min(high, 1)}"] = {
                "n": int(here.size),
                "mean Dice": round(float(here.mean()), 3),
                "lowest": round(float(here.min()), 3),
            }
    spearman = float(stats.spearmanr(agreed, value).statistic)
    off = float(np.mean(np.abs(agreed - value)))
    return {"n": len(pairs), "spearman": round(spearman, 3), "mean difference": round(off, 3), "by agreement": rows}


def time_by_phase(cases: Path, patients: dict[str, str]) -> dict[str, Any]:
    """Seconds of the phases on the scan at its full size with five atlases and 32 structures, cut from the body."""
    adapter = load_plugins().build(DatasetSpec, "samples", {"sources": ["pyradiomics"]})
    volume = read_volume(Path(adapter.fetch(quiet)) / "lung2_image.nrrd", "ct")
    root = Path(tempfile.mkdtemp(dir=cases.parent))
    (root / "atlases.yaml").write_text(
        "modality: ct\nnames:\n" + "\n".join(f"  {number}: piece{number:02d}" for number in range(1, 33)),
        encoding="utf-8",
    )
    for name in [one for one in patients if one != "lung2"][:5]:
        (root / name).mkdir()
        (root / name / "image.nrrd").symlink_to(cases / name / "image.nrrd")
        image = sitk.ReadImage(str(cases / name / "image.nrrd"))
        sitk.WriteImage(pieces(image), str(root / name / "structures.nrrd"), useCompression=True)
    times: dict[str, float] = {}
    clock = time.process_time
    settings = AtlasSettings(folder=root, cache_bytes=2**32, minimum_similarity=-1)
    began = clock()
    model = AtlasModel(settings)
    times["opening the folder the first time, of 5 atlases"] = clock() - began
    began = clock()
    model = AtlasModel(settings)
    times["opening it again"] = clock() - began
    began = clock()
    prepare(volume, settings, "it")
    times["making the image ready"] = clock() - began
    began = clock()
    AtlasModel(settings.model_copy(update={"deformation": "none"})).register(volume, model.spec.structures, quiet)
    times["making it ready, reading atlases, affine step, of 5"] = clock() - began
    began = clock()
    registered = model.register(volume, model.spec.structures, quiet)
    times["making it ready, reading all, demons, of 5"] = clock() - began
    began = clock()
    model.register(volume, model.spec.structures, quiet)
    times["all of it again, from the cache"] = clock() - began
    began = clock()
    fused = model.fuse(registered, volume, model.spec.structures, quiet)
    times["fusing 32 structures"] = clock() - began
    masks = FusedMasks(volume.geometry, settings.contour_spacing_mm, fused)
    began = clock()
    for name in masks:
        _ = masks[name]
    times["32 masks on the image's grid, one after the other"] = clock() - began
    shape = " x ".join(map(str, volume.geometry.shape))
    return {"image": shape, "processor seconds": {name: round(value, 1) for name, value in times.items()}}


def pieces(image: sitk.Image) -> sitk.Image:
    """The scan's middle cut into 32 blocks: structures of an organ's size that nobody would contour."""
    z, y, x = image.GetSize()[::-1]
    index = np.indices((z, y, x))
    inside = [((one >= size * 0.15) & (one < size * 0.85)) for one, size in zip(index, (z, y, x), strict=True)]
    cell = [
        np.clip((one / size - 0.15) / 0.7 * count, 0, count - 1).astype(int)
        for one, size, count in zip(index, (z, y, x), (2, 4, 4), strict=True)
    ]
    return like(
        np.where(inside[0] & inside[1] & inside[2], 1 + cell[0] * 16 + cell[1] * 4 + cell[2], 0).astype(np.uint8), image
    )


if __name__ == "__main__":
    main()
