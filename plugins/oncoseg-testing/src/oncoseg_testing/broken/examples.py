"""How a broken component is written down, and what its check says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from oncoseg_testing.checks.rules import BrokenRuleError

Broken = TypeVar("Broken")


@dataclass(frozen=True)
class BrokenExample:
    """A component that breaks one rule, in whose words ``rule`` is found."""

    kind: str
    name: str
    rule: str
    check: Callable[[], None]

    def caught(self) -> BrokenRuleError | None:
        """What the check found; None if it found nothing, or that another rule is broken."""
        try:
            self.check()
        except BrokenRuleError as found:
            return found if self.rule in found.rule else None
        return None


@dataclass
class BrokenExamples:
    """The broken components of one kind; ``check`` is called with one of them."""

    kind: str
    check: Callable[..., None]
    found: list[BrokenExample] = field(default_factory=list)

    def breaks(self, rule: str, **arguments: Any) -> Callable[[Broken], Broken]:
        """Say of the class below which rule it breaks, and with which arguments that is checked."""

        def note(broken: Broken) -> Broken:
            name = getattr(broken, "__name__", str(broken))
            self.found.append(BrokenExample(self.kind, name, rule, partial(self.check, broken, **arguments)))
            return broken

        return note
