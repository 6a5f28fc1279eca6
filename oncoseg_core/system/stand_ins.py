"""Small files that stand for large ones which were not fetched: Git-LFS and git-annex pointers."""

from __future__ import annotations

from pathlib import Path

_LFS = b"version https://git-lfs.github.com/spec/v1"
_ANNEX = ".git/annex/objects/"
_POINTER = b"/annex/objects/"
_LONGEST = 2048


def not_fetched(path: Path) -> str | None:
    """Why a file's content is not on this machine, and how to get it; None where it is, or nothing is known of it.

    A file that cannot be opened is left to whoever opens it.
    """
    try:
        if path.is_symlink() and not path.exists():
            annexed = _ANNEX in path.readlink().as_posix()
            return _annex(path) if annexed else "is a link to a file that does not exist"
        if not path.is_file():  # a pipe would be waited for
            return None
        with path.open("rb") as stream:
            start = stream.read(_LONGEST)
    except OSError:
        return None
    if start.startswith(_LFS):
        pull = f"git lfs pull --include '*{path.name}'"
        return f"is a Git-LFS pointer, not the file itself: run {pull} in its repository, or download the file"
    return _annex(path) if start.startswith(_POINTER) and len(start) < _LONGEST else None


def _annex(path: Path) -> str:
    return (
        f"is a git-annex pointer, not the file itself: run 'git annex get {path.name}' (or 'datalad get') in its folder"
    )
