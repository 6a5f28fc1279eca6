"""The border to the components: their answers are checked and their errors name them, where they are called.

The interfaces mark their methods with ``@answers(check)``. A component that the registry built carries its
:class:`Provider`; one that a program builds itself, in a test say, is called as it is.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeAlias, TypeVar

from oncoseg_core.contract.errors import OncoSegError, PluginError, PromptError

Method = TypeVar("Method", bound=Callable[..., Any])

Check: TypeAlias = Callable[[Any, Mapping[str, Any]], str]
"""What is wrong with an answer to these arguments, as ``expected ..., got ...``; empty where it is right."""

CONTACTS = ("bug tracker", "issues", "bug reports", "homepage", "source", "repository")
"""Labels of a distribution's URLs that say where its authors are reached, best first."""


@dataclass(frozen=True)
class Provider:
    """Who answers for a component: its kind and name, and the distribution it came with."""

    kind: str
    name: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.distribution} {self.version}"

    def contact(self) -> str:
        """The distribution's authors, with an address where its metadata has one."""
        try:
            metadata = importlib.metadata.metadata(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return f"the authors of {self.distribution}"
        urls = dict(reversed(url.split(", ", 1)) for url in metadata.get_all("Project-URL", []) if ", " in url)
        labels = {label.lower(): url for url, label in urls.items()}
        known = [labels[label] for label in CONTACTS if label in labels]
        address = next(iter([*known, *metadata.get_all("Author-email", [])]), None)
        return f"the authors of {self.distribution}" + (f" ({address})" if address else "")


@contextmanager
def naming(provider: Provider, call: str, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Have an error that is none of OncoSeg's own name the component; running out of memory is nobody's fault.

    Errors of the ``passing`` types are left as they are.

    Raises:
        PluginError: saying who raised what, in which call, and whom to tell.
    """
    try:
        yield
    except Exception as error:
        # OutOfMemoryError is torch's, which is not imported for it.
        if isinstance(error, (OncoSegError, MemoryError, *passing)) or type(error).__name__ == "OutOfMemoryError":
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        raise PluginError(
            f"{provider}: {call} raised {reason}; tell {provider.contact()} (--debug shows where)"
        ) from error


def answers(check: Check | None = None) -> Callable[[Method], Method]:
    """Mark an interface's method: a component's answer to it is checked, and an error in it names the component."""

    def mark(method: Method) -> Method:
        method.checked_by = check  # type: ignore[attr-defined]
        return method

    return mark


def guard(component: type, base: type) -> None:
    """Put the border around the marked methods that a class derived from ``base`` brings, itself or by a mixin."""
    for name, interface in {
        name: member for parent in component.__mro__ for name, member in vars(parent).items() if _is_marked(member)
    }.items():
        owner = next(parent for parent in component.__mro__ if name in vars(parent))
        method = vars(owner)[name]
        concrete = isinstance(method, FunctionType) and not getattr(method, "__isabstractmethod__", False)
        if concrete and (owner is component or not issubclass(owner, base)):
            setattr(component, name, _guarded(method, name, interface))


def _is_marked(member: object) -> bool:
    return isinstance(member, FunctionType) and hasattr(member, "checked_by")


def _guarded(method: Callable[..., Any], name: str, interface: Any) -> Callable[..., Any]:
    check: Check | None = interface.checked_by
    signature = inspect.signature(interface)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        provider = self.__dict__.get("provider")
        # What a class asks of the one above it is its own affair: only the last word is an answer.
        if provider is None or getattr(type(self), name) is not call:
            return method(self, *args, **options)
        with naming(provider, name):
            answer = method(self, *args, **options)
            if isinstance(answer, Iterator):
                return _each(answer, provider, name, check)
            # A lazy answer works while it is looked at, and may fail then.
            wrong = check(answer, signature.bind(self, *args, **options).arguments) if check else ""
        _require(provider, name, wrong)
        return answer

    call.checked_by = check  # type: ignore[attr-defined]
    return call


def _each(items: Iterator[Any], provider: Provider, name: str, check: Check | None) -> Iterator[Any]:
    end = object()
    while True:
        with naming(provider, name):
            item = next(items, end)
        if item is end:
            return
        _require(provider, name, check(item, {}) if check else "")
        yield item


def _require(provider: Provider, name: str, wrong: str) -> None:
    if wrong:
        raise PluginError(f"{provider}: {name} gave a wrong answer: {wrong}; tell {provider.contact()}")


# The answers of each method.


def is_a(*types: type) -> Check:
    """Of one of these types."""
    names = " or ".join("None" if one is type(None) else one.__name__ for one in types)
    return lambda answer, _: "" if isinstance(answer, types) else f"expected {names}, got {_short(answer)}"


def volume(answer: Any, _: Mapping[str, Any]) -> str:
    """An image with its geometry."""
    from oncoseg_core.contract.volume import Volume

    return is_a(Volume)(answer, {})


def flag(answer: Any, _: Mapping[str, Any]) -> str:
    """True or False, numpy's too."""
    return "" if type(answer).__name__ in {"bool", "bool_"} else f"expected True or False, got {_short(answer)}"


def example(answer: Any, _: Mapping[str, Any]) -> str:
    """An image, or None."""
    right = answer is None or (_is_array(answer) and len(answer.shape) == 4)
    return "" if right else f"expected None or an array (channel, z, y, x), got {_short(answer)}"


def like_voxels(answer: Any, arguments: Mapping[str, Any]) -> str:
    """Real numbers of the shape of the voxels."""
    shape = arguments["voxels"].shape
    right = _is_array(answer) and answer.shape == shape and answer.dtype.kind in "iuf"
    return "" if right else f"expected real numbers of shape {shape}, got {_short(answer)}"


def unit_voxels(answer: Any, arguments: Mapping[str, Any]) -> str:
    """Float32 in [0, 1] of the shape of the voxels; NaN is not."""
    shape = arguments["voxels"].shape
    if not (_is_array(answer) and answer.dtype.name == "float32" and answer.shape == shape):
        return f"expected float32 of shape {shape}, got {_short(answer)}"
    low, high = (float(answer.min()), float(answer.max())) if answer.size else (0.0, 0.0)
    return "" if low >= 0.0 and high <= 1.0 else f"expected values in [0, 1], got values from {low} to {high}"


def statistics(answer: Any, _: Mapping[str, Any]) -> str:
    """Tuples of finite numbers by name."""
    right = isinstance(answer, Mapping) and all(
        isinstance(numbers, tuple | list) and all(_is_number(number) for number in numbers)
        for numbers in answer.values()
    )
    return "" if right else f"expected tuples of finite numbers by name, got {_short(answer)}"


def image_and_masks(answer: Any, arguments: Mapping[str, Any]) -> str:
    """A volume, and masks on its grid of targets that the case has."""
    from oncoseg_core.contract.volume import Volume

    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Volume)):
        return f"expected a Volume and masks by target, got {_short(answer)}"
    volume, masks = answer
    case = arguments["case"]
    unknown = sorted(set(masks) - {target.name for target in case.targets}) if isinstance(masks, Mapping) else []
    if unknown:
        return f"case {case.case_id!r} has masks of {', '.join(unknown)}, which are none of its targets"
    return masks_on(masks, volume.geometry.shape)


