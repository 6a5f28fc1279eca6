"""The step of each state. Each can be begun again after kill -9: it writes the same files, and whole ones."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from oncoseg_core import Registry
from oncoseg_node.config.settings import NodeSettings, RuleSettings
from oncoseg_node.queue.queue import Flaws
from oncoseg_node.records.job import Job, State
from oncoseg_node.records.results import CheckedStructure, Delivery, Made
from oncoseg_node.records.series import Refusal, SeriesFacts
from oncoseg_node.sending.commitment_folder import commitments_folder
from oncoseg_node.work import kept
from oncoseg_node.work.outcome import StepError, StepResult
from oncoseg_node.work.rooms import Beat, Rooms

NOTHING_TO_SEND = "no-structures"
"""The refusal of a series of which every structure was left out."""


@dataclass(frozen=True)
class Workshop:
    """What a worker process has for the steps; its models stay loaded from job to job."""

    settings: NodeSettings
    registry: Registry
    device: str
    rooms: Rooms
    beat: Beat

    def rule(self, job: Job) -> RuleSettings:
        """The rule of a job.

        Raises:
            StepError: the settings have none of its name any more.
        """
        for rule in self.settings.rules:
            if rule.name == job.rule:
                return rule
        raise StepError(
            "settings",
            f"the rule {job.rule!r} that this series matched is no longer in the settings; put it back, and retry",
            permanent=True,
        )


def advance(job: Job, shop: Workshop, flaws: Flaws | None = None) -> StepResult:
    """Do the step of a job's state; of one that failed, write the report.

    Raises:
        StepError, OncoSegError, OSError: it cannot be done.
    """
    start = time.monotonic()
    if job.state is State.RECEIVED:
        result = examine(job, shop, flaws)
    elif job.state is State.COMPLETE:
        result = segment(job, shop)
    elif job.state is State.SEGMENTED:
        result = check(job, shop)
    elif job.state is State.CHECKED:
        result = send(job, shop)
    elif job.state is State.SENT:
        result = confirm(job, shop)
    else:
        _report(job, shop)
        result = StepResult(state=job.state)
    return result.model_copy(update={"seconds": {**result.seconds, "all": time.monotonic() - start}})


def examine(job: Job, shop: Workshop, flaws: Flaws | None = None) -> StepResult:
    """Is the series whole and fit, and which rule is it for?"""
    facts, rule, refusals = shop.rooms.examine(job, shop.settings)
    refusals = [*_of_flaws(flaws), *_of_earlier(job, facts), *refusals]
    kept.forget(job)
    kept.keep(job, kept.FACTS, [] if facts is None else [facts])
    kept.keep(job, kept.REFUSALS, refusals)
    about = {"images": 0 if facts is None else facts.slices, "modality": "" if facts is None else facts.modality}
    if rule is None and not refusals:
        raise StepError("unforeseen", "the series matched no rule, and nothing says why", permanent=True)
    if rule is None or refusals:
        return _refused(job, shop, refusals, about)
    return StepResult(state=State.COMPLETE, rule=rule.name, priority=rule.priority, off_peak=rule.off_peak, facts=about)


def segment(job: Job, shop: Workshop) -> StepResult:
    """Make the masks."""
    made = shop.rooms.make(job, shop.settings, shop.rule(job), shop.registry, shop.device, shop.beat)
    return StepResult(state=State.SEGMENTED, facts=_models(made), seconds=dict(made.seconds))


def check(job: Job, shop: Workshop) -> StepResult:
    """Judge the masks, write what is sent, and the report."""
    rooms = shop.rooms
    seconds: dict[str, float] = {}
    made, masks = rooms.read_masks(job)
    series = rooms.read_series(job.images)
    volume = rooms.read_volume(series)
    with _timed(seconds, "check"):
        checked = rooms.check(job, shop.settings, made, masks, volume)
    kept.keep(job, kept.CHECKED, checked)
    if all(one.decision == "left out" for one in checked):
        return _nothing_left(job, shop, made, checked)
    shop.beat("writing")
    with _timed(seconds, "write"):
        objects = rooms.write(job, shop.settings, made, checked, masks, series, shop.beat)
    after = job.model_copy(update={"state": State.CHECKED})
    with _timed(seconds, "report"):
        files = rooms.report(
            after,
            shop.settings,
            kept.kept_facts(job),
            made,
            checked,
            objects,
            [],
            [],
            masks=masks,
            volume=volume,
            beat=shop.beat,
        )
    pdf = next((path for path in files if path.suffix == ".pdf"), None)
    if pdf is not None and _takes_pdf(shop, job):
        objects = [*objects, rooms.encapsulate(job, shop.settings, made, pdf, series)]
    kept.keep(job, kept.OBJECTS, objects)
    kept.keep(job, kept.DELIVERIES, [])
    facts = {"structures": _decisions(checked), "objects": {one.format: one.sha256 for one in objects}}
    return StepResult(state=State.CHECKED, facts=facts, seconds=seconds)


def send(job: Job, shop: Workshop) -> StepResult:
    """Send to each destination that has not everything yet.

    Raises:
        StepError: a destination did not take everything.
    """
    objects, deliveries = kept.kept_objects(job), kept.kept_deliveries(job)
    for name in shop.rule(job).destinations:
        if not _has_all(deliveries, name, {"stored", "confirmed"}):
            news = shop.rooms.send(objects, name, shop.settings.destinations[name], shop.beat)
            deliveries = _kept_news(job, deliveries, name, news)
    _require(deliveries, shop.rule(job).destinations, {"stored", "confirmed"}, "not sent")
    return StepResult(state=State.SENT, facts={"deliveries": _deliveries(deliveries)})


def confirm(job: Job, shop: Workshop) -> StepResult:
    """Have each destination prove that it has everything; what it lost is sent again.

    Raises:
        StepError: one cannot.
    """
    objects, deliveries = kept.kept_objects(job), kept.kept_deliveries(job)
    for name in shop.rule(job).destinations:
        destination = shop.settings.destinations[name]
        if _failed(deliveries, name) or name not in {one.destination for one in deliveries}:  # new in the settings
            deliveries = _kept_news(job, deliveries, name, shop.rooms.send(objects, name, destination, shop.beat))
        if not _failed(deliveries, name) and not _has_all(deliveries, name, {"confirmed"}):
            folder = commitments_folder(shop.settings.data)
            news = shop.rooms.confirm(objects, name, destination, shop.beat, commitments=folder)
            deliveries = _kept_news(job, deliveries, name, news)
    _require(deliveries, shop.rule(job).destinations, {"confirmed"}, "not confirmed")
    _report(job.model_copy(update={"state": State.CONFIRMED, "reason": ""}), shop)
    return StepResult(state=State.CONFIRMED, facts={"deliveries": _deliveries(deliveries)})


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[phase] = time.monotonic() - start


# Ends.


def _refused(job: Job, shop: Workshop, refusals: Sequence[Refusal], facts: dict[str, object]) -> StepResult:
    reason = "; ".join(one.message for one in refusals)
    _report(job.model_copy(update={"state": State.REFUSED, "reason": reason}), shop)
    facts = {**facts, "kinds": [one.kind for one in refusals]}
    return StepResult(state=State.REFUSED, reason=reason, facts=facts)


def _nothing_left(job: Job, shop: Workshop, made: Made, checked: Sequence[CheckedStructure]) -> StepResult:
    refusal = Refusal(
        kind=NOTHING_TO_SEND,
        message=f"each of the {len(checked)} structures was left out, so that nothing is sent; the report says why",
    )
    kept.keep(job, kept.REFUSALS, [refusal])
    kept.forget_objects(job)
    return _refused(job, shop, [refusal], {"structures": _decisions(checked), **_models(made)})


def _report(job: Job, shop: Workshop) -> None:
    """The report from what is kept; pictures are those that were drawn when the structures were checked."""
    checked = kept.kept_checked(job)
    made = shop.rooms.read_masks(job)[0] if checked else None
    shop.rooms.report(
        job,
        shop.settings,
        kept.kept_facts(job),
        made,
        checked,
        kept.kept_objects(job),
        kept.kept_deliveries(job),
        kept.kept_refusals(job),
        beat=shop.beat,
    )


def _takes_pdf(shop: Workshop, job: Job) -> bool:
    return any("pdf" in shop.settings.destinations[name].formats for name in shop.rule(job).destinations)


# Deliveries.


def _kept_news(job: Job, deliveries: Sequence[Delivery], name: str, news: Sequence[Delivery]) -> list[Delivery]:
    """All deliveries with the news of one destination in the place of what was known of it; on the disk."""
    every = [*(one for one in deliveries if one.destination != name), *news]
    kept.keep(job, kept.DELIVERIES, every)
    return every


def _failed(deliveries: Sequence[Delivery], name: str) -> bool:
    return any(one.status == "failed" for one in deliveries if one.destination == name)


def _has_all(deliveries: Sequence[Delivery], name: str, statuses: set[str]) -> bool:
    of_one = [one.status for one in deliveries if one.destination == name]
    return bool(of_one) and set(of_one) <= statuses


def _require(deliveries: Sequence[Delivery], names: Sequence[str], statuses: set[str], kind: str) -> None:
    for name in names:
        if not _has_all(deliveries, name, statuses):
            messages = [one.message for one in deliveries if one.destination == name and one.status not in statuses]
            if not messages:
                raise StepError(kind, f"{name}: no object is of a format that it takes", permanent=True)
            raise StepError(kind, f"{name}: {'; '.join(messages)}")


# For the audit.


def _models(made: Made) -> dict[str, object]:
    used = [f"{one.component} {one.version} {one.weights_sha256}" for one in made.models]
    return {"models": used, "structures made": sum(one.left_out is None for one in made.structures)}


def _decisions(checked: Sequence[CheckedStructure]) -> dict[str, str]:
    return {one.name: one.decision for one in checked}


def _deliveries(deliveries: Sequence[Delivery]) -> list[str]:
    return [f"{one.destination} {one.format} {one.status} {one.how}".rstrip() for one in deliveries]


def _of_earlier(job: Job, facts: SeriesFacts | None) -> list[Refusal]:
    """A series of which an image came again, and the others are no longer kept, is even and half of itself."""
    earlier = job.earlier
    if earlier is None or facts is None or facts.slices >= earlier.images:
        return []
    message = (
        f"the series has {facts.slices} images, and had {earlier.images} when it was contoured before (case "
        f"{earlier.case}); send all of them again"
    )
    return [Refusal(kind="fewer-images", message=message)]


def _of_flaws(flaws: Flaws | None) -> list[Refusal]:
    refusals = []
    if flaws is not None and flaws.different:
        message = (
            f"{flaws.different} images came with the UID of another one and other content; which is right is not known"
        )
        refusals.append(Refusal(kind="conflicting-images", message=message))
    if flaws is not None and flaws.excess:
        message = f"{flaws.excess} images came beyond the most that a series may have (`receive.most_instances`)"
        refusals.append(Refusal(kind="too-many-images", message=message))
    return refusals
