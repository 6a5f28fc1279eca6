"""What data says is printed as it is: no markup, no control character. Read from the sources of all distributions."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in (ROOT / "oncoseg_core", ROOT / "benchmarks" / "src", *(ROOT / "plugins").glob("*/src"))
    for path in folder.rglob("*.py")
    if not {"templates", "broken"} & {*path.relative_to(folder).parts} or path.name == "__main__.py"
)

PRINTS = {
    "oncoseg_core/cli/output.py",  # the functions themselves
    "oncoseg_core/cli/command_line.py",  # errors, made printable there
    "benchmarks/src/oncoseg_benchmarks/measurements_page.py",  # names of our own scripts
}
RICH = {
    *("Console", "Group", "Live", "SIMPLE_HEAD", "Table", "Text", "Progress", "TaskID"),
    *("BarColumn", "DownloadColumn", "MofNCompleteColumn", "TaskProgressColumn", "TextColumn"),
    *("TimeElapsedColumn", "TimeRemainingColumn"),
}
"""What is used of rich. Whatever else reads markup in texts (panels, prompts, rules) needs a rule here first."""

HASHED = {
    "plugins/oncoseg-trainer/src/oncoseg_trainer/data/scored_cases.py",
    "plugins/oncoseg-trainer/src/oncoseg_trainer/loop/scoring_run.py",
    "plugins/oncoseg-store/src/oncoseg_store/one_case.py",
    "plugins/oncoseg-store/src/oncoseg_store/packed.py",
    "plugins/oncoseg-store/src/oncoseg_store/store.py",
    "plugins/oncoseg-atlas/src/oncoseg_atlas/cache.py",
    "plugins/oncoseg-client/src/oncoseg_client/voxels.py",
    "plugins/oncoseg-client/src/oncoseg_client/journal.py",
    "oncoseg_core/data/splits.py",
    "plugins/oncoseg-lora/src/oncoseg_lora/store.py",
    "oncoseg_core/path/normalization.py",
    "oncoseg_core/path/preprocess.py",
    "oncoseg_core/system/output.py",
    "oncoseg_core/system/randomness.py",
    "benchmarks/src/oncoseg_benchmarks/cases/case_selection.py",
    "benchmarks/src/oncoseg_benchmarks/cases/leaks.py",
    "plugins/oncoseg-dicom/src/oncoseg_dicom/series/decoding.py",
    "plugins/oncoseg-dicomweb/src/oncoseg_dicomweb/headers.py",
    "plugins/oncoseg-dicom/src/oncoseg_dicom/series/decoding_worker.py",
    "plugins/oncoseg-testing/src/oncoseg_testing/checks/normalizers.py",
    "plugins/oncoseg-testing/src/oncoseg_testing/checks/trackers.py",
    "plugins/oncoseg-trainer/src/oncoseg_trainer/chain/manifest.py",
    "plugins/oncoseg-trainer/src/oncoseg_trainer/checkpoints/checkpoint.py",
    "plugins/oncoseg-trainer/src/oncoseg_trainer/data/case_selection.py",
    "plugins/oncoseg-trainer/src/oncoseg_trainer/distributed/liveness.py",
}
"""Modules with a ``json.dumps`` whose text is hashed, compared or sent to a process of our own, and read by nobody else;
in ``headers.py``, one that refuses NaN, for which ``json_text`` steps in."""


def name_of(node):
    """``print`` of ``console.print``, ``Table`` of ``Table``."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_call(node, *names):
    return isinstance(node, ast.Call) and name_of(node.func) in names


def is_safe(node):
    """A text that cannot be taken for markup: ``cell(…)``, several of them, or a literal without a bracket."""
    if isinstance(node, ast.Starred):
        node = node.value
        if is_call(node, "map"):
            return isinstance(node.args[0], ast.Name) and node.args[0].id == "cell"
        if isinstance(node, ast.GeneratorExp):
            parts = [node.elt.body, node.elt.orelse] if isinstance(node.elt, ast.IfExp) else [node.elt]
            return any(is_call(part, "cell") for part in parts)
        return False
    if isinstance(node, ast.Constant):
        return node.value is None or (isinstance(node.value, str) and "[" not in node.value)
    return is_call(node, "cell")