def masks_on(masks: Any, shape: tuple[int, ...]) -> str:
    """Bool masks of that shape by name."""
    if not isinstance(masks, Mapping):
        return f"expected masks by name, got {_short(masks)}"
    for name, mask in masks.items():
        if not (_is_array(mask) and mask.dtype.name == "bool" and mask.shape == shape):
            return f"mask {name!r}: expected bool of shape {shape}, got {_short(mask)}"
    return ""


def structures(answer: Any, arguments: Mapping[str, Any]) -> str:
    """Structures on the grid of the image."""
    if not (isinstance(answer, tuple) and hasattr(answer, "masks") and hasattr(answer, "notes")):
        return f"expected Structures, got {_short(answer)}"
    return masks_on(answer.masks, arguments["image"].geometry.shape)


def automatic(answer: Any, arguments: Mapping[str, Any]) -> str:
    """A mask for each structure asked for, and confidences in [0, 1]."""
    if not (isinstance(answer, tuple) and hasattr(answer, "masks") and hasattr(answer, "confidences")):
        return f"expected AutomaticResult, got {_short(answer)}"
    if set(answer.masks) != set(arguments["structures"]):
        return f"expected masks of {sorted(arguments['structures'])}, got {sorted(answer.masks)}"
    for name, confidence in answer.confidences.items():
        # Not ``in answer.masks``: a lazy mapping would make the mask to answer that.
        if name not in arguments["structures"] or not (_is_number(confidence) and 0 <= confidence <= 1):
            return f"expected confidences in [0, 1] of these structures, got {confidence!r} of {name!r}"
    return masks_on(answer.masks, arguments["volume"].geometry.shape)


