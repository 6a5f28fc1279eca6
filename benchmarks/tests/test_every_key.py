"""No key of a benchmark's configuration is dead: a run with another value of it ends otherwise, and the docs name it."""

import json
import re
import typing
from dataclasses import dataclass
from dataclasses import field as part
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import BaseModel

from oncoseg_benchmarks.config.settings import BenchSettings, load_settings
from oncoseg_benchmarks.report import summary as finishing
from oncoseg_benchmarks.run.run import prepare, run
from oncoseg_benchmarks.statistics.statistics import LEAST_PATIENTS
from oncoseg_benchmarks.table.results import read_table
from oncoseg_core import ModelSpec, OncoSegError, load_plugins
from oncoseg_core.data.splits import FrozenSplit
from oncoseg_core.path.settings import PathSettings
from oncoseg_core.path.zoom import ZoomSettings
from oncoseg_lora.inject import adapt
from oncoseg_lora.settings import LoraSettings
from oncoseg_lora.store import save_adapter
from oncoseg_segment.api import PropagationSettings

PAGES = Path(__file__).parents[2] / "docs"

BASE = {
    "name": "test",
    "models": [{"name": "bright"}],
    "datasets": [{"name": "bench-a", "root": "bench-a"}],
    "prompts": ["gt-box"],
    "metrics": ["dice"],
    "normalizers": {"ct": {"window": [-200, 300]}},
    "references": {"ceilings": False},
    "statistics": {"draws": 100},
    "pictures": 0,
}
"""What the runs begin with; a probe's keys take the place of these. The paths are within the test's folder."""

OPEN = {PropagationSettings, ZoomSettings}
"""The models behind the mappings ``propagation`` and ``zoom``, which the type of the key does not tell."""


@dataclass(frozen=True)
class Probe:
    """A run with ``change`` ends otherwise than one without, both with ``within``.

    ``seen``: where that is looked for. ``refused``: the run with the change is refused, with these words.
    """

    change: dict
    within: dict = part(default_factory=dict)
    seen: str = "rows"
    refused: str | None = None


def model(**values):
    return {"models": [{"name": "bright", **values}]}


def cases(name="bench-a", **values):
    return {"datasets": [{"name": name, "root": name, **values}]}


def prompt(kind, **values):
    return {"prompts": [{"kind": kind, **values}]}


MADE = cases("bench-b", side="test", split={"how": "made"})
OFFICIAL = cases(side="test", split={"how": "official"})
FROZEN = cases(side="test", split={"how": "file", "file": "one.json"})
LESIONS = cases("bench-lesions")
ZOOMED = model(zoom={})
SEVERAL = {"models": [{"name": "bright"}, {"name": "bright", "label": "zoomed", "zoom": {"magnification": 1}}]}
FOLLOWED = {
    **prompt("gt-box", level="volume"),
    **cases(targets=["core"]),
    "propagation": {"maximum_growth": 50},
}
SCORED = {"source": "somebody", "dice": 0.7, "iou": 0.6, "how": "by hand"}

