"""What may be said of a file whose name or folder may identify a patient."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_UID = re.compile(r"\d+(?:\.\d+){4,}")
"""Five numbers or more joined by dots: a DICOM UID, which leads to a patient in any archive."""

_SHORTEST_SECRET = 3


def display_path(path: Path | str, secrets: Iterable[str] = ()) -> str:
    """A path or text for a message, log or manifest: UIDs cut to their last four digits, secrets to ``***``.

    Args:
        path: what would be told.
        secrets: a patient's name, identifier or birth date, as far as they are known; their parts count too (names are
            joined by ``^``, blanks, commas or hyphens), but not those of fewer than three characters, nor within words.
    """
    text = _UID.sub(lambda uid: f"…{uid.group()[-4:]}", str(path))
    parts = {part for secret in secrets for part in (secret, *re.split(r"[\^=\s,_-]+", secret))}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SHORTEST_SECRET:
            text = re.sub(rf"(?<![^\W_]){re.escape(part)}(?![^\W_])", "***", text, flags=re.IGNORECASE)
    return text
