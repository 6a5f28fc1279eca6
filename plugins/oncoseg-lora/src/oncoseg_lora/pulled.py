"""Where pulled adapters are kept, and what an adapter is called by. Nothing here uses the network.

An adapter is pulled by ``oncoseg adapters pull`` into a folder of its own in the user's cache; ``pulled.json`` beside
its files says from where.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from oncoseg_core import Record, WeightsError, close_matches
from oncoseg_core.system import cache_directory, read_regular
from oncoseg_lora.manifest import MANIFEST_FILE

ALIASES = ("latest", "breast", "liver", "brain")
"""The four checkpoints of the OncoSeg paper, by the names it gives them."""

REPOSITORY_VARIABLE = "ONCOSEG_ADAPTERS_REPO"
"""Names the hub repository that holds the adapters behind the aliases, each in a folder of that name."""

ORIGIN_FILE = "pulled.json"

# No leading dot, no two dots, no two dashes: the hub allows none of them, and "--" joins the parts to a folder's name.
_PART = r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*"


class HubName(Record):
    """What an adapter is called on the hub: a repository, and a folder in it where it is not the whole."""

    repository: Annotated[str, Field(pattern=rf"^{_PART}/{_PART}$", max_length=200)]
    subfolder: Annotated[str, Field(pattern=rf"^{_PART}$", max_length=96)] | None = None

    @property
    def name(self) -> str:
        """``owner/repository`` or ``owner/repository/subfolder``."""
        return self.repository if self.subfolder is None else f"{self.repository}/{self.subfolder}"

    @property
    def folder(self) -> Path:
        """Its place among the pulled adapters."""
        return adapters_directory() / self.name.replace("/", "--")


class Origin(HubName):
    """Where a pulled adapter came from: its name and commit there, and the alias that it was asked for by."""

    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    alias: str | None = None


def adapters_directory() -> Path:
    """Where pulled adapters are kept: ``adapters`` in the user's cache folder (``$ONCOSEG_CACHE``)."""
    return cache_directory() / "adapters"


def pulled_adapters() -> list[tuple[Path, Origin | None]]:
    """The folders of pulled adapters, sorted; the origin is None where ``pulled.json`` is damaged."""
    found: list[tuple[Path, Origin | None]] = []
    for record in sorted(adapters_directory().glob(f"*/{ORIGIN_FILE}")):
        if not record.parent.name.startswith("."):  # those are under way
            try:
                origin = Origin.model_validate_json(read_regular(record))
            except (OSError, ValidationError):
                origin = None
            found.append((record.parent, origin))
    return found


def adapter_folder(reference: str | Path) -> Path:
    """The folder of an adapter: an existing one as given, else that of a pulled one by its name or alias.

    Args:
        reference: a folder, ``owner/repository``, ``owner/repository/subfolder``, or one of ``ALIASES``.

    Raises:
        WeightsError: there is neither; or several pulled adapters have that alias.
    """
    path, name = Path(reference).expanduser(), str(reference)
    if (path / MANIFEST_FILE).is_file():
        return path
    origins = {folder: origin for folder, origin in pulled_adapters() if origin is not None}
    found = [folder for folder, origin in origins.items() if _is_called(origin, name)]
    if len(found) > 1:
        names = ", ".join(origins[folder].name for folder in found)
        raise WeightsError(f"{name}: several adapters were pulled by that alias: {names}; give one of these names")
    if found:
        return found[0]
    if path.is_dir():
        return path  # whoever reads its manifest says what is missing
    known = {origin.name for origin in origins.values()} | {o.alias for o in origins.values() if o.alias is not None}
    raise WeightsError(
        f"{name}: no such folder, and no adapter of that name was pulled: `oncoseg adapters pull NAME` fetches one"
        f"{close_matches(name, known)}"
    )


def _is_called(origin: Origin, name: str) -> bool:
    repository = os.environ.get(REPOSITORY_VARIABLE)
    if name in ALIASES and repository:
        return origin.name == f"{repository}/{name}"
    return name in {origin.name, origin.alias}
