"""nnU-Net's list of folds, ``splits_final.json``, as official sides."""

from __future__ import annotations

import json
from pathlib import Path

from oncoseg_core import DataError, Split


def fold_sides(path: Path, fold: int | None) -> dict[str, Split]:
    """The side of each case in one fold: those under ``val`` validate, those under ``train`` train; {} without a fold.

    Raises:
        DataError: the file is missing, is no list of folds, has no such fold, or puts a case on both sides of it.
    """
    if fold is None:
        return {}
    try:
        folds = json.loads(path.read_text(encoding="utf-8"))
        train, validation = ([str(name) for name in folds[fold][side]] for side in ("train", "val"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; fold {fold} needs it") from error
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{path}: has no fold {fold} with train and val; expected nnU-Net's list of folds, counted from 0"
        ) from error
    both = sorted(set(train) & set(validation))
    if both:
        raise DataError(f"{path}: fold {fold} has {both[0]!r} in both train and val ({len(both)} such cases)")
    sides: dict[str, Split] = dict.fromkeys(train, "train")
    return sides | dict.fromkeys(validation, "validation")
