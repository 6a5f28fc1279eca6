"""``oncoseg adapters`` as a user types it: names, aliases, what is printed, what comes out when it fails."""

import json
import os
import socket
import subprocess
import sys

import pytest
from forked_commands import run_forked
from hub_adapters import adapter_files, in_folder, write
from hub_server import WRITER
from typer.testing import CliRunner

import oncoseg_lora
from oncoseg_core import UsageError
from oncoseg_hub.command import app
from oncoseg_hub.reference import parse_reference, parse_target
from oncoseg_lora import Imported, LoraSettings
from oncoseg_lora.pulled import HubName


@pytest.fixture
def oncoseg(hub, tmp_path):
    """Runs ``oncoseg adapters`` in a process of its own, at the stand-in hub."""

    def run(*arguments, **environment):
        settings = {
            "ONCOSEG_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        }  # fmt: skip
        environment = {**os.environ, **settings, **environment}
        return run_forked("oncoseg_core.cli.app", ["adapters", *arguments], environment=environment, cwd=tmp_path)

    return run


def test_push_pull_and_list(hub, oncoseg, tmp_path):
    write(tmp_path / "adapter", adapter_files())
    dry = oncoseg("push", "adapter", "lab/paper", "--name", "liver", "--dry-run")
    assert "7000 bytes  adapter_model.safetensors" in dry.stdout
    assert "Nothing was sent; it would go to lab/paper/liver" in dry.stdout
    assert hub.seen == []

    done = oncoseg("push", "adapter", "lab/paper", "--name", "liver", "--private", HF_TOKEN=WRITER)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Sending to {hub.url}/lab/paper (private)" in done.stdout
    assert WRITER not in done.stdout
    assert hub.files("lab/paper") == in_folder("liver", adapter_files())

    done = oncoseg("pull", "liver", "--json", ONCOSEG_ADAPTERS_REPO="lab/paper", HF_TOKEN=WRITER)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["repository"], told["subfolder"], told["alias"], told["model"]) == (
        "lab/paper",
        "liver",
        "liver",
        "tiny",
    )

    again = oncoseg("pull", "lab/paper/liver", HF_TOKEN=WRITER)
    assert "use it: oncoseg segment IMAGE --model tiny --adapter lab/paper/liver --box" in again.stdout

    listed = oncoseg("list", "adapter", HF_HUB_OFFLINE="1")
    assert (listed.returncode, listed.stderr) == (0, "")
    pulled, own = [line for line in listed.stdout.splitlines() if "msd-lung" in line]
    for line, name in ((pulled, "lab/paper/liver"), (own, "adapter")):
        assert line.split()[:4] == [name, "tiny", "e" * 12, "ct"]
        assert "dice 0.400 → 0.650 (4 cases, test, box)" in line
    rows = json.loads(oncoseg("list", "--json").stdout)
    assert [(row["name"], row["datasets"], row["problem"]) for row in rows] == [("lab/paper/liver", ["msd-lung"], None)]
    assert rows[0]["bytes"] == sum(map(len, adapter_files().values()))


def failed(done, code, *parts):
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def test_what_goes_wrong_is_one_line(hub, oncoseg, tmp_path):
    hub.add("lab/lungs", adapter_files())
    offline = "HF_HUB_OFFLINE is set, so nothing is fetched from or sent to the hub"
    failed(oncoseg("pull", "lab/lungs", HF_HUB_OFFLINE="1"), 1, offline)
    failed(oncoseg("pull", "lab/nothing"), 1, "there is no http", "or it is private")
    failed(oncoseg("pull", "breast"), 2, "ONCOSEG_ADAPTERS_REPO is not set")
    assert not (tmp_path / "cache").exists()


def test_an_empty_and_a_damaged_store(oncoseg, tmp_path):
    empty = oncoseg("list")
    assert (empty.returncode, empty.stdout) == (0, "No adapter was pulled. `oncoseg adapters pull NAME` fetches one.\n")
    write(tmp_path / "cache" / "adapters" / "lab--a", {"pulled.json": b"{", **adapter_files()})
    origin = {"repository": "lab/b", "revision": "0" * 40}
    write(tmp_path / "cache" / "adapters" / "lab--b", {"pulled.json": json.dumps(origin).encode()})
    listed = oncoseg("list")
    assert listed.returncode == 1
    assert "pulled.json is damaged; pull it again" in listed.stdout
    assert "lab/b: " in listed.stdout
    assert "oncoseg.json: No such file" in listed.stdout


