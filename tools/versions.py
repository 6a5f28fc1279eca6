"""Compare or set the version of all distributions: ``python tools/versions.py [NEW_VERSION]``.

``oncoseg_core/__init__.py`` holds the version. All distributions are released together, so each ``pyproject.toml`` has
the same number, and each dependency on a distribution of ours, also in templates and documentation, is bound to that
minor version.
"""

import argparse
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "oncoseg_core" / "__init__.py"
CORE_VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
PROJECT_VERSION = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)
BOUND = re.compile(r"(?<=\boncoseg-)([a-z0-9]+(?:\[[a-z]+\])?)>=(\d+\.\d+),<(\d+\.\d+)")


def projects() -> list[Path]:
    """The ``pyproject.toml`` of every distribution but the core, which reads its version from the package."""
    return sorted([ROOT / "benchmarks" / "pyproject.toml", *(ROOT / "plugins").glob("*/pyproject.toml")])


def bounded_files() -> list[Path]:
    """Files that write down a bound on a distribution of ours."""
    patterns = (
        "plugins/*/src/*/templates/*/pyproject.toml",
        "docs/tutorial/*/pyproject.toml",
        "docs/**/*.md",
        "plugins/*/README.md",
    )
    return [ROOT / "pyproject.toml", *projects(), *sorted(path for pattern in patterns for path in ROOT.glob(pattern))]


def core_version() -> str:
    """The version that the core's package declares."""
    (version,) = CORE_VERSION.findall(CORE.read_text())
    return str(version)


def bounds(version: str) -> tuple[str, str]:
    """The lower and the upper bound that go with a version: 0.1.2 gives 0.1 and 0.2."""
    major, minor, *_ = version.split(".")
    return f"{major}.{minor}", f"{major}.{int(minor) + 1}"


def differences(version: str) -> list[str]:
    """One line for each place that has another version or bound."""
    lines = []
    for path in projects():
        found = PROJECT_VERSION.findall(path.read_text())
        if found != [version]:
            lines.append(f"{path.relative_to(ROOT)}: version {', '.join(found) or 'missing'}, expected {version}")
    for path in bounded_files():
        for name, *found in BOUND.findall(path.read_text()):
            if tuple(found) != bounds(version):
                expected = ",<".join(bounds(version))
                lines.append(f"{path.relative_to(ROOT)}: oncoseg-{name}>={found[0]},<{found[1]}, expected >={expected}")
    return lines


def set_version(version: str) -> None:
    """Write a version and its bounds to every place."""
    CORE.write_text(CORE_VERSION.sub(f'__version__ = "{version}"', CORE.read_text()))
    for path in projects():
        path.write_text(PROJECT_VERSION.sub(f'version = "{version}"', path.read_text()))
    lower, upper = bounds(version)
    for path in bounded_files():
        path.write_text(BOUND.sub(rf"\1>={lower},<{upper}", path.read_text()))


def main() -> None:
    """Set the version that is given, then compare all places."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version", nargs="?", help="set this version everywhere, such as 0.2.0")
    version = parser.parse_args().version
    if version:
        if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
            parser.error(f"{version!r} is not a version such as 0.2.0 or 0.2.0rc1")
        set_version(version)
    found = differences(core_version())
    if found:
        raise SystemExit("\n".join(found))
    print(f"all distributions: {core_version()}")


if __name__ == "__main__":
    main()