PROBES = {
    "BenchSettings.name": Probe({"name": "other"}, seen="page"),
    "BenchSettings.seed": Probe({"seed": 1}, prompt("gt-box-jittered")),
    "BenchSettings.data_root": Probe({"data_root": "elsewhere"}, {"datasets": [{"name": "bench-a"}], "data_root": "."}),
    "BenchSettings.models": Probe(SEVERAL),
    "BenchSettings.datasets": Probe(cases("bench-b")),
    "BenchSettings.prompts": Probe({"prompts": ["point"]}),
    "BenchSettings.metrics": Probe({"metrics": ["dice", "iou"]}),
    "BenchSettings.references": Probe({"references": {"floors": False}}),
    "BenchSettings.propagation": Probe({"propagation": {}}, FOLLOWED),
    "BenchSettings.normalizers": Probe({"normalizers": {"ct": {"window": [190, 210]}}}),
    "BenchSettings.channels": Probe({"channels": {"ct": [1]}}),
    "BenchSettings.device": Probe({"device": "cuda"}, refused="no CUDA device"),
    "BenchSettings.precision": Probe({"precision": "bf16"}, seen="computed"),
    "BenchSettings.leakage": Probe(
        {"leakage": "refuse"},
        {**model(adapter="adapter"), "leakage": "mark", "normalizers": {}},
        refused="leakage=mark",
    ),
    "BenchSettings.statistics": Probe({"statistics": {"metric": "iou"}}, {"metrics": ["dice", "iou"]}, "page"),
    "BenchSettings.pictures": Probe({"pictures": 1}, seen="page"),
    "ModelChoice.name": Probe(model(name="bright-boxes"), {"prompts": ["gt-box", "point"]}),
    "ModelChoice.settings": Probe(model(settings={"nosuch": 1}), refused="nosuch"),
    "ModelChoice.adapter": Probe(
        model(label="bright", adapter="adapter"), {"leakage": "mark", "normalizers": {}}
    ),
    "ModelChoice.zoom": Probe(model(label="bright", zoom={})),
    "ModelChoice.fit": Probe(model(label="bright", fit="stretch"), {"references": {"ceilings": True}}),
    "ModelChoice.structures": Probe(
        model(name="bright-auto", structures={"tumour": "dark", "core": "bright"}),
        {
            **model(name="bright-auto", structures={"tumour": "bright", "core": "bright"}),
            **prompt("none"), "normalizers": {},
        },
    ),
    "ModelChoice.label": Probe(model(label="other")),
    "BenchDataset.name": Probe({"datasets": [{"name": "bench-b", "root": "bench-a"}]}),
    "BenchDataset.root": Probe({"datasets": [{"name": "bench-a", "root": "elsewhere/bench-a"}]}),
    "BenchDataset.settings": Probe(cases(settings={"nosuch": 1}), refused="nosuch"),
    "BenchDataset.side": Probe(cases(side="test")),
    "BenchDataset.split": Probe(FROZEN, cases(side="test")),
    "BenchDataset.targets": Probe(cases(targets=["core"])),
    "BenchDataset.leave_out": Probe(cases(leave_out=["nosuch"]), refused="nosuch"),
    "BenchDataset.limit": Probe(cases(limit=1)),
    "BenchDataset.optional": Probe(
        {"datasets": [*cases()["datasets"], {"name": "bench-b", "root": "nosuch", "optional": False}]},
        {"datasets": [*cases()["datasets"], {"name": "bench-b", "root": "nosuch", "optional": True}]},
        refused="nosuch",
    ),
    "BenchDataset.reference": Probe(cases(reference=SCORED), seen="page"),
    **{
        f"PublishedScore.{key}": Probe(
            cases(reference={**SCORED, key: value}), cases(reference=SCORED), "page"
        )
        for key, value in {"source": "somebody else", "dice": 0.2, "iou": 0.1, "how": "by eye"}.items()
    },
    "OfficialSplit.how": Probe(FROZEN, OFFICIAL),
    "MadeSplit.how": Probe(
        cases("bench-b", side="test", split={"how": "official"}), MADE, refused="no labelled case is on the side 'test'"
    ),
    "MadeSplit.fractions": Probe(
        cases("bench-b", side="test", split={"how": "made", "fractions": {"train": 0.5, "test": 0.5}}), MADE
    ),
    "MadeSplit.seed": Probe(cases("bench-b", side="test", split={"how": "made", "seed": 1}), MADE),
    "FileSplit.how": Probe(OFFICIAL, FROZEN),
    "FileSplit.file": Probe(cases(side="test", split={"how": "file", "file": "other.json"}), FROZEN),
    "NoPrompt.kind": Probe(prompt("text"), prompt("none")),
    "NoPrompt.level": Probe(prompt("none", level="slice"), prompt("none"), refused="level"),
    "Text.kind": Probe(prompt("none"), prompt("text")),
    "Text.level": Probe(prompt("text", level="volume"), prompt("text")),
    "Text.absent": Probe(prompt("text", absent=["screwdriver"]), prompt("text")),
    "GroundTruthBox.kind": Probe(prompt("gt-box-jittered"), prompt("gt-box")),
    "GroundTruthBox.level": Probe(prompt("gt-box", level="volume")),
    "GroundTruthBox.margin_px": Probe(prompt("gt-box", margin_px=2)),
    "JitteredBox.kind": Probe(prompt("gt-box"), prompt("gt-box-jittered")),
    "JitteredBox.level": Probe(prompt("gt-box-jittered", level="volume"), prompt("gt-box-jittered")),
    "JitteredBox.margin_px": Probe(prompt("gt-box-jittered", margin_px=[0, 2]), prompt("gt-box-jittered")),
    "OnePoint.kind": Probe(prompt("clicks"), prompt("point")),
    "OnePoint.level": Probe(prompt("point", level="volume"), prompt("point")),
    "OnePoint.where": Probe(prompt("point", where="random"), prompt("point")),
    "Clicks.kind": Probe(prompt("point"), prompt("clicks")),
    "Clicks.level": Probe(prompt("clicks", level="volume"), prompt("clicks")),
    "Clicks.n": Probe(prompt("clicks", n=1), prompt("clicks")),
    "NoPrompt.per": Probe(prompt("none", per="lesion"), prompt("none"), refused="per"),
    "Text.per": Probe(prompt("text", per="lesion"), prompt("text"), refused="per"),
    **{
        f"{policy}.per": Probe(prompt(kind, per="target"), {**prompt(kind), **LESIONS})
        for policy, kind in {
            "GroundTruthBox": "gt-box", "JitteredBox": "gt-box-jittered", "OnePoint": "point", "Clicks": "clicks",
        }.items()
    },
    "Generated.kind": Probe(prompt("point"), prompt("generator", name="box")),
    "Generated.level": Probe(prompt("generator", name="box", level="volume"), prompt("generator", name="box")),
    "Generated.per": Probe(
        prompt("generator", name="box", per="target"), {**prompt("generator", name="box"), **LESIONS}
    ),
    "Generated.name": Probe(prompt("generator", name="point"), prompt("generator", name="box")),
    "Generated.settings": Probe(
        prompt("generator", name="box", settings={"margin_px": [3, 3]}), prompt("generator", name="box")
    ),
    "References.floors": Probe({"references": {"floors": False}}),
    "References.ceilings": Probe({"references": {"ceilings": True}}),
    "References.grids": Probe({"references": {"grids": [{"input": 64, "logits": 64}]}}),
    "Grid.input": Probe(
        {"references": {"grids": [{"input": 32, "logits": 16}]}}, {"references": {"grids": [{"input": 64, "logits": 16}]}}
    ),
    "Grid.logits": Probe(
        {"references": {"grids": [{"input": 64, "logits": 32}]}}, {"references": {"grids": [{"input": 64, "logits": 16}]}}
    ),
    "Grid.fit": Probe(
        {"references": {"grids": [{"input": 64, "logits": 16, "fit": "stretch"}]}},
        {"references": {"grids": [{"input": 64, "logits": 16}]}},
    ),
    "Statistics.draws": Probe({"statistics": {"draws": 300}}, {**cases("bench-b"), "statistics": {"draws": 100}}, "figures"),
    "Statistics.level": Probe({"statistics": {"level": 0.9}}, {**cases("bench-b"), "statistics": {"level": 0.95}}, "figures"),
    "Statistics.test": Probe({"statistics": {"test": "permutation"}}, {**cases("bench-b"), **SEVERAL}, "figures"),
    "Statistics.metric": Probe({"statistics": {"metric": "iou"}}, {**SEVERAL, "metrics": ["dice", "iou"]}, "figures"),
    "ZoomSettings.when": Probe(model(zoom={"minimum_logits": 0.5, "when": "always"}), model(zoom={"minimum_logits": 0.5})),
    "ZoomSettings.minimum_logits": Probe(model(zoom={"minimum_logits": 0.5}), ZOOMED),
    "ZoomSettings.context": Probe(model(zoom={"context": 1}), ZOOMED),
    "ZoomSettings.magnification": Probe(model(zoom={"magnification": 1}), ZOOMED),
    "ZoomSettings.expected_mm": Probe(model(zoom={"expected_mm": 3}), {**ZOOMED, **prompt("point")}),
    "PropagationSettings.minimum_share": Probe(
        {"propagation": {"minimum_share": 0.1}}, {**prompt("gt-box", level="volume"), **cases("bench-b", limit=1)}
    ),
    **{
        f"PropagationSettings.{key}": Probe({"propagation": {**FOLLOWED["propagation"], key: value}}, FOLLOWED)
        for key, value in {
            "tracker": "own",
            "carry": "mask",
            "margin": 0,
            "minimum_score": 2,
            "maximum_growth": 1,
            "minimum_pixels": 400,
        }.items()
    },
}  # fmt: skip

