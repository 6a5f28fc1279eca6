"""How slices fill the model's square: as given, as the adapter was trained, and never otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_engine import registry_of

from oncoseg_core import Geometry, UsageError, Volume
from oncoseg_core.path import PathSettings
from oncoseg_segment import api
from oncoseg_segment.engine.report import report_of
from oncoseg_segment.engine.resolve import path_settings

SETTINGS = api.SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)
FORMER: dict[str, Any] = {"normalizers": {}, "channels": None}
"""The path of an adapter from before there was a choice."""


@pytest.fixture
def adapter(tmp_path: Path) -> Any:
    """The record of an adapter that was trained with a path."""

    def write(path: dict[str, Any]) -> Path:
        record = {
            "model": "brighter",
            "base_weights_sha256": "abc",
            "lora": {"rank": 4, "alpha": 8, "dropout": 0, "policy": "lora"},
            "paths": {"unit": path},
            "datasets": None,
            "versions": {},
            "files": {},
        }
        (tmp_path / "oncoseg.json").write_text(json.dumps(record))
        return tmp_path

    return write


def with_fit(fit: Any) -> api.SegmentSettings:
    return SETTINGS.model_copy(update={"fit": fit})


@pytest.mark.parametrize(("fit", "used"), [(None, "letterbox"), ("letterbox", "letterbox"), ("stretch", "stretch")])
def test_without_an_adapter_it_is_as_given(fit: Any, used: str) -> None:
    assert path_settings(with_fit(fit), None, "unit") == PathSettings(fit=used)


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_an_adapter_is_used_as_it_was_trained(adapter: Any, fit: Any) -> None:
    folder = adapter({**FORMER, "fit": fit})
    assert path_settings(SETTINGS, folder, "unit").fit == fit
    assert path_settings(with_fit(fit), folder, "unit").fit == fit
    other = {"letterbox": "stretch", "stretch": "letterbox"}[fit]
    with pytest.raises(UsageError, match=rf"the adapter was trained with `fit` {fit}, not {other}: leave `fit` out"):
        path_settings(with_fit(other), folder, "unit")


def test_an_adapter_from_before_was_letterboxed(adapter: Any) -> None:
    assert path_settings(SETTINGS, adapter(FORMER), "unit").fit == "letterbox"
    with pytest.raises(UsageError, match="trained with `fit` letterbox, not stretch"):
        path_settings(with_fit("stretch"), adapter(FORMER), "unit")


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_masks_lie_where_the_object_is_with_either(fit: Any) -> None:
    """Rows and columns of different number and size, stored with both axes turned around."""
    voxels = np.zeros((1, 2, 32, 64), dtype=np.float32)
    voxels[0, 1, 4:12, 20:44] = 1.0
    affine = np.diag([-0.5, -2.0, 3.0, 1.0])
    volume = Volume(voxels, Geometry((2, 32, 64), affine), "unit")
    structure = api.StructureRequest("a", (api.Hint("box", (18, 2, 46, 14)),), slice_index=1)
    with api.Session(volume, with_fit(fit), registry=registry_of()) as session:
        result = session.prompt(structure)
        assert session.fitted.grid.fit == fit
        assert session.fitted.grid.letterbox.scaled == ((128, 128) if fit == "stretch" else (64, 128))
    (kept,) = result.structures
    assert np.array_equal(kept.mask, voxels[0] > 0)


@pytest.mark.parametrize(("fit", "smallest"), [("letterbox", "16 mm"), ("stretch", "8 mm")])
def test_the_report_tells_what_can_be_resolved_with_it(fit: Any, smallest: str) -> None:
    """Rows of 2 mm: 256 of them become 64 rows of the model's 128, or all."""
    voxels = np.zeros((1, 1, 256, 512), dtype=np.float32)
    volume = Volume(voxels, Geometry.from_parts((1, 256, 512), (3.0, 2.0, 0.5)), "unit")
    structure = api.StructureRequest("a", (api.Hint("box", (18, 2, 46, 14)),), slice_index=0)
    with api.Session(volume, with_fit(fit), registry=registry_of()) as session:
        (kept,) = session.prompt(structure).structures
        report = report_of(kept.result, kept.mask, session.fitted, session.model, None)
    assert report["smallest resolvable lesion"].startswith(smallest)
