"""The torchvision guard, each case in a fresh process because imports happen once."""

from __future__ import annotations

import subprocess
import sys

import pytest

DECLARED = "import oncoseg_core.inference.torchvision_guard as guard; print('declared', len(guard._declared))"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def plain_import_works() -> bool:
    """Whether this machine needs the guard at all."""
    plain = run("import torchvision")
    assert plain.returncode == 0 or "operator torchvision::nms does not exist" in plain.stderr
    return plain.returncode == 0


def test_mends_a_failing_import_and_leaves_a_working_one_alone(plain_import_works):
    guarded = run(
        "from oncoseg_core.inference.torchvision_guard import ensure_torchvision_imports as ensure\n"
        "ensure(); ensure()\n"
        "import timm, torchvision.transforms\n"
        f"{DECLARED}"
    )
    assert guarded.returncode == 0, guarded.stderr
    assert f"declared {0 if plain_import_works else 1}" in guarded.stdout


def test_mends_after_a_failed_import(plain_import_works):
    guarded = run(
        "try:\n import torchvision\nexcept RuntimeError: print('failed first')\n"
        "from oncoseg_core.inference.torchvision_guard import ensure_torchvision_imports as ensure\n"
        "ensure()\nimport torchvision, peft\n"
    )
    assert guarded.returncode == 0, guarded.stderr
    assert ("failed first" in guarded.stdout) is not plain_import_works


def test_works_beside_someone_elses_declaration(plain_import_works):
    """A library that solved half of the problem itself must not make ours fail."""
    if plain_import_works:
        setup = ""
    else:
        setup = (
            "import torch; theirs = torch.library.Library('torchvision', 'DEF')\n"
            "theirs.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        )
    guarded = run(
        f"{setup}from oncoseg_core.inference.torchvision_guard import ensure_torchvision_imports as ensure\n"
        "ensure()\nimport torchvision"
    )
    assert guarded.returncode == 0, guarded.stderr


def test_many_threads_declare_once(plain_import_works):
    guarded = run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from oncoseg_core.inference.torchvision_guard import ensure_torchvision_imports as ensure\n"
        "with ThreadPoolExecutor(8) as pool: print([f.result() for f in [pool.submit(ensure) for _ in range(16)]])\n"
        f"{DECLARED}"
    )
    assert guarded.returncode == 0, guarded.stderr
    assert f"declared {0 if plain_import_works else 1}" in guarded.stdout


def test_another_failure_of_torchvision_is_passed_on(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('compiled for another torch')")
    guarded = run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from oncoseg_core.inference.torchvision_guard import ensure_torchvision_imports as ensure\n"
        f"try:\n ensure()\nexcept RuntimeError as error: print(error)\n{DECLARED}"
    )
    assert "compiled for another torch" in guarded.stdout
    assert "declared 0" in guarded.stdout


def test_without_torchvision_nothing_happens_and_torch_is_not_imported():
    guarded = run(
        "import sys, importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'torchvision' else find(name)\n"
        "from oncoseg_core.inference.torchvision_guard import ensure_torchvision_imports as ensure\n"
        "ensure(); print('torch' in sys.modules, 'torchvision' in sys.modules)"
    )
    assert guarded.stdout.strip() == "False False", guarded.stderr