SHOWN_BY_EVERY_RUN = {"BenchSettings.output", "BenchDataset.leave_out_bad"}
"""Each run of this file is looked for in its own folder; bad cases have a test in test_bench_runs.py."""


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for argument in typing.get_args(annotation) for model in models_in(argument)}


def all_models(*waiting):
    found, waiting = set(), list(waiting)
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += [m for field in each.model_fields.values() for m in models_in(field.annotation)]
    return found


def keys(*models):
    return {f"{model.__name__}.{key}" for model in models for key in model.model_fields}


def test_every_key_has_a_probe():
    assert keys(*all_models(BenchSettings), *OPEN) == PROBES.keys() | SHOWN_BY_EVERY_RUN


def named(page, *, in_tables):
    lines = (PAGES / page).read_text(encoding="utf-8").splitlines()
    code = [each for line in lines if line.startswith("|") or not in_tables for each in re.findall(r"`([^`]+)`", line)]
    return {word for each in code for word in re.findall(r"\w+", each)}


def test_every_key_is_in_the_docs():
    benchmark = {key for model in all_models(BenchSettings) for key in model.model_fields}
    assert benchmark - named("benchmarks.md", in_tables=True) == set()
    assert {key for model in OPEN for key in model.model_fields} - named("volumes.md", in_tables=False) == set()


