"""The list of measurements agrees with what is there."""

import subprocess
import sys

from oncoseg_benchmarks.peers import SCRIPTS, measurements


def test_every_script_is_listed_with_what_it_measures():
    found = measurements()
    assert [each.path for each in found] == sorted(SCRIPTS.glob("*.py"))
    assert all(each.summary for each in found)
    assert {each.path.stem for each in found if each.recorded} >= {"normalizers", "zoom_and_volumes"}


def test_the_list_and_an_unknown_name():
    run = [sys.executable, "-m", "oncoseg_benchmarks.peers"]
    listed = subprocess.run(run, capture_output=True, text=True)
    assert listed.returncode == 0
    assert "prepared_store" in listed.stdout
    unknown = subprocess.run([*run, "normalisers"], capture_output=True, text=True)
    assert unknown.returncode == 2
    assert "did you mean 'normalizers'" in unknown.stderr


def test_the_readme_names_every_script():
    readme = (SCRIPTS.parent / "README.md").read_text()
    assert [path.name for path in SCRIPTS.glob("*.py") if f"`{path.name}`" not in readme] == []


def test_the_page_of_results_is_drawn_from_the_files(monkeypatch):
    docs = SCRIPTS.parents[1] / "docs"
    monkeypatch.syspath_prepend(docs)
    import benchmark_results

    assert (docs / "benchmark-results.md").read_text() == benchmark_results.page(), "run docs/benchmark_results.py"
