"""``oncoseg new-plugin``: a working plugin package of one kind, written from a template.

A template (``oncoseg_core/templates/KIND/``) is itself a working package, of a component called ``newname``: it is
copied with the new name in place of that word.
"""

from __future__ import annotations

import importlib.metadata
import keyword
import os
import re
import shutil
import uuid
from pathlib import Path

from oncoseg_core import (
    AutomaticModelSpec,
    ComponentSpec,
    DatasetSpec,
    ExporterSpec,
    LossSpec,
    MetricSpec,
    ModelSpec,
    NormalizerSpec,
    PromptGeneratorSpec,
    ReaderSpec,
    Registry,
    StorageError,
    UsageError,
    close_matches,
)
from oncoseg_core.system import write_failure

TEMPLATES = Path(__file__).with_name("templates")
PREFIX = "oncoseg-"
LONGEST_NAME = 48

KINDS: dict[str, type[ComponentSpec]] = {
    "modality": NormalizerSpec,
    "dataset": DatasetSpec,
    "prompt": PromptGeneratorSpec,
    "loss": LossSpec,
    "metric": MetricSpec,
    "reader": ReaderSpec,
    "exporter": ExporterSpec,
    "model": ModelSpec,
    "automatic": AutomaticModelSpec,
}
"""The kinds that there are templates of, and the record that each yields."""


def create_plugin(name: str, kind: str, dest: Path, registry: Registry) -> Path:
    """Write a plugin package into a new folder ``dest/oncoseg-NAME``, whole or not at all.

    Args:
        name: the component's, with or without ``oncoseg-`` before it: small letters, digits and single hyphens.
        kind: one of :data:`KINDS`.
        dest: an existing folder.
        registry: what is installed; a name that is taken is refused.

    Returns:
        The new folder.

    Raises:
        UsageError: the kind is unknown, or the name is not a valid one, or taken.
        StorageError: the folder exists already, or cannot be written.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}{close_matches(kind, KINDS)}")
    name = name.removeprefix(PREFIX)
    _require_valid(name)
    _require_free(name, kind, registry)
    if not dest.is_dir():
        raise StorageError(f"{dest}: no such folder; make it first, or choose another with --dest")
    folder = dest / f"{PREFIX}{name}"
    if os.path.lexists(folder):
        raise StorageError(f"{folder} exists already; remove it, or choose another name or --dest")
    temporary = dest / f".partial-{uuid.uuid4().hex}"
    try:
        for template in _files(TEMPLATES / kind):
            target = temporary / named(str(template.relative_to(TEMPLATES / kind)), name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(named(template.read_text(encoding="utf-8"), name), encoding="utf-8")
        temporary.rename(folder)
    except OSError as error:
        raise StorageError(write_failure(error, folder)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def named(text: str, name: str) -> str:
    """A template's text with a component's name in place of ``newname``, as packages, classes and users write it."""
    camel = "".join(part.capitalize() for part in name.split("-"))
    package = f"oncoseg_{name.replace('-', '_')}"
    return text.replace("oncoseg_newname", package).replace("Newname", camel).replace("newname", name)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _require_valid(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > LONGEST_NAME:
        likely = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")[:LONGEST_NAME].rstrip("-")
        hint = f"; did you mean {likely!r}?" if likely and likely != name else ""
        raise UsageError(
            f"name {name!r}: expected small letters, digits and single hyphens, beginning with a letter, "
            f"at most {LONGEST_NAME}{hint}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise UsageError(f"name {name!r}: is a word of Python itself; choose another, such as 'my-{name}'")


def _require_free(name: str, kind: str, registry: Registry) -> None:
    spec_type = KINDS[kind]
    for component in registry.components:
        if isinstance(component.spec, spec_type) and component.spec.component_name == name:
            raise UsageError(
                f"the {spec_type.kind} {name!r} exists already: {component.plugin} provides it; "
                f"choose another name, such as 'my-{name}'"
            )
    try:
        version = importlib.metadata.version(f"{PREFIX}{name}")
    except importlib.metadata.PackageNotFoundError:
        return
    raise UsageError(
        f"the distribution '{PREFIX}{name}' is installed already (version {version}); "
        f"choose another name, such as 'my-{name}'"
    )