def test_the_examples_of_the_docs_are_configurations(tmp_path):
    text = (PAGES / "benchmarks.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml.*?\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        path = tmp_path / "example.yaml"
        path.write_text(yaml.safe_dump({**BASE, "output": "unused", **yaml.safe_load(example)}))
        load_settings(str(path), [])


def test_the_docs_say_from_how_many_patients_an_interval_is_given():
    assert f"of fewer than {LEAST_PATIENTS} patients none is given" in (PAGES / "benchmarks.md").read_text("utf-8")


@pytest.fixture
def outcome(tmp_path, bright, write_cases, monkeypatch):
    """How a configuration ends: its rows, its figures, its page, and in which number format the model computed."""
    import oncoseg_bright_model

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    computed = []
    encode = oncoseg_bright_model.Bright.encode_image

    def recorded(self, pixels):
        computed.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32)
        return encode(self, pixels)

    monkeypatch.setattr(oncoseg_bright_model.Bright, "encode_image", recorded)
    registry = load_plugins()
    reports = finishing.write_report
    numbers = iter(range(10_000))

    @cache
    def found(values, seen):
        computed.clear()
        values = json.loads(values)
        folder = tmp_path / f"run-{next(numbers)}"
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**BASE, "output": str(folder), **values}))
        monkeypatch.setattr(finishing, "write_report", reports if seen == "page" else lambda *_: None)
        try:
            prepared = prepare(load_settings(str(path), []), registry, resume=False, progress=lambda *_: None)
        except OncoSegError as error:
            return "refused", str(error)
        run(prepared, lambda *_: None)
        summary = finishing.finish(prepared)
        if seen == "page":
            return "page", (folder / "report.html").read_text().partition("<h2>Time and memory")[0]
        if seen == "figures":
            return "figures", [summary[key] for key in ("groups", "comparisons", "ranking")]
        if seen == "computed":
            return "computed", set(computed)
        rows, _ = read_table(folder / "results.csv")  # without what only repeats the configuration
        kept = [{key: value for key, value in row.items() if key != "prompt"} for row in rows]
        return "rows", (kept, [each["reason"] for key in ("failures", "skipped") for each in summary[key]])

    return lambda values, seen: found(json.dumps(values), seen)


@pytest.fixture
def data(bright, write_cases, tmp_path):
    """In the test's folder: cases of official sides, cases without any, the first in another folder, an adapter, splits."""
    sides = ["train", "test", "validation"]
    write_cases("bench-a", [{"split": side, "slices": (1, 2, 3, 4)} for side in sides])
    write_cases("bench-b", [{"core": (2, 3), "slices": (3,), "seed": 20 + number} for number in range(10)])
    write_cases("bench-lesions", [{"core": (), "second": (3, 4)}])
    (tmp_path / "elsewhere").mkdir()
    write_cases("elsewhere/bench-a", [{"case_id": "bench-a-0", "slices": (3,)}])
    adapted = adapt(load_plugins().build(ModelSpec, "bright", {}), LoraSettings())
    paths = {"ct": PathSettings(normalizers={"ct": {"window": [-200, 300]}})}
    save_adapter(adapted, tmp_path / "adapter", versions={}, paths=paths, trained_on=None)
    for name, tested in (("one", 0), ("other", 2)):
        split: dict = {"train": {}, "test": {}}
        for number in range(3):
            split["test" if number == tested else "train"][f"p{number}"] = [f"bench-a-{number}"]
        FrozenSplit({side: {"bench-a": patients} for side, patients in split.items()}, {}).write(
            tmp_path / f"{name}.json"
        )


def test_each_key_changes_how_a_run_ends(data, outcome):
    for key, probe in PROBES.items():
        before = outcome(probe.within, probe.seen)
        after = outcome({**probe.within, **probe.change}, probe.seen)
        assert before[0] == probe.seen, f"{key}: {before}"
        if probe.refused is None:
            assert after[0] == probe.seen, f"{key}: {after}"
            assert after != before, f"{key} changes nothing"
        else:
            assert after[0] == "refused", f"{key} is not refused"
            assert probe.refused in after[1], f"{key}: {after}"


def test_the_report_says_which_side_of_which_split(data, outcome, tmp_path):
    _, page = outcome({}, "page")
    assert "bench-a (3 cases, all labelled, without a split)" in page
    _, page = outcome(OFFICIAL, "page")
    assert re.search(r"bench-a \(1 case, side test of its official split [0-9a-f]{12}\)", page)
