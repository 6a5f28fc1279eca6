"""Pulling from a stand-in hub: what arrives, and that nothing is left of what goes wrong."""

import hashlib
import json
import os
import time

import pytest
from hub_adapters import adapter_files, in_folder
from hub_server import READER
from huggingface_hub import HfApi

from oncoseg_core import OncoSegError, StorageError, UsageError, WeightsError
from oncoseg_hub.client import HubError
from oncoseg_hub.pull import LARGEST, pull
from oncoseg_lora.pulled import HubName, adapter_folder, adapters_directory, pulled_adapters

LUNGS = HubName(repository="lab/lungs")
SECOND = HubName(repository="lab/lungs", subfolder="v2")


def left():
    """Everything in the store, links and hidden folders too."""
    return sorted(str(path.relative_to(adapters_directory())) for path in adapters_directory().rglob("*"))


def fails(error, match, api, name=LUNGS, **arguments):
    with pytest.raises(error, match=match) as caught:
        pull(api, name, **arguments)
    assert "\n" not in str(caught.value)
    assert left() == []
    return str(caught.value)


def test_an_adapter_comes_whole_and_is_found_by_its_name(hub, api):
    files = adapter_files()
    oid = hub.add("lab/lungs", {**files, ".gitattributes": b"x", "picture.png": b"x", "LICENSE": b"x"})
    done = pull(api, LUNGS)
    assert (done.origin.revision, done.was_there) == (oid, False)
    assert done.folder == adapter_folder("lab/lungs")
    assert {path.name: path.read_bytes() for path in done.folder.iterdir() if path.name != "pulled.json"} == files
    assert json.loads((done.folder / "pulled.json").read_text()) == {
        "repository": "lab/lungs", "subfolder": None, "revision": oid, "alias": None,
    }  # fmt: skip
    assert [path.name for path in adapters_directory().iterdir()] == ["lab--lungs"]


def test_a_folder_of_a_repository(hub, api):
    hub.add(
        "lab/lungs", {**in_folder("v1", adapter_files(b"one")), **in_folder("v2", adapter_files(b"two")), "x.py": b""}
    )
    done = pull(api, SECOND)
    assert (done.folder / "adapter_model.safetensors").read_bytes() == b"two"
    assert adapter_folder("lab/lungs/v2") == done.folder
    assert not any("v1" in path for _, path in hub.seen)


def test_only_the_named_files_are_asked_for(hub, api):
    hub.add("lab/lungs", {**adapter_files(), "notes.txt": b"x"})
    pull(api, LUNGS)
    asked = {path.rpartition("/")[2] for command, path in hub.seen if command == "GET" and "/resolve/" in path}
    assert asked == set(adapter_files())


def test_a_card_and_the_list_of_cases_may_be_missing(hub, api):
    files = adapter_files(datasets=None)
    manifest = json.loads(files["oncoseg.json"])
    del manifest["files"]["trained_on.txt"], files["trained_on.txt"], files["README.md"]
    files["oncoseg.json"] = json.dumps(manifest).encode()
    hub.add("lab/lungs", files)
    assert {path.name for path in pull(api, LUNGS).folder.iterdir()} == {*files, "pulled.json"}


def test_an_alias_is_remembered(hub, api, monkeypatch):
    hub.add("lab/paper", in_folder("liver", adapter_files()))
    done = pull(api, HubName(repository="lab/paper", subfolder="liver"), alias="liver")
    assert adapter_folder("liver") == adapter_folder("lab/paper/liver") == done.folder
    monkeypatch.setenv("ONCOSEG_ADAPTERS_REPO", "lab/paper")
    assert adapter_folder("liver") == done.folder


def test_a_second_pull_fetches_nothing_and_a_new_commit_replaces(hub, api):
    hub.add("lab/lungs", adapter_files(b"old"))
    first = pull(api, LUNGS)
    hub.seen.clear()
    assert pull(api, LUNGS).was_there
    assert [path for _, path in hub.seen] == ["/api/models/lab/lungs"]
    hub.add("lab/lungs", adapter_files(b"new"))
    second = pull(api, LUNGS)
    assert second.folder == first.folder
    assert (second.folder / "adapter_model.safetensors").read_bytes() == b"new"
    again = pull(api, LUNGS, revision=first.origin.revision)
    assert (again.folder / "adapter_model.safetensors").read_bytes() == b"old"
    assert [path.name for path in adapters_directory().iterdir()] == ["lab--lungs"]