def test_a_hub_that_is_not_there_is_one_line(oncoseg, tmp_path):
    write(tmp_path / "adapter", adapter_files())
    with socket.socket() as closed, socket.socket() as silent:
        for each in (closed, silent):
            each.bind(("127.0.0.1", 0))
        silent.listen()
        for each in (closed, silent):
            endpoint = f"http://127.0.0.1:{each.getsockname()[1]}"
            for command in (("pull", "lab/paper"), ("push", "adapter", "lab/paper")):
                done = oncoseg(*command, HF_ENDPOINT=endpoint, HF_TOKEN=WRITER, NO_PROXY="127.0.0.1")
                assert done.returncode == 1
                assert f"{endpoint} cannot be reached; check the network" in done.stderr
                assert done.stderr.count("\n") == 1


def test_import_makes_an_adapter_of_pefts(oncoseg, tmp_path):
    import torch

    from oncoseg_core import ModelSpec, load_plugins
    from oncoseg_core.inference import ensure_torchvision_imports
    from oncoseg_lora import load_adapter, read_manifest

    ensure_torchvision_imports()
    from peft import LoraConfig, get_peft_model

    registry = load_plugins()
    model = get_peft_model(
        registry.build(ModelSpec, "litemedsam"), LoraConfig(r=2, lora_alpha=4, target_modules=["attn.qkv", "attn.proj"])
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    model.save_pretrained(tmp_path / "peft")
    done = oncoseg("import", "peft", "ours", "--model", "litemedsam", "--modality", "ct")
    assert (done.returncode, done.stderr) == (0, "")
    assert "rank 2, alpha 4, policy lora" in done.stdout
    assert "data, splits and scores are not known" in done.stdout
    ours = load_adapter(registry.build(ModelSpec, "litemedsam"), tmp_path / "ours")
    pixels = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        expected = model.base_model.model.eval().encode_image(pixels)
        torch.testing.assert_close(ours.eval().encode_image(pixels), expected)
    assert set(read_manifest(tmp_path / "ours").paths) == {"ct"}

    for arguments, message in (
        (("--model", "litemedsam", "--modality", "ctt"), "ctt"),
        (("--model", "sam3-tiny", "--modality", "ct"), "layers is one of the model"),
    ):
        refused = oncoseg("import", "peft", "other", *arguments)
        assert refused.returncode in {1, 2}
        assert message in refused.stderr.splitlines()[-1]
        assert not (tmp_path / "other").exists()


def test_help_loads_no_hub(tmp_path):
    program = (
        "import sys; from typer.testing import CliRunner; from oncoseg_hub.command import app;"
        "[CliRunner().invoke(app, [*c, '--help']) for c in ([], ['pull'], ['push'], ['list'])];"
        "print([m for m in ('huggingface_hub', 'torch', 'httpx', 'requests') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_references(monkeypatch):
    assert parse_reference("lab/lungs") == (HubName(repository="lab/lungs"), None)
    assert parse_reference("lab/lungs/v2") == (HubName(repository="lab/lungs", subfolder="v2"), None)
    monkeypatch.setenv("ONCOSEG_ADAPTERS_REPO", "lab/paper")
    for alias in ("latest", "breast", "liver", "brain"):
        assert parse_reference(alias) == (HubName(repository="lab/paper", subfolder=alias), alias)
    monkeypatch.setenv("ONCOSEG_ADAPTERS_REPO", "paper")
    with pytest.raises(UsageError, match="ONCOSEG_ADAPTERS_REPO=paper: expected OWNER/REPOSITORY"):
        parse_reference("brain")


@pytest.mark.parametrize(
    "text", ["", "lab", "/", "lab/", "/etc/x", "../x/y", "lab/a/b/c", "https://hf.co/lab/x", "lab/a b", "lab/x\n"]
)
def test_references_that_are_none(text):
    with pytest.raises(
        UsageError, match="is no adapter's name; expected OWNER/REPOSITORY, OWNER/REPOSITORY/FOLDER, or one of latest"
    ):
        parse_reference(text)


def test_a_misspelt_alias_names_the_nearest():
    with pytest.raises(UsageError, match="livr: is no adapter's name; .*; did you mean 'liver'"):
        parse_reference("livr")


@pytest.mark.parametrize(("repository", "name"), [("lab", None), ("lab/x/y", None), ("lab/x", "a/b"), ("lab/x", "..")])
def test_targets_that_are_none(repository, name):
    with pytest.raises(UsageError, match="expected OWNER/REPOSITORY, and a plain name"):
        parse_target(repository, name)


@pytest.mark.parametrize(("options", "fit"), [([], "letterbox"), (["--fit", "stretch"], "stretch")])
@pytest.mark.filterwarnings("ignore:SAM3 is built with random weights")
def test_the_import_passes_on_how_images_filled_the_square(options, fit, monkeypatch, tmp_path):
    given = {}

    def imported(model, source, destination, **more):
        given.update(more)
        return Imported(LoraSettings(), 1, ())

    monkeypatch.setattr(oncoseg_lora, "import_adapter", imported, raising=False)
    arguments = ["import", str(tmp_path), str(tmp_path / "new"), "--model", "sam3-tiny", "--modality", "ct", *options]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert given["fit"] == fit