def keyword(call, name):
    return next((one.value for one in call.keywords if one.arg == name), None)


def markup(tree):
    """Lines where a table, a title or a bar of rich gets a text that may hold markup."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        what = name_of(node.func)
        if what in {"Table", "add_row", "add_column"}:
            texts = [*node.args, *(keyword(node, key) for key in ("title", "caption", "header", "footer"))]
            yield from (node.lineno for text in texts if text is not None and not is_safe(text))
        elif what == "print" and isinstance(node.func, ast.Attribute):
            fine = all(is_call(one, "cell", "table") or isinstance(one, ast.Name) for one in node.args)
            if not fine or len(node.args) != 1:
                yield node.lineno
        elif (
            (what == "add_task" and not (isinstance(node.args[0], ast.Constant) or is_call(node.args[0], "printable")))
            or (what == "update" and (told := keyword(node, "description")) and not is_call(told, "printable"))
            or (what == "TextColumn" and getattr(keyword(node, "markup"), "value", True))
        ):
            yield node.lineno


def bare_prints(tree):
    """Lines that print without escaping: ``print(…)``, ``typer.echo(…)``, ``sys.stdout.write(…)``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        text = ast.unparse(node.func)
        if text in {"print", "sys.stdout.write"} or name_of(node.func) in {"echo", "secho"}:
            yield node.lineno


def other_rich(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (node.lineno for alias in node.names if alias.name.partition(".")[0] == "rich")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rich":
            yield from (node.lineno for alias in node.names if alias.name not in RICH)


def json_dumps(tree):
    return [n.lineno for n in ast.walk(tree) if is_call(n, "dumps", "dump") and ast.unparse(n.func).startswith("json.")]


def problems(check, allowed=()):
    found = {}
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        lines = list(check(ast.parse(path.read_text(), str(path))))
        if lines and name not in allowed:
            found[name] = lines
    return found


@pytest.mark.parametrize(
    "line",
    [
        "table.add_row(name)",
        "table.add_row('case', row['case'])",
        "table.add_row(*names)",
        "table.add_row(*(str(one) for one in row))",
        "table.add_row(*map(str, row))",
        "table.add_column(heading, no_wrap=True)",
        "Table(title=f'{name}: scores')",
        "Table('[red]case')",
        "console.print(f'failed: {name}')",
        "console.print('failed', name)",
        "bars.add_task(what, total=3)",
        "bars.update(task, description=what)",
        "TextColumn('{task.description}')",
    ],
)
def test_markup_that_comes_from_data_is_seen(line):
    assert list(markup(ast.parse(line))) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "table.add_row(cell(name), 'damaged')",
        "table.add_row(*map(cell, row))",
        "table.add_row(*(cell(one) for one in row))",
        "Table('case', 'target', title=cell(name), box=None)",
        "console.print(table)",
        "self.console.print(cell(line), soft_wrap=True)",
        "bars.add_task(printable(what), total=3)",
        "print('an own function called print is another matter')",
        "TextColumn('{task.description}', markup=False)",
    ],
)
def test_what_cannot_be_markup_passes(line):
    assert list(markup(ast.parse(line))) == []


def test_no_table_title_or_bar_reads_markup_from_data():
    assert problems(markup) == {}


def test_every_line_is_printed_by_the_one_function_that_escapes():
    assert problems(bare_prints, PRINTS) == {}


def test_nothing_else_of_rich_is_used():
    assert problems(other_rich) == {}


def test_json_is_written_by_the_one_function_without_nan():
    assert problems(json_dumps).keys() <= HASHED