def test_a_store_that_was_altered_is_mended(hub, api):
    hub.add("lab/lungs", adapter_files())
    folder = pull(api, LUNGS).folder
    (folder / "adapter_model.safetensors").write_bytes(b"altered")
    assert not pull(api, LUNGS).was_there
    assert (folder / "adapter_model.safetensors").read_bytes() == adapter_files()["adapter_model.safetensors"]


def test_into_a_folder_of_ones_own(hub, api, tmp_path):
    hub.add("lab/lungs", adapter_files())
    done = pull(api, LUNGS, into=tmp_path / "own" / "adapter")
    assert done.folder == tmp_path / "own" / "adapter"
    assert {path.name for path in done.folder.iterdir()} == {*adapter_files(), "pulled.json"}
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["adapter"]
    assert not adapters_directory().exists()
    (tmp_path / "empty").mkdir()
    pull(api, LUNGS, into=tmp_path / "empty")
    for taken in (done.folder, done.folder / "README.md"):
        fails(UsageError, "exists and is not empty", api, into=taken)


def test_a_failed_replacement_leaves_the_old_one(hub, api):
    hub.add("lab/lungs", adapter_files(b"old"))
    folder = pull(api, LUNGS).folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.add("lab/lungs", {**adapter_files(b"new"), "adapter_config.json": b"damaged"})
    with pytest.raises(WeightsError, match=r"lab/lungs: adapter_config\.json: SHA-256 is"):
        pull(api, LUNGS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in adapters_directory().iterdir()] == ["lab--lungs"]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "trained_on.txt"])
def test_a_damaged_file(hub, api, name):
    content = bytearray(adapter_files()[name])
    content[0] ^= 1
    hub.add("lab/lungs", {**adapter_files(), name: bytes(content)})
    told = fails(WeightsError, f"lab/lungs: {name}: SHA-256 is", api)
    assert str(adapters_directory()) not in told


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "oncoseg.json"])
def test_a_missing_file(hub, api, name):
    files = adapter_files()
    del files[name]
    hub.add("lab/lungs", files)
    fails(WeightsError, f"it has no {name}", api)
    assert not any("/resolve/" in path for _, path in hub.seen)


def test_a_file_that_is_listed_but_not_there(hub, api):
    hub.add("lab/lungs", adapter_files())
    hub.faults["lost"] = ["adapter_model.safetensors"]
    fails(HubError, r"fetching adapter_model\.safetensors failed: a file that it lists is not there", api)


def test_a_promised_list_of_cases_that_is_missing(hub, api):
    files = adapter_files()
    del files["trained_on.txt"]
    hub.add("lab/lungs", files)
    fails(WeightsError, r"lab/lungs: trained_on\.txt: No such file", api)


def test_a_list_of_cases_that_is_none(hub, api):
    files = adapter_files()
    manifest = json.loads(files["oncoseg.json"])
    files["trained_on.txt"] = b"Anna Example, born 1950\n"
    manifest["files"]["trained_on.txt"] = hashlib.sha256(files["trained_on.txt"]).hexdigest()
    hub.add("lab/lungs", {**files, "oncoseg.json": json.dumps(manifest).encode()})
    fails(WeightsError, "a line that is no SHA-256", api)


def test_a_repository_without_an_adapter_names_the_folders_that_hold_one(hub, api):
    hub.add(
        "lab/lungs", {"model.safetensors": b"x", **in_folder("v1", adapter_files()), **in_folder("v2", adapter_files())}
    )
    fails(WeightsError, r"is no OncoSeg adapter, .*; adapters are in its folders v1, v2", api)


@pytest.mark.parametrize("name", ["adapter_model.bin", "extra.PKL", "model.pt", "modeling.py", "run.sh"])
def test_pickles_and_code_are_refused_before_anything_is_fetched(hub, api, name):
    hub.add("lab/lungs", {**adapter_files(), name: b"x"})
    fails(WeightsError, rf"holds {name}: an adapter is data alone", api)
    assert not any("/resolve/" in path for _, path in hub.seen)


@pytest.mark.parametrize("files", [{"../../evil.txt": "a" * 64}, {"evil.py": "a" * 64}, {"/etc/passwd": "a" * 64}])
def test_a_manifest_that_names_other_files(hub, api, files):
    original = json.loads(adapter_files()["oncoseg.json"])["files"]
    hub.add("lab/lungs", adapter_files(files={**original, **files}))
    fails(WeightsError, "is not the record of an adapter: files", api)


def test_paths_that_lead_out_are_never_followed(hub, api, tmp_path):
    outside = {
        "../evil.txt": b"x",
        "../../adapter_model.safetensors": b"x",
        "/adapter_config.json": b"x",
        "..\\evil": b"x",
    }
    hub.add("lab/lungs", {**adapter_files(), **outside})
    pull(api, LUNGS)
    assert [path.name for path in adapters_directory().iterdir()] == ["lab--lungs"]
    assert {path.name for path in adapter_folder("lab/lungs").iterdir()} == {*adapter_files(), "pulled.json"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]


