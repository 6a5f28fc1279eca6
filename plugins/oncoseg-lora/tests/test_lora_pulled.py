"""What an adapter is called by: folders, names of pulled ones, aliases. Never the network."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from oncoseg_core import WeightsError
from oncoseg_lora.pulled import ORIGIN_FILE, Origin, adapter_folder, adapters_directory, pulled_adapters

COMMIT = "0123456789" * 4


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ONCOSEG_ADAPTERS_REPO", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "adapters"


def pulled(repository, subfolder=None, alias=None):
    origin = Origin(repository=repository, subfolder=subfolder, revision=COMMIT, alias=alias)
    origin.folder.mkdir(parents=True)
    (origin.folder / ORIGIN_FILE).write_text(origin.model_dump_json())
    (origin.folder / "oncoseg.json").write_text("{}")
    return origin.folder


def test_pulled_adapters_lie_in_the_cache(cache):
    assert adapters_directory() == cache
    assert pulled_adapters() == []
    folder = pulled("lab/lungs", "v2")
    assert folder == cache / "lab--lungs--v2"
    assert [(path, origin.name) for path, origin in pulled_adapters()] == [(folder, "lab/lungs/v2")]


def test_a_folder_as_given_comes_first(tmp_path):
    own = tmp_path / "lab" / "lungs"
    own.mkdir(parents=True)
    (own / "oncoseg.json").write_text("{}")
    pulled("lab/lungs")
    assert adapter_folder(own) == own
    assert adapter_folder("lab/lungs").resolve() == own.resolve()


def test_a_name_is_that_of_a_pulled_one():
    whole, part = pulled("lab/lungs"), pulled("lab/lungs", "v2")
    assert adapter_folder("lab/lungs") == whole
    assert adapter_folder("lab/lungs/v2") == part


def test_a_folder_that_is_no_adapter_hides_no_alias(tmp_path):
    (tmp_path / "brain").mkdir()
    assert str(adapter_folder("brain")) == "brain"
    folder = pulled("lab/tumours", "brain", alias="brain")
    assert adapter_folder("brain") == folder


def test_an_alias_is_the_pulled_one_of_the_repository_in_the_setting(monkeypatch):
    first = pulled("lab/tumours", "liver", alias="liver")
    assert adapter_folder("liver") == first
    second = pulled("clinic/tumours", "liver", alias="liver")
    with pytest.raises(
        WeightsError, match="several adapters were pulled by that alias: clinic/tumours/liver, lab/tumours/liver"
    ):
        adapter_folder("liver")
    monkeypatch.setenv("ONCOSEG_ADAPTERS_REPO", "clinic/tumours")
    assert adapter_folder("liver") == second
    monkeypatch.setenv("ONCOSEG_ADAPTERS_REPO", "other/tumours")
    with pytest.raises(WeightsError, match="liver: no such folder, and no adapter of that name was pulled"):
        adapter_folder("liver")


def test_what_is_not_there_names_what_is_near_and_how_to_get_it():
    pulled("lab/lungs", "v2")
    with pytest.raises(WeightsError) as caught:
        adapter_folder("lab/lungs/v3")
    assert str(caught.value) == (
        "lab/lungs/v3: no such folder, and no adapter of that name was pulled: `oncoseg adapters pull NAME` fetches one; "
        "did you mean 'lab/lungs/v2'?"
    )


def test_unfinished_and_damaged_ones_are_no_adapters(cache):
    folder = pulled("lab/lungs")
    (folder / ORIGIN_FILE).write_text("{")
    under_way = cache / ".pull-1"
    under_way.mkdir()
    (under_way / ORIGIN_FILE).write_text((folder / ORIGIN_FILE).read_text())
    assert pulled_adapters() == [(folder, None)]
    with pytest.raises(WeightsError, match="no adapter of that name"):
        adapter_folder("lab/lungs")


@pytest.mark.parametrize(
    "wrong",
    [
        {"repository": "../lungs"}, {"repository": "lab"}, {"repository": "lab/.."}, {"repository": "lab/a--b"},
        {"repository": "/etc/x"}, {"repository": "lab/lungs/"}, {"repository": "lab\\x/y"},
        {"subfolder": ".."}, {"subfolder": "a/b"}, {"subfolder": ".git"}, {"revision": "main"},
    ],
)  # fmt: skip
def test_an_origin_cannot_lead_out_of_the_store(wrong):
    with pytest.raises(ValidationError):
        Origin(**{"repository": "lab/lungs", "revision": COMMIT, **wrong})


def test_it_needs_no_torch_and_no_hub():
    code = (
        "import sys, oncoseg_lora.pulled; print([m for m in ('torch', 'peft', 'huggingface_hub') if m in sys.modules])"
    )
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) == []
