"""Off-peak hours."""

from __future__ import annotations

from datetime import datetime, time


def is_off_peak(hours: tuple[str, str], now: datetime) -> bool:
    """Whether ``now`` is within hours ``HH:MM``, which may go over midnight; the same twice is the whole day."""
    begin, end = (time.fromisoformat(hour) for hour in hours)
    at = now.time()
    return begin <= at < end if begin < end else at >= begin or at < end