@pytest.mark.parametrize("name", LARGEST)
def test_too_large_is_refused_before_anything_is_fetched(hub, api, name):
    hub.add("lab/lungs", adapter_files())
    for size in (LARGEST[name] + 1, None):
        hub.faults["sizes"] = {name: size}
        fails(WeightsError, f"{name} has {size} bytes, expected at most {LARGEST[name]}", api)
    assert not any("/resolve/" in path for _, path in hub.seen)


@pytest.mark.parametrize("served", [b"longer than what was listed" * 999, b"short"])
def test_a_file_of_another_size_than_listed(hub, api, served):
    hub.add("lab/lungs", adapter_files())
    hub.faults["served"] = {"adapter_model.safetensors": served}
    fails(OncoSegError, r"adapter_model\.safetensors is not the file of 7000 bytes", api)


def test_a_connection_that_is_cut_once_goes_on(hub, api):
    hub.add("lab/lungs", adapter_files())
    hub.faults["cut"] = {"adapter_model.safetensors": 1}
    folder = pull(api, LUNGS).folder
    assert (folder / "adapter_model.safetensors").read_bytes() == adapter_files()["adapter_model.safetensors"]


def test_a_connection_that_is_always_cut(hub, api):
    hub.add("lab/lungs", adapter_files(b"x"))  # of which nothing arrives: while anything does, the library goes on
    hub.faults["cut"] = {"adapter_model.safetensors": 10**6}
    fails(HubError, r"fetching adapter_model\.safetensors failed: .*check the network", api)


def test_no_hub_at_all(hub, api):
    hub.shutdown()
    hub.server_close()
    fails(HubError, "lab/lungs: reading failed: .*check the network", api)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((401, "RepoNotFound"), "there is no http.*or it is private; check the name, and log in"),
        ((404, "RepoNotFound"), "there is no http.*or it is private"),
        ((403, "", "Forbidden"), "HTTP 403: the token does not allow it"),
        ((401, "", "Invalid credentials in Authorization header"), "HTTP 401: the token is not accepted; log in"),
        ((418, "", "I am a teapot"), "HTTP 418: I am a teapot; try again later"),
    ],
)
def test_refusals(hub, api, fault, said):
    hub.add("lab/lungs", adapter_files())
    hub.faults["/api/models/"] = fault
    fails(HubError, f"lab/lungs: reading failed: {said}", api)


def test_a_gated_repository(hub, api):
    hub.add("lab/lungs", adapter_files(), gated=True)
    fails(HubError, r"it is gated; ask for access on http://127\.0\.0\.1:\d+/lab/lungs, then log in", api)
    fails(HubError, "it is gated", HfApi(endpoint=hub.url, token=READER))


def test_a_private_repository(hub, api, writer):
    hub.add("lab/lungs", adapter_files(), private=True)
    fails(HubError, "or it is private", api)
    pull(writer, LUNGS)


def test_an_unknown_revision_and_a_commit_that_is_none(hub, api):
    hub.add("lab/lungs", adapter_files())
    fails(HubError, "it has no such revision", api, revision="v9")
    hub.faults["sha"] = "../../x"
    fails(HubError, "the hub names no commit", api)


def test_a_disk_that_cannot_be_written(hub, api, tmp_path, monkeypatch):
    hub.add("lab/lungs", adapter_files())
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot write .*lab--lungs: a part of that path is a file"):
        pull(api, LUNGS)


def test_a_full_disk_leaves_nothing(hub, api, monkeypatch):
    hub.add("lab/lungs", adapter_files())

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")  # as a write to an open file does: it names none

    monkeypatch.setattr(type(api), "hf_hub_download", full)
    fails(StorageError, "cannot write what is fetched: the disk is full", api)


def test_an_interrupt_leaves_nothing(hub, api, monkeypatch):
    hub.add("lab/lungs", adapter_files())

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(api), "hf_hub_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull(api, LUNGS)
    assert left() == []


def test_what_a_killed_pull_left_is_swept_a_day_later(hub, api):
    hub.add("lab/lungs", adapter_files())
    old, new = adapters_directory() / ".pull-old", adapters_directory() / ".pull-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 90_000,) * 2)
    pull(api, LUNGS)
    assert sorted(path.name for path in adapters_directory().iterdir()) == [".pull-new", "lab--lungs"]
    assert [origin.name for _, origin in pulled_adapters()] == ["lab/lungs"]
