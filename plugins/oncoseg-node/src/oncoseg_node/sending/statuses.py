"""What a status of DIMSE means (PS3.7, annex C; PS3.4, B.2.3, C.4 and J.3), and what to do."""

from __future__ import annotations

from pydicom.dataset import Dataset

_MEANINGS = {
    0x0105: "it does not know the attribute",
    0x0106: "an attribute's value is invalid to it",
    0x0110: "processing failed; look into its log",
    0x0111: "it has that instance already",
    0x0112: "it does not have that instance",
    0x0117: "it calls the UID invalid",
    0x0118: "it does not know that kind of object",
    0x0119: "the class of the object differs there",
    0x0122: "it does not take that kind of object; configure it there, or leave it out of `formats`",
    0x0124: "this node is not authorised; allow its AE title and address there",
    0x0131: "it had that transaction before",
    0x0210: "it had that message before",
    0x0211: "it does not know that operation",
    0x0212: "it does not understand the request",
    0x0213: "it is out of resources; free some there",
}
_RANGES = (
    (0xA700, 0xA7FF, "it is out of resources; free some there"),
    (0xA900, 0xA9FF, "the object does not fit its kind to it; look into its log"),
    (0xC000, 0xCFFF, "it does not understand the object; look into its log"),
)
_WARNINGS = {
    0xB000: "it changed elements of the object",
    0xB006: "it dropped elements of the object",
    0xB007: "it says that the object does not fit its kind",
}


def is_success(status: int) -> bool:
    """Whether a C-STORE of that status is stored, with or without a warning (PS3.4, table B.2-1)."""
    return status == 0 or is_warning(status)


def is_warning(status: int) -> bool:
    """Whether it is stored with a remark."""
    return 0xB000 <= status <= 0xBFFF or status in {0x0001, 0x0107, 0x0116}


def status_of(answer: Dataset) -> int | None:
    """The status of an answer; None where there was none: pynetdicom gives an empty one then."""
    return int(answer.Status) if "Status" in answer else None


def meaning(status: int) -> str:
    """A status in words, with its number."""
    words = _MEANINGS.get(status) or _WARNINGS.get(status)
    words = words or next((said for low, high, said in _RANGES if low <= status <= high), "")
    return f"{words} (status {status:#06x})" if words else f"status {status:#06x}"
