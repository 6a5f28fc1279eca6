"""How a check says what it found: a rule, the example that broke it, and what came out instead."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import FlakyFailure
from hypothesis.strategies import SearchStrategy

from oncoseg_core import OncoSegError

Example = TypeVar("Example")

SHOWN_VALUES = 24
"""Arrays of at most so many values are shown whole."""


class BrokenRuleError(AssertionError):
    """A component broke a rule of the contract: ``rule`` in words, the ``example``, and what was ``found``."""

    def __init__(self, rule: str, example: str, found: str) -> None:
        super().__init__(f"rule: {rule}; example: {example}; found: {found}")
        self.rule, self.example, self.found = rule, example, found


@contextlib.contextmanager
def rule(text: str, example: str) -> Iterator[None]:
    """Everything within must hold: an error of whatever kind becomes the rule's :class:`BrokenRuleError`."""
    try:
        yield
    except AssertionError as found:
        raise BrokenRuleError(text, example, str(found)) from None
    except Exception as error:
        raise BrokenRuleError(text, example, f"{type(error).__name__}: {error}") from error


def require(holds: bool, found: str) -> None:
    """Break the surrounding :func:`rule` unless ``holds``.

    Raises:
        AssertionError: saying what was found.
    """
    if not holds:
        raise AssertionError(found)


def refuses(error: type[OncoSegError], action: Callable[[], Any]) -> None:
    """Break the surrounding :func:`rule` unless ``action`` raises that error.

    Raises:
        AssertionError: it raised nothing, or something else.
    """
    try:
        action()
    except error:
        return
    except Exception as other:
        raise AssertionError(f"{type(other).__name__}: {other}; expected {error.__name__}") from other
    raise AssertionError(f"no error; expected {error.__name__}")


def for_all(examples: SearchStrategy[Example], check: Callable[[Example], None], count: int) -> None:
    """Run ``check`` on ``count`` examples, the same in every run, and report the simplest one that fails.

    Raises:
        BrokenRuleError: from ``check``.
    """

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(examples)
    def run(example: Example) -> None:
        check(example)

    try:
        run()
    except FlakyFailure as error:  # failed once, and not again when it was to be simplified
        once = error.exceptions[0]
        if not isinstance(once, BrokenRuleError):
            raise
        raise BrokenRuleError(once.rule, once.example, f"{once.found} (and not every time)") from error


def show(array: np.ndarray[Any, Any]) -> str:
    """An array in few words: dtype, shape, whether it is contiguous, and its values or their range."""
    if array.size <= SHOWN_VALUES:
        values = str(array.tolist())
    elif array.dtype == bool:
        values = f"{np.count_nonzero(array)} of {array.size} true"
    else:
        values = f"from {array.min()} to {array.max()}"
    layout = "" if array.flags.c_contiguous else ", not contiguous"
    return f"{array.dtype.str} {array.shape}{layout}: {values}"


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A view that cannot be written to, as slices of the prepared store are."""
    view = array.view()
    view.setflags(write=False)
    return view
