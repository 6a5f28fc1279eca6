"""Building targets, and the spellings that several records share.

A target's name is the concept in words, ``tumour`` spelled as in the rest of OncoSeg; other spellings are synonyms.
"""

from __future__ import annotations

from oncoseg_core import Target

LIVER_TUMOUR = ("liver tumor",)


def target(name: str, *labels: int, also: tuple[str, ...] = ()) -> Target:
    """A target and its label values; ``also`` are its synonyms."""
    return Target(name=name, labels=frozenset(labels), synonyms=also)


def lesion(name: str, *labels: int, also: tuple[str, ...] = ()) -> Target:
    """A target each connected component of which is a lesion by itself.

    Not the parts that lesions are made of, such as an enhancing rim: they fall into pieces that nobody points at.
    """
    return Target(name=name, labels=frozenset(labels), synonyms=also, kind="lesion")
