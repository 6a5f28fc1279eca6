"""The command: exit codes, one-line errors, JSON, comparing and verifying runs; and the report."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from oncoseg_benchmarks.cli import app
from oncoseg_benchmarks.table.results import read_table
from oncoseg_core import DataError, UsageError


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_help_and_the_plugin_load_nothing_heavy():
    code = (
        "import sys; from oncoseg_benchmarks import cli, plugin; from oncoseg_benchmarks.config import settings; "
        "print([name for name in ('torch', 'matplotlib', 'scipy', 'SimpleITK') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nosuch",), 2, "no built-in benchmark of that name"),
        (("smoke", "--set", "metrics.dise={}"), 2, "unknown metric 'dise'; did you mean 'dice'"),
        (("smoke", "--set", "models=[{name: litemedsan}]"), 2, "did you mean 'litemedsam'"),
        (("verify", "nosuch"), 1, "expected the folder of a benchmark run"),
        (("compare", "nosuch", "nosuch"), 1, "expected the results.csv of a finished run"),
        (("smoke", "--nosuch"), 2, "--nosuch"),
        ((), 2, "CONFIG"),
    ],
)
def test_wrong_usage_is_one_line(arguments, code, words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "oncoseg_benchmarks", *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == code
    assert words.lower() in done.stderr.lower()
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def two_runs(config, write_cases, tmp_path):
    """The same cases by the model, and by the model with more of its answer kept."""
    root = write_cases("bench-a", [{"core": ()} for _ in range(6)])
    for name, prompt in (("a", {"kind": "point"}), ("b", {"kind": "point"})):
        models = [{"name": "bright", "label": name}]
        path = config(root, models=models, prompts=[prompt], output=str(tmp_path / name))
        done = call(path, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["n_cases"] == 6
    return tmp_path / "a", tmp_path / "b"


def test_two_runs_are_compared(two_runs):
    done = call("compare", *two_runs, "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["comparisons"]
    assert (found["a"], found["b"], found["n_patients"], found["p"]) == ("a", "b", 6, 1.0)
    assert "median difference +0.000, 6 patients: p = 1" in call("compare", *two_runs).stdout
    assert call("compare", *two_runs, "--method", "permutation").exit_code == 0
    assert isinstance(call("compare", *two_runs, "--metric", "iou").exception, UsageError)
    assert isinstance(call("compare", *two_runs, "--model-a", "c").exception, UsageError)


def test_scores_by_other_settings_are_not_compared(two_runs):
    run = json.loads((two_runs[1] / "run.json").read_text())
    run["config"]["metrics"]["nsd"]["tolerance_mm"] = 3
    (two_runs[1] / "run.json").write_text(json.dumps(run))
    found = call("compare", *two_runs, "--metric", "nsd").exception
    assert isinstance(found, DataError)
    assert "other settings" in str(found)


def test_verify_ends_with_1_where_a_score_differs(two_runs):
    done = call("verify", two_runs[0])
    assert done.exit_code == 0
    assert "0 differ" in done.stdout
    table = two_runs[0] / "results.csv"
    value = repr(next(row["dice"] for row in read_table(table)[0] if row["model"] == "a"))
    table.write_text(table.read_text().replace(value, "0.123"))
    done = call("verify", two_runs[0], "--json")
    assert done.exit_code == 1
    assert "the table says 0.123" in json.loads(done.stdout)["mismatches"][0]["problem"]


def test_the_report_keeps_kinds_of_prompt_apart_and_shows_the_cases(config, write_cases, bench, tmp_path):
    root = write_cases("bench-a", [{"category": "benign"}, {"category": "malignant"}])
    published = {"source": "somebody", "dice": 0.77}
    datasets = [{"name": "bench-a", "root": str(root), "reference": published}]
    prompts = ["gt-box", {"kind": "text", "absent": ["screwdriver"]}, {"kind": "gt-box", "level": "volume"}]
    models = [{"name": "bright"}, {"name": "bright", "label": "second"}, {"name": "bright", "label": "third"}]
    path = config(root, datasets=datasets, prompts=prompts, models=models, pictures=1)
    summary, _ = bench(path)
    page = (tmp_path / "run" / "report.html").read_text()
    titles = ("gt-box, slice level", "gt-box, volume level", "text, slice level")
    assert [page.count(f"<h2>Prompts: {title}</h2>") for title in titles] == [1, 1, 1]
    assert "What may be compared" in page
    assert "Published scores" in page
    assert "nsd (tolerance 1 mm)" in page
    assert "malignant" in page
    assert "Concepts that are in no image" in page
    assert page.count("<figure>") >= 6
    assert "http" not in page.replace("http-equiv", "")
    assert {(each["prompt"], each["level"]) for each in summary["ranking"]} == {
        tuple(t.removesuffix(" level").split(", ")) for t in titles
    }
    assert all(abs(sum(shares) - 1) < 1e-9 for each in summary["ranking"] for shares in each["shares"])
    assert len(summary["comparisons"]) == 9