def prompt(answer: Any, arguments: Mapping[str, Any]) -> str:
    """A tuple of hints that lie on the slice."""
    from oncoseg_core.contract.prompts import AnyPrompt, check_on_slice

    if not (isinstance(answer, tuple) and answer and all(isinstance(hint, AnyPrompt) for hint in answer)):
        return f"expected a tuple of at least one prompt, got {_short(answer)}"
    try:
        check_on_slice(answer, *arguments["mask"].shape)
    except PromptError as error:
        return str(error)
    return ""


def loss_terms(answer: Any, _: Mapping[str, Any]) -> str:
    """One scalar tensor by name at least."""
    right = isinstance(answer, Mapping) and answer and all(getattr(term, "ndim", None) == 0 for term in answer.values())
    return "" if right else f"expected scalar tensors by name, got {_short(answer)}"


def decoded(answer: Any, arguments: Mapping[str, Any]) -> str:
    """Logits and a score for each prompt; without NaN, where no gradient is wanted."""
    import torch

    count = len(arguments["prompts"])
    if not (isinstance(answer, tuple) and hasattr(answer, "logits") and hasattr(answer, "scores")):
        return f"expected Decoded, got {_short(answer)}"
    logits, scores = answer.logits, answer.scores
    if logits.ndim != 3 or len(logits) != count or tuple(scores.shape) != (count,):
        found = f"logits {tuple(logits.shape)} and scores {tuple(scores.shape)}"
        return f"expected logits ({count}, h, w) and scores ({count},) for {count} prompts, got {found}"
    if torch.is_grad_enabled() or logits.is_meta:  # in training the run's own watch looks for NaN, without waiting
        return ""
    return "expected logits that are numbers, got NaN" if bool(logits.isnan().any()) else ""


def score(answer: Any, _: Mapping[str, Any]) -> str:
    """A finite number, or None."""
    right = answer is None or _is_number(answer)
    return "" if right else f"expected a finite number, or None where the score is not defined, got {_short(answer)}"


def planned_files(answer: Any, given: Mapping[str, Any]) -> str:
    """Files beside the destination, it among them."""
    place = given["destination"]
    fine = (
        isinstance(answer, tuple) and place in answer and {getattr(p, "parent", None) for p in answer} == {place.parent}
    )
    return "" if fine else f"expected {place.name} and files beside it, got {_short(answer)}"


def written_files(answer: Any, _: Mapping[str, Any]) -> str:
    """A report of files that are there."""
    if not (isinstance(answer, tuple) and hasattr(answer, "files") and hasattr(answer, "notes")):
        return f"expected ExportReport, got {_short(answer)}"
    missing = [str(path) for path in answer.files if not path.is_file()]
    return f"reports files that are not there: {', '.join(missing)}" if missing else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _short(answer: Any) -> str:
    if _is_array(answer):
        return f"{type(answer).__name__} {answer.dtype} {tuple(answer.shape)}"
    text = repr(answer)
    return f"{type(answer).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
