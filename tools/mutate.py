"""Change one operator, comparison or number of a module at a time, and see whether its tests notice.

    python tools/mutate.py oncoseg_core/contract/geometry.py tests/test_geometry.py tests/test_rounding.py

Prints each change that no test noticed, and how many were noticed. Nothing on the disk is touched: each changed module
is imported in a process of its own. Run by hand; a survivor is a test that is missing, or a change without an effect.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import runpy
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,), ast.Pow: (ast.Mult,), ast.MatMult: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,), ast.And: (ast.Or,), ast.Or: (ast.And,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
    ast.USub: (ast.UAdd,), ast.Not: (ast.UAdd,),
}  # fmt: skip

_PAIRS = (("min", "max"), ("minimum", "maximum"), ("any", "all"), ("argmin", "argmax"), ("floor", "ceil"))
NAMES = dict(_PAIRS) | {other: one for one, other in _PAIRS}


class Change(NamedTuple):
    """A new value for one field of a node, or for one item of it."""

    field: str
    item: int | None
    value: Any

    def make(self, node: ast.AST) -> None:
        """In a copy of the tree."""
        if self.item is None:
            setattr(node, self.field, self.value)
        else:
            getattr(node, self.field)[self.item] = self.value


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, what was changed to what, and the changed source, of every change to a module."""
    tree = ast.parse(source)
    for node in ast.walk(tree):  # what only readers and type checkers see
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object", ast.Load())
        if isinstance(node, (ast.arg, ast.FunctionDef)):
            setattr(node, "annotation" if isinstance(node, ast.arg) else "returns", None)
    for at, node in enumerate(ast.walk(tree)):
        for change in changes(node):
            changed = copy.deepcopy(tree)
            copied = list(ast.walk(changed))[at]
            change.make(copied)
            text = ast.unparse(ast.fix_missing_locations(changed))
            yield (
                getattr(node, "lineno", 0),
                f"{ast.unparse(node)} → {ast.unparse(copied)}".replace("\n", " ")[:150],
                text,
            )


def changes(node: ast.AST) -> Iterator[Change]:
    """Each change to one node."""
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.AugAssign)):
        yield from (Change("op", None, other()) for other in OPERATORS.get(type(node.op), ()))
    elif isinstance(node, ast.Compare):
        for item, operator in enumerate(node.ops):
            yield from (Change("ops", item, other()) for other in OPERATORS.get(type(operator), ()))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield Change("value", None, not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield Change("value", None, node.value + 1)
        if isinstance(node.value, float) and node.value:
            yield Change("value", None, node.value * 10)
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield Change("id", None, NAMES[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield Change("attr", None, NAMES[node.attr])
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield from (Change("test", None, ast.Constant(value)) for value in (True, False))


class ChangedModule(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Gives a changed source to whoever imports a module; no bytecode is read or written."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Of that module only."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_filename(self, _fullname: str) -> str:
        """Of the module as it is on the disk."""
        return str(self.path)

    def get_data(self, _path: str | bytes) -> bytes:
        """The changed source."""
        return self.source.encode()

    def path_stats(self, _path: str) -> dict[str, Any]:
        """None: there is no bytecode of it."""
        raise OSError


def module_name(path: Path) -> str:
    """The name by which a file is imported: from ``src`` on, or from the first folder that is a package."""
    parts = list(path.with_suffix("").parts)
    start = parts.index("src") + 1 if "src" in parts else 0
    while not (Path(*parts[: start + 1]) / "__init__.py").exists():
        start += 1
    return ".".join(parts[start:])


def killed(name: str, path: Path, source: str, tests: list[str], seconds: float) -> bool:
    """Whether the tests fail, or do not end, with a changed module."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        import pytest

        sys.meta_path.insert(0, ChangedModule(name, path.resolve(), source))
        try:
            os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])))
        finally:
            os._exit(99)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _load_libraries(package: str, tests: list[str]) -> None:
    """Import what tests import, once for all processes, but for the package itself."""
    for test in tests:
        runpy.run_path(test)
    for module in [one for one in sys.modules if one.partition(".")[0] == package]:
        del sys.modules[module]


def main() -> None:
    """As the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--seconds", type=float, default=120, help="longest that the tests may take with one change")
    parser.add_argument("--lines", default="1-999999", help="only changes to these lines, such as 40-90")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th change")
    parser.add_argument("--first", type=int, default=0, help="of those, begin with this one")
    arguments = parser.parse_args()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import hypothesis

    # The same few examples for each change: what they notice, more would notice too.
    hypothesis.settings.register_profile("few", max_examples=15, derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("few")
    name, source = module_name(arguments.module), arguments.module.read_text()
    _load_libraries(name.partition(".")[0], arguments.tests)
    if killed(name, arguments.module, ast.unparse(ast.parse(source)), arguments.tests, arguments.seconds):
        raise SystemExit("the tests fail without any change")
    low, high = map(int, arguments.lines.split("-"))
    chosen = [one for one in mutants(source) if low <= one[0] <= high][arguments.first :: arguments.every]
    survived = 0
    for number, (line, what, changed) in enumerate(chosen, start=1):
        if not killed(name, arguments.module, changed, arguments.tests, arguments.seconds):
            survived += 1
            print(f"{arguments.module}:{line}: {what}", flush=True)
        print(f"\r{number} of {len(chosen)}, {survived} not noticed", end="", file=sys.stderr, flush=True)
    print(f"\n{arguments.module}: {len(chosen) - survived} of {len(chosen)} changes noticed, {survived} not")


if __name__ == "__main__":
    main()
