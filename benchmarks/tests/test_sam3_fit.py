"""The script that decides how slices fill SAM3's square: it runs at the test size, and its rules are what they say."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oncoseg_core import PlaneView, SliceGrid
from oncoseg_core.path import Window

SCRIPT = Path(__file__).parents[1] / "peers" / "sam3_fit.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("sam3_fit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sam3_fit"] = module
    spec.loader.exec_module(module)
    return module


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)


def test_it_runs_on_a_real_scan_at_the_test_size(tmp_path: Path) -> None:
    done = run("--model", "sam3-tiny", "--cases", "breast1", "--shapes", "1", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "THE WEIGHTS ARE RANDOM (random:0): THESE NUMBERS MEAN NOTHING" in done.stdout
    found = json.loads((tmp_path / "sam3_fit_sam3-tiny.json").read_text())["found"]
    assert found["numbers_mean_nothing"] is True
    assert [(row["prompt"], row["rows"], row["columns"]) for row in found["rows"]] == [
        ("box", 120, 45), ("text", 120, 45), ("box", 45, 45), ("text", 45, 45),
    ]  # fmt: skip
    for row in found["rows"]:
        difference = row["dice"]["stretch"] - row["dice"]["letterbox"]
        assert row["stretch_minus_letterbox"] == pytest.approx(difference, abs=1e-4)
        if row["rows"] == row["columns"]:
            assert difference == 0
    box = found["rows"][0]["dice"]
    assert box["stretch"] != box["letterbox"]  # the fit reaches the model
    assert set(found["verdicts"]) == {"box", "text"}


def test_random_weights_of_the_full_size_decide_nothing() -> None:
    done = run()
    assert done.returncode == 2
    assert "cannot be told from random weights: give SAM3's by --weights FILE" in done.stderr


def reference(*, rows: tuple[int, int], columns: tuple[int, int]) -> Any:
    mask = np.zeros((2, 100, 80), dtype=bool)
    mask[1, slice(*rows), slice(*columns)] = True
    return mask


@pytest.mark.parametrize(
    ("rows", "columns", "shape", "window"),
    [
        ((45, 55), (35, 45), 1.0, Window(10, 0, 80, 80)),
        ((45, 55), (35, 45), 0.5, Window(30, 0, 40, 80)),
        ((45, 55), (35, 45), 2.0, Window(0, 15, 100, 50)),
        ((2, 6), (74, 79), 0.5, Window(0, 0, 40, 80)),  # at the border of the slice
        ((90, 99), (74, 79), 2.0, Window(0, 30, 100, 50)),
        ((45, 55), (35, 45), 1.25, None),  # all of the slice
        ((20, 60), (35, 45), 0.5, None),  # the lesion does not fit
    ],
)
def test_a_part_of_that_shape_holds_the_lesion(
    script: Any, rows: tuple[int, int], columns: tuple[int, int], shape: float, window: Window | None
) -> None:
    assert script.window_of(reference(rows=rows, columns=columns), shape) == window


def row(case: str, difference: float, rows: int = 2, columns: int = 1) -> dict[str, Any]:
    return {"case": case, "rows": rows, "columns": columns, "stretch_minus_letterbox": difference}


def test_the_better_fit_is_that_of_the_mean_over_scans(script: Any) -> None:
    rows = [row("a", 0.1), row("a", 0.3), row("b", -0.1), row("c", 0.0, 5, 5)]
    found = script.verdict(rows)
    assert (found["better"], found["mean_difference"]) == ("stretch", 0.05)
    assert found["by_case"] == {"a": pytest.approx(0.2), "b": -0.1}
    assert found["why"] == "mean difference of Dice +0.0500; 1 of 2 scans agree, p = 1"
    assert script.verdict([row("a", -0.1), row("b", 0.05)])["better"] == "letterbox"


def test_where_nothing_differs_neither_is_better(script: Any) -> None:
    assert script.verdict([row("a", 0.0)])["better"] == "neither"
    assert script.verdict([])["better"] == "neither"


@pytest.mark.parametrize("view", [PlaneView(), PlaneView(transpose=True, flip_rows=True)])
def test_a_square_slice_is_the_same_with_both(view: PlaneView) -> None:
    letterboxed, stretched = (SliceGrid(view, 512, 512, 1008, fit).letterbox for fit in ("letterbox", "stretch"))
    assert letterboxed.scaled == stretched.scaled == (1008, 1008)
