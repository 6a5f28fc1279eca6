"""Writing a segmentation in one or several formats: all of them or none, and none over a file that is there."""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core import (
    BoolArray,
    DataError,
    ExporterSpec,
    ExportReport,
    Geometry,
    OncoSegError,
    PluginError,
    Registry,
    Segmentation,
    StorageError,
    UsageError,
    Volume,
    close_matches,
)
from oncoseg_core.imaging import (
    ONE_FILE_SUFFIXES,
    RecognisedPath,
    is_own_format,
    numbers_of,
    read_masks,
    require_even,
    write_segmentation,
)
from oncoseg_core.system import atomic_write, write_failure

_FORMAT = re.compile(r"^([a-z0-9][a-z0-9_.+-]*)=(.+)$", re.DOTALL)


@dataclass(frozen=True)
class Output:
    """One file to be: ``spec`` is the exporter's record, None for the label images that the core writes itself."""

    path: Path
    spec: ExporterSpec | None = None

    @property
    def format(self) -> str:
        """The exporter's format, or that of a label image by its suffix."""
        suffix = self.path.suffix.lower().removeprefix(".")
        return self.spec.format if self.spec is not None else {"gz": "nifti", "nii": "nifti"}.get(suffix, suffix)

    @property
    def needs_source(self) -> bool:
        """Whether the format belongs to the series that was segmented."""
        return self.spec is not None and self.spec.needs_source


def parse_output(registry: Registry, text: str) -> Output:
    """``FILE`` or ``FORMAT=FILE``, as it was written; a file whose name has a ``=`` may be given as ``./a=b.nrrd``.

    Raises:
        UsageError: no exporter, or several, write files of that name.
        UnknownComponentError: there is no such format.
    """
    written = _FORMAT.match(text)
    if written is not None:
        path, spec = Path(written[2]), registry.get(ExporterSpec, written[1])
        others = any(path.name.lower().endswith(one.suffix) for one in registry.specs(ExporterSpec))
        if not path.name.lower().endswith(spec.suffix) and (others or (spec.needs_source and is_own_format(path))):
            raise UsageError(f"{path}: has the suffix of another format; files of {spec.format} end in {spec.suffix}")
        return Output(path, spec)
    path = Path(text)
    fitting = [spec for spec in registry.specs(ExporterSpec) if path.name.lower().endswith(spec.suffix)]
    if len(fitting) == 1:
        return Output(path, fitting[0])
    if fitting:
        choices = " or ".join(f"{spec.format}={path}" for spec in fitting)
        raise UsageError(f"{path}: several formats have that suffix; say which: `outputs` {choices}")
    if path.name.lower().endswith(ONE_FILE_SUFFIXES):
        return Output(path)
    formats = ", ".join(spec.format for spec in registry.specs(ExporterSpec)) or "none is installed"
    raise UsageError(
        f"{path}: a mask is written as one of {', '.join(ONE_FILE_SUFFIXES)}, or as FORMAT=FILE (formats: {formats})"
    )


def check_export_settings(settings: Mapping[str, Any], outputs: Iterable[Output]) -> None:
    """Refuse settings of a format that is not written; those of the others are checked when exporters are built.

    Raises:
        UsageError: there is no output in that format.
    """
    formats = {output.spec.format for output in outputs if output.spec is not None}
    for name, values in settings.items():
        if name not in formats:
            raise UsageError(f"`export_settings` {name}.…: no output is in that format{close_matches(name, formats)}")
        if not isinstance(values, Mapping):
            raise UsageError(f"`export_settings` {name}={values}: expected FORMAT.KEY=VALUE, such as {name}.KEY=VALUE")


def files_of(outputs: Sequence[Output], exporters: Sequence[Any]) -> list[tuple[Path, str]]:
    """Every file that the outputs will write, with what writes it, for :func:`require_free`."""
    planned: list[tuple[Path, str]] = []
    for output, exporter in zip(outputs, exporters, strict=True):
        files = (output.path,) if exporter is None else exporter.files(output.path)
        planned += [(path, f"the {output.format} output") for path in files]
    return planned


