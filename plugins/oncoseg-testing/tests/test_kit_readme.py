"""The README's example runs, and it names every check."""

import re
import tomllib
from pathlib import Path

import pytest

import oncoseg_testing
from oncoseg_testing.checks.rules import BrokenRuleError
from oncoseg_testing.new_plugin import KINDS

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))


@pytest.fixture
def example():
    names = {"__name__": "mine"}
    exec(BLOCKS["python"], names)
    return names


def test_the_example_passes(example):
    example["test_it_keeps_the_contract"]()


def test_the_example_fails_as_it_says(example):
    heat = example["Heat"]
    heat_apply = heat.apply
    heat.apply = lambda self, voxels, stats: heat_apply(self, voxels, stats).astype("float64")
    with pytest.raises(BrokenRuleError) as caught:
        example["test_it_keeps_the_contract"]()
    error = caught.value
    assert f"rule:    {error.rule}\nexample: {error.example}\nfound:   {error.found}\n" == BLOCKS["text"]


def test_every_check_and_every_kind_is_named():
    assert [name for name in oncoseg_testing.__all__ if f"`{name}" not in README] == []
    (row,) = [line for line in README.splitlines() if line.startswith("| `oncoseg new-plugin")]
    assert row.endswith(f"kinds: {', '.join(KINDS)} |")


def test_the_extra_is_that_of_the_templates():
    assert tomllib.loads(BLOCKS["toml"])["project"]["optional-dependencies"]["test"] == ["oncoseg-testing>=0.1,<0.2"]
