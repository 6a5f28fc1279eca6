"""Pushing to a stand-in hub: what was checked is what arrives, and what must not be published stays here."""

import hashlib
import json
from pathlib import Path

import pytest
from hub_adapters import adapter_files, in_folder, write
from hub_server import READER, WRITER, Repository
from huggingface_hub import HfApi

from oncoseg_core import UsageError, WeightsError
from oncoseg_hub.client import HubError
from oncoseg_hub.pull import pull
from oncoseg_hub.push import push, to_send
from oncoseg_lora.pulled import HubName

LUNGS = HubName(repository="lab/lungs")
SECOND = HubName(repository="lab/lungs", subfolder="v2")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "adapter", adapter_files())
    (tmp_path / "adapter" / "pulled.json").write_text("{}")
    (tmp_path / "adapter" / "notes.txt").write_text("private")
    return tmp_path / "adapter"


@pytest.mark.parametrize("name", [LUNGS, SECOND])
def test_what_is_pushed_comes_back(hub, writer, folder, name):
    said = []
    done = push(writer, to_send(folder), name, private=False, say=said.append)
    prefix = "" if name.subfolder is None else "v2/"
    assert hub.files("lab/lungs") == {f"{prefix}{file}": content for file, content in adapter_files().items()}
    assert done.url == f"{hub.url}/lab/lungs/tree/{done.revision}/{prefix}".rstrip("/")
    assert said == [f"Sending to {hub.url}/lab/lungs (public)"]
    assert len(hub.repositories["lab/lungs"].commits) == 2  # the first, empty one, and this
    pulled = pull(writer, name)
    assert pulled.origin.revision == done.revision
    assert {p.name: p.read_bytes() for p in pulled.folder.iterdir() if p.name != "pulled.json"} == adapter_files()


def test_a_second_push_replaces_and_removes_what_it_has_not(hub, writer, tmp_path):
    hub.add("lab/lungs", {**adapter_files(b"old"), "LICENSE": b"kept", **in_folder("v2", adapter_files())})
    files = adapter_files(b"new", datasets=None)
    manifest = json.loads(files["oncoseg.json"])
    del manifest["files"]["trained_on.txt"], files["trained_on.txt"]
    files["oncoseg.json"] = json.dumps(manifest).encode()
    push(writer, to_send(write(tmp_path / "new", files)), LUNGS, private=False, say=print)
    assert hub.files("lab/lungs") == {**files, "LICENSE": b"kept", **in_folder("v2", adapter_files())}


def test_a_new_private_repository(hub, writer, folder):
    push(writer, to_send(folder), LUNGS, private=True, say=print)
    assert hub.repositories["lab/lungs"].private
    push(writer, to_send(folder), SECOND, private=True, say=print)


def test_private_is_never_sent_to_a_public_repository(hub, writer, folder):
    hub.add("lab/lungs", {})
    with pytest.raises(
        HubError, match="lab/lungs: exists and is public, but --private was asked for; nothing was sent"
    ):
        push(writer, to_send(folder), LUNGS, private=True, say=print)
    assert hub.files("lab/lungs") == {}
    assert hub.blobs == {}


def test_without_a_token(hub, api, folder):
    with pytest.raises(
        UsageError, match="needs a token that may write to lab/lungs: log in with `hf auth login`, or set HF_TOKEN"
    ):
        push(api, to_send(folder), LUNGS, private=False, say=print)
    assert hub.seen == []


@pytest.mark.parametrize(
    ("token", "said"),
    [(READER, "HTTP 403: the token does not allow it"), ("hf_wrong", "HTTP 401: the token is not accepted")],
)
def test_a_token_that_may_not_write_is_not_shown(hub, folder, token, said):
    api = HfApi(endpoint=hub.url, token=token)
    with pytest.raises(HubError, match=f"lab/lungs: making the repository failed: {said}") as caught:
        push(api, to_send(folder), LUNGS, private=False, say=print)
    assert token not in str(caught.value)
    assert hub.repositories == {}


def test_a_token_that_the_hub_repeats_is_not_shown(hub, writer, folder):
    hub.faults["POST /api/repos/create"] = (418, "", f"no tea for {WRITER}")
    with pytest.raises(HubError, match=r"HTTP 418: no tea for \*\*\*"):
        push(writer, to_send(folder), LUNGS, private=False, say=print)


