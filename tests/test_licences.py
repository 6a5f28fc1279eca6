"""Every model states under which licence its code and its weights are, wherever somebody decides to use it."""

import json
import re
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from oncoseg_benchmarks.report.terminal import print_summary
from oncoseg_core import Licence, ModelSpec, load_plugins
from oncoseg_core.cli.app import app
from oncoseg_segment.engine.report import examine_model

STUDY = Licence(code="Free", weights="For study", bars="sale", non_commercial=True)


def spec_of(name):
    return load_plugins().get(ModelSpec, name)


def test_every_installed_model_states_its_licence():
    models = [one.spec for one in load_plugins().components if isinstance(one.spec, ModelSpec)]
    assert {"sam3", "sam3-tiny", "litemedsam"} <= {spec.name for spec in models}
    assert [spec.name for spec in models if spec.licence is None] == []


def test_the_licences_are_those_of_the_files():
    sam3 = spec_of("sam3").licence
    assert sam3.weights.startswith("SAM License")
    assert sam3.code.startswith("SAM License")
    for barred in ("military", "nuclear", "espionage", "weapons", "ITAR", "reverse engineering"):
        assert barred in sam3.bars
    assert not sam3.non_commercial
    assert spec_of("litemedsam").licence == Licence(code="Apache-2.0", weights="Apache-2.0")


def test_plugins_show_tells_them():
    shown = CliRunner().invoke(app, ["plugins", "show", "sam3"]).output
    assert re.search(r"licence: .*SAM License.*military", shown)
    recorded = json.loads(CliRunner().invoke(app, ["plugins", "show", "litemedsam", "--json"]).output)["licence"]
    assert recorded == {"code": "Apache-2.0", "weights": "Apache-2.0", "bars": "", "non_commercial": False}


@pytest.mark.parametrize(("licence", "expected"), [(STUDY, 1), (spec_of("sam3").licence, 0), (None, 0)])
def test_segmenting_warns_where_commercial_use_is_not_allowed(licence, expected):
    spec = spec_of("litemedsam").model_copy(update={"licence": licence})
    model = SimpleNamespace(spec=spec, weights_sha256="a" * 64)
    said = [finding.message for finding in examine_model(model)]
    assert said == ["model 'litemedsam': NO COMMERCIAL USE: code Free, weights For study"] * expected


def test_a_benchmark_says_it_once(capsys, tmp_path):
    summary = {"metric_records": {}, "groups": [], "failures": [], "weights": {}, "skipped": []}
    summary["licences"] = {"a": {**STUDY.model_dump(), "notice": STUDY.notice}, "b": {"notice": ""}, "c": None}
    print_summary(summary, tmp_path)
    assert capsys.readouterr().out.count("Model a: NO COMMERCIAL USE") == 1
