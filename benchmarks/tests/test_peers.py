"""The measurements are listed, and their page is what the records say."""

import subprocess
import sys

import pytest

from oncoseg_benchmarks import measurements_page as peers


def test_the_page_is_drawn_from_the_records_as_they_are():
    assert peers.PAGE.read_text("utf-8") == peers.page(), "python -m oncoseg_benchmarks.measurements_page page"


def test_every_record_comes_from_a_script_that_is_there():
    for name, one in peers.records().items():
        assert one["script"] in peers.scripts(), name
        assert one["date"] in peers.page()


def test_a_changed_record_changes_the_page(tmp_path, monkeypatch):
    record = next(iter(sorted(peers.RESULTS.glob("*.json"))))
    (tmp_path / record.name).write_text(record.read_text().replace('"date": "2', '"date": "3'))
    monkeypatch.setattr(peers, "RESULTS", tmp_path)
    assert peers.page() != peers.PAGE.read_text("utf-8")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"seconds": {"median": 1.23456, "min": 1, "max": 2.0, "n": 3}}, [("seconds", "1.235 (median of 3: 1 to 2)")]),
        ({"a_b": {"c": True, "d": None}}, [("a b › c", "yes"), ("a b › d", "–")]),
        ({"rows": [{"n": 12345.6}, {"n": [0.5, 2]}]}, [("rows 1 › n", "12346"), ("rows 2 › n", "0.5, 2")]),
        ({"text": "a|b", "none": []}, [("text", "a\\|b"), ("none", "–")]),
    ],
)
def test_values_are_told_short(found, expected):
    assert list(peers.lines(found)) == expected


def test_scripts_are_listed_with_what_they_measure():
    listed = subprocess.run(
        [sys.executable, "-m", "oncoseg_benchmarks.measurements_page"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(peers.scripts())
    assert any("normalizers" in line and "MONAI" in line and "[normalizers.json]" in line for line in listed)


def test_the_time_that_it_took_is_told(capsys, monkeypatch):
    records = peers.records()
    records["metrics"] |= {"seconds": 90}
    monkeypatch.setattr(peers, "records", lambda: records)
    monkeypatch.setattr("sys.argv", ["peers"])
    peers.main()
    assert " 1.5 min  Dice, IoU" in capsys.readouterr().out
    assert f"{records['metrics']['date']} in 1.5 min, " in peers.page()


@pytest.mark.parametrize("arguments", [["run", "metric"], ["metrics"]])
def test_an_unknown_name_is_wrong_usage(arguments, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["peers", *arguments])
    with pytest.raises(SystemExit) as ended:
        peers.main()
    assert ended.value.code == 2
    assert "metric" in capsys.readouterr().err


def test_without_a_checkout_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(peers, "SCRIPTS", tmp_path / "peers")
    monkeypatch.setattr(peers, "PAGE", tmp_path / "docs" / "measurements.md")
    monkeypatch.setattr("sys.argv", ["peers", "page"])
    with pytest.raises(SystemExit):
        peers.main()
    assert "pip install -e ./benchmarks" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_script_runs_with_its_own_options():
    done = subprocess.run(
        [sys.executable, "-m", "oncoseg_benchmarks.measurements_page", "run", "metrics", "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "--repeats" in done.stdout