@pytest.mark.parametrize("fault", ["preupload", "lfs/objects", "PUT /blob", "/commit/"])
def test_a_refusal_half_way_commits_nothing(hub, writer, folder, fault):
    hub.faults[fault] = (418, "", "I am a teapot")
    with pytest.raises(HubError, match="lab/lungs: sending failed: HTTP 418") as caught:
        push(writer, to_send(folder), LUNGS, private=False, say=print)
    assert "\n" not in str(caught.value)
    assert hub.files("lab/lungs") == {}


def test_files_that_the_repository_ignores_are_missed(hub, writer, folder):
    hub.faults["ignored"] = ["README.md"]
    with pytest.raises(HubError, match=r"README\.md did not arrive whole in commit \w+; a \.gitignore there"):
        push(writer, to_send(folder), LUNGS, private=False, say=print)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "trained_on.txt"])
def test_an_altered_folder_is_refused(folder, name):
    (folder / name).write_bytes(b"altered")
    with pytest.raises(WeightsError, match=f"{name}: SHA-256 is"):
        to_send(folder)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_adapter_without_a_card_is_refused(folder, content):
    (folder / "README.md").unlink()
    if content is not None:
        (folder / "README.md").write_bytes(content)
    with pytest.raises(WeightsError, match=r"README\.md: .*not published without a card"):
        to_send(folder)


def test_only_the_adapters_own_files_are_sent(folder):
    assert to_send(folder) == adapter_files()


@pytest.mark.parametrize(
    "text",
    [
        "Trained in /home/anna/runs/lungs.", "see `/data/ward7/scans`", "(/mnt/pacs/x)", "~/runs/lungs", "~anna/runs",
        r"C:\Users\anna", "D:/scans/x", r"\\pacs\share\x", "file:///etc/x", "file:/etc/x", "['/srv/a/b']",
        f"in {Path.home()}/x",
    ],
)  # fmt: skip
def test_a_card_with_a_path_of_a_machine_is_refused(folder, text):
    (folder / "README.md").write_text(f"# Card\n\n{text}\n")
    with pytest.raises(WeightsError, match=r"README\.md: holds what looks like a path of a machine"):
        to_send(folder)


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/facebook/sam3 and http://a.b/c/d?e=/f", "CT/MRI/PET at 1.5 mm/px and 10 mg/kg/day",
        "doi:10.1158/0008-5472.CAN-17-0339", "<https://a/b/c>", "and/or, 3/4, ~0.8, ~3 mm, A: one", "OWNER/REPOSITORY/FOLDER",
        "[a](https://b.c/d/e)", "</details></summary>", "ratio 1:2/3",
    ],
)  # fmt: skip
def test_a_card_with_addresses_and_units_is_not(folder, text):
    (folder / "README.md").write_text(f"# Card\n\n{text}\n")
    assert "README.md" in to_send(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"paths": {"ct": {"normalizers": {"ct": {"table": "/srv/x"}}}}},
        {"paths": {"ct": {"normalizers": {"ct": {"/srv": 1}}}}},
        {"versions": {"oncoseg-core": "0.1.0 from /home/anna/src"}},
        {"versions": {"oncoseg-core": "../oncoseg"}},
    ],
)
def test_a_manifest_with_a_path_is_refused(folder, changes):
    (folder / "oncoseg.json").write_bytes(adapter_files(**changes)["oncoseg.json"])
    with pytest.raises(WeightsError, match=r"oncoseg\.json: holds what looks like a path"):
        to_send(folder)


def test_a_configuration_with_a_path_is_refused(tmp_path):
    files = adapter_files()
    files["adapter_config.json"] = b'{"base_model_name_or_path": "/models/sam3"}'
    manifest = json.loads(files["oncoseg.json"])
    manifest["files"]["adapter_config.json"] = hashlib.sha256(files["adapter_config.json"]).hexdigest()
    files["oncoseg.json"] = json.dumps(manifest).encode()
    with pytest.raises(
        WeightsError, match=r"adapter_config\.json: holds what looks like a path of a machine, '/models/sam3'"
    ):
        to_send(write(tmp_path / "x", files))


def test_a_private_repository_of_others_is_not_found(hub, folder):
    hub.repositories["lab/lungs"] = Repository(private=True)
    with pytest.raises(HubError, match="HTTP 403"):
        push(HfApi(endpoint=hub.url, token=READER), to_send(folder), LUNGS, private=True, say=print)
