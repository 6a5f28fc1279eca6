"""Python in the READMEs and the documentation: every import resolves, and every block that can run does."""

import ast
import builtins
import importlib
import importlib.util
import logging
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
TEMPLATES = "oncoseg-testing/src/oncoseg_testing/templates/*/README.md"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "plugins").glob("*/README.md")),
    *sorted((ROOT / "plugins").glob(TEMPLATES)),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^( *)```(?:python|py)\b([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
OURS = {"oncoseg_core", "oncoseg_benchmarks", *(path.name.replace("-", "_") for path in (ROOT / "plugins").iterdir())}


def snippets():
    """``(page, number on the page, title, code)``; the signatures of hooks are no programs."""
    for page in PAGES:
        for number, (_, title, text) in enumerate(BLOCK.findall(page.read_text())):
            code = textwrap.dedent(text)
            if not code.startswith("def oncoseg_"):
                yield str(page.relative_to(ROOT)), number, title.strip(), code


ALL = list(snippets())

ELSEWHERE = {
    "docs/tutorial/your-own-modality.md": "parts of files that tests/test_tutorial.py installs",
}
NOT_RUN = {
    "docs/adapters.md": "needs a pulled adapter",
    "docs/how-to/segment.md": "needs a DICOM series and a file of prompts",
    "docs/prepared-store.md": "needs a prepared store",
    "plugins/oncoseg-datasets/README.md": "fetches the sample scans",
    "plugins/oncoseg-litemedsam/README.md": "fetches weights",
    "plugins/oncoseg-sam3/README.md": "needs Meta's weights and an adapter",
}
GIVEN = {
    "plugins/oncoseg-modalities/README.md": lambda: {"voxels": np.random.default_rng(0).normal(size=(1, 20, 8, 8))},
    "plugins/oncoseg-prompts/README.md": lambda: {"mask": square()},
    "plugins/oncoseg-metrics/README.md": lambda: {"prediction": square()[None], "reference": square()[None]},
    "plugins/oncoseg-losses/README.md": lambda: logits_and_target(),
}
"""What the text around a block calls its inputs."""
EXPLAINED = {"plugins/oncoseg-litemedsam/README.md": {"pixels"}}
"""The same for blocks that are not run."""


def square():
    mask = np.zeros((16, 16), dtype=bool)
    mask[4:9, 5:12] = True
    return mask


def logits_and_target():
    import torch

    target = torch.from_numpy(square()[None].astype(np.float32))
    return {"logits": torch.zeros_like(target, requires_grad=True), "target": target}


def runs(snippet):
    """Blocks with a title are files of plugins, which tests/test_docs.py installs."""
    page, _, title, _ = snippet
    return page not in {*ELSEWHERE, *NOT_RUN} and not title


def imports(code):
    """``(module, name)`` of every import, at any depth; the name is None for a whole module."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


def unresolved(code):
    """One line for each import that does not work; the example packages of the documentation are left out."""
    for module, name in imports(code):
        package = module.partition(".")[0]
        if package.startswith("oncoseg_") and package not in OURS:
            continue
        if package not in OURS:
            if importlib.util.find_spec(package) is None:
                yield f"no library {package}"
            continue
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            yield f"{module}: {error}"
            continue
        if name is None or hasattr(found, name):
            continue
        if not hasattr(found, "__path__") or importlib.util.find_spec(f"{module}.{name}") is None:
            yield f"{module} has no {name}"


def undefined(code):
    """Names that a block uses and nowhere defines."""
    nodes = list(ast.walk(ast.parse(code)))
    bound = {alias.asname or alias.name.partition(".")[0] for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}  # fmt: skip
    bound |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.name for node in nodes if isinstance(node, ast.ExceptHandler)}
    return sorted({node.id for node in nodes if isinstance(node, ast.Name)} - bound - set(dir(builtins)))


def identify(snippet):
    return f"{snippet[0]}:{snippet[1]}"


CHECKED = [snippet for snippet in ALL if snippet[0] not in ELSEWHERE]


@pytest.mark.parametrize("snippet", CHECKED, ids=identify)
def test_every_import_resolves(snippet):
    assert list(unresolved(snippet[3])) == []


@pytest.mark.parametrize("snippet", CHECKED, ids=identify)
def test_every_name_is_defined(snippet):
    page, _, _, code = snippet
    given = set(GIVEN[page]()) if page in GIVEN else EXPLAINED.get(page, set())
    assert [name for name in undefined(code) if name not in given] == []


@pytest.mark.parametrize("snippet", [snippet for snippet in ALL if runs(snippet)], ids=identify)
def test_it_runs(snippet, tmp_path, monkeypatch):
    page, _, _, code = snippet
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)  # would outlive the test
    given = GIVEN[page]() if page in GIVEN else {}
    exec(compile(code, page, "exec"), {"__name__": "snippet", **given})


def test_the_exceptions_are_pages_with_python():
    pages = {snippet[0] for snippet in ALL}
    assert set(ELSEWHERE) | set(NOT_RUN) | set(GIVEN) <= pages
    assert not set(GIVEN) & set(NOT_RUN)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from oncoseg_core import Nothing", ["oncoseg_core has no Nothing"]),
        ("import oncoseg_core.nowhere", ["oncoseg_core.nowhere: No module named 'oncoseg_core.nowhere'"]),
        ("def f():\n    from oncoseg_core.imaging import read_images", ["oncoseg_core.imaging has no read_images"]),
        ("from oncoseg_core.contract.records import Nothing", ["oncoseg_core.contract.records has no Nothing"]),
        ("import nolibrary", ["no library nolibrary"]),
        ("import oncoseg_thermography, numpy\nfrom oncoseg_core import imaging, Volume", []),
    ],
)
def test_a_wrong_import_is_reported(code, expected):
    assert list(unresolved(code)) == expected