def require_free(planned: Sequence[tuple[Path, str]], inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to write over what is read, twice to one place, or over a file that is there.

    No file in a folder that is read is ever replaced: it may be a slice of the series.

    Args:
        planned: each file with what it is, such as ``the manifest``.
        inputs: files and folders that are read.
        overwrite: whether other files may be replaced.

    Raises:
        UsageError: saying which it is and what to do.
    """
    taken: dict[Path, str] = {}
    for path, what in planned:
        real = path.resolve()
        if real in {other.resolve() for other in inputs}:
            raise UsageError(f"`outputs`: {path} is the image itself, or another file that is read; give another name")
        if real.exists() and any(other.is_dir() and real.is_relative_to(other.resolve()) for other in inputs):
            raise UsageError(f"{path} is in the folder that is read, and may be one of its images; give another name")
        if real in taken:
            raise UsageError(
                f"{path} would be written twice, by {taken[real]} and by {what}; give each output a name of its own"
            )
        taken[real] = what
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; give a file name")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists; give another name, or `overwrite` to replace it")


@dataclass
class Staging:
    """Files under names of their own beside their places, until all are there.

    Attributes:
        planned: every file that is to be written, with what it is, as :func:`require_free` takes it.
        inputs: files and folders that are read.
        overwrite: whether other files may be replaced.
    """

    planned: Sequence[tuple[Path, str]] = ()
    inputs: Sequence[Path] = ()
    overwrite: bool = False
    _folders: dict[Path, Path] = field(default_factory=dict)
    _files: dict[Path, Path] = field(default_factory=dict)
    _made: list[Path] = field(default_factory=list)

    def path(self, target: Path) -> Path:
        """Where to write what will be ``target``; it has the same name in a folder beside it.

        Raises:
            StorageError: nothing can be written there.
        """
        parent = target.parent
        if parent not in self._folders:
            folder = parent / f".partial-{uuid.uuid4().hex}"
            self._made += [made for made in (parent, *parent.parents) if not made.exists()]
            try:
                folder.mkdir(parents=True)
            except OSError as error:
                raise StorageError(write_failure(error, target)) from error
            self._folders[parent] = folder
        staged = self._folders[parent] / target.name
        self._files[target] = staged
        return staged

    def write(self, target: Path, content: bytes | str) -> None:
        """Stage ``content`` (text as UTF-8) for ``target``.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            atomic_write(self.path(target), content)
        except StorageError as error:
            raise StorageError(self.in_place(str(error))) from error

    def also(self, staged: Path, declared: Collection[Path]) -> Path:
        """The place of another file that was written beside a staged one; ``declared`` are the exporter's planned ones.

        Raises:
            PluginError: it is not there.
            UsageError: it is not planned, and its place is not free.
        """
        parent = next((parent for parent, folder in self._folders.items() if folder == staged.parent), None)
        if parent is None or not staged.is_file():
            raise PluginError(f"{self.in_place(str(staged))} is not a file beside the destination")
        target = parent / staged.name
        if target not in declared:
            more = (target, "a second file of the exporter, which its files() does not name")
            require_free([*self.planned, more], self.inputs, overwrite=self.overwrite)
        self._files[target] = staged
        return target

    def staged(self, target: Path) -> Path:
        """Where ``target`` lies for now."""
        return self._files[target]

    def in_place(self, text: str) -> str:
        """A message with the places that files will have, not those that they have now."""
        for parent, folder in self._folders.items():
            text = text.replace(str(folder), str(parent))
        return text

    def commit(self) -> None:
        """Put all files in their places; where one cannot be, those that were not there before go again.

        Raises:
            StorageError: saying which.
        """
        new: list[Path] = []
        for target, staged in self._files.items():
            existed = target.exists()
            try:
                staged.replace(target)
            except OSError as error:
                for path in new:
                    path.unlink(missing_ok=True)
                raise StorageError(write_failure(error, target)) from error
            if not existed:
                new.append(target)

    def discard(self) -> None:
        """Remove whatever is left under other names, and folders that were made for nothing."""
        for folder in self._folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        for folder in self._made:
            with suppress(OSError):  # it holds something
                folder.rmdir()


@contextmanager
def staging(
    planned: Sequence[tuple[Path, str]] = (), inputs: Sequence[Path] = (), *, overwrite: bool = False
) -> Iterator[Staging]:
    """A place to write several files to, of which nothing stays that is not committed; arguments as its attributes."""
    stage = Staging(planned, inputs, overwrite)
    try:
        yield stage
    finally:
        stage.discard()


@dataclass(frozen=True)
class Written:
    """What became of an output: the files, what the exporter told, and each file's SHA-256."""

    output: Output
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    sha256: tuple[str, ...]


def prepare_exporters(
    registry: Registry,
    outputs: Sequence[Output],
    source: RecognisedPath | None,
    source_settings: Mapping[str, Any],
    export_settings: Mapping[str, Mapping[str, Any]],
) -> list[Any]:
    """Build the exporters before the work begins; None for the label images of the core.

    Raises:
        UsageError: a format needs a series, and the image is none.
        ConfigError: a setting is unknown or wrong.
    """
    built: list[Any] = []
    for output in outputs:
        if output.spec is None:
            built.append(None)
            continue
        settings = dict(export_settings.get(output.spec.format, {}))
        if output.needs_source:
            if source is None or source.spec is None:
                raise UsageError(
                    f"{output.format} belongs to the series that was segmented, and the image is none; "
                    "write a label image, and put it on its series with oncoseg export MASK --on SERIES"
                )
            settings = {"source": source.path, **source_settings, **settings}
        built.append(registry.build(ExporterSpec, output.spec.format, settings))
    return built


def require_writable(
    outputs: Sequence[Output], exporters: Sequence[Any], names: Sequence[str], geometry: Geometry
) -> None:
    """Ask each output whether it can hold structures of these names on this grid, before a model has worked for it.

    Raises:
        OncoSegError: one of them cannot.
    """
    for output, exporter in zip(outputs, exporters, strict=True):
        if exporter is None:
            require_even(geometry, output.path)
        else:
            exporter.check(names, geometry)


def export_segmentation(
    stage: Staging,
    registry: Registry,
    outputs: Sequence[tuple[Output, Any, Segmentation]],
    image: Volume,
    image_settings: Mapping[str, Any],
) -> list[Written]:
    """Write all outputs into the staging; where several belong to the image, they are read back and compared.

    Args:
        stage: where to.
        registry: for the readers.
        outputs: each with its exporter (:func:`prepare_exporters`) and what to write.
        image: what was segmented.
        image_settings: of its reader, which reads back.

    Raises:
        OncoSegError: as the exporters raise it.
        StorageError: two files of one segmentation do not hold the same voxels.
    """
    written = []
    for output, exporter, segmentation in outputs:
        staged = stage.path(output.path)
        try:
            if exporter is None:
                write_segmentation(segmentation, staged)
                report = ExportReport((staged,), (numbers_of(segmentation),))
            else:
                report = exporter.export(segmentation, staged)
        except OncoSegError as error:
            message = stage.in_place(str(error))
            if isinstance(error, DataError) and _overlapping(segmentation):
                message += "; `overlaps` first or highest-score gives each voxel to one structure"
            raise type(error)(message) from error
        declared = () if exporter is None else exporter.files(output.path)
        try:
            files = tuple(output.path if file == staged else stage.also(file, declared) for file in report.files)
        except OncoSegError as error:
            raise type(error)(f"exporter {output.format!r}, after the export; nothing was written: {error}") from error
        hashes = tuple(_sha256(file) for file in report.files)
        written.append(Written(output, files, tuple(map(stage.in_place, report.notes)), hashes))
    belonging = [(output, segmentation) for output, _, segmentation in outputs if output.needs_source]
    if len(belonging) > 1:
        for output, segmentation in belonging:
            found = read_masks(registry, stage.staged(output.path), image, image_settings)
            _require_same(found.masks, output, segmentation)
    return written


def _require_same(masks: Mapping[str, BoolArray], output: Output, segmentation: Segmentation) -> None:
    # Masks may be made when they are taken: one at a time.
    found = list(masks)
    expected = [name for name, mask in segmentation.masks.items() if mask.any()]
    if len(found) != len(expected):
        raise StorageError(f"{output.path}: holds {len(found)} structures and not {len(expected)} when it is read back")
    for name, position in zip(expected, found, strict=True):
        mask = segmentation.masks[name]
        other = masks[name if name in masks else position]  # a format may have to shorten names
        if not np.array_equal(other, mask):
            wrong = int(np.count_nonzero(other != mask))
            raise StorageError(
                f"{output.path}: structure {name!r} differs by {wrong} voxels when it is read back: the formats do not "
                "agree, and nothing was written"
            )


def _overlapping(segmentation: Segmentation) -> bool:
    taken = np.zeros(segmentation.geometry.shape, dtype=bool)
    for mask in segmentation.masks.values():
        if (taken & mask).any():
            return True
        taken |= mask
    return False


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
