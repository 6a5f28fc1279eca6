"""Samplers: the documented law, by enumeration and by count; the same draws whoever asks; shares without overlap."""

import itertools
import tracemalloc
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from oncoseg_core import Case, ConfigError, DataError, Target
from oncoseg_core.system.randomness import derived_generator
from oncoseg_trainer.config.data_settings import ForegroundSampling
from oncoseg_trainer.data import sampling
from oncoseg_trainer.data.plan import Plan
from oncoseg_trainer.data.sampling import ForegroundSampler, LabelledSampler, LabelledSlices


def labelled(targets, counts, annotated=None):
    return LabelledSlices(targets, counts, counts > 0 if annotated is None else annotated)


WHOLE = labelled(("whole", "core"), np.array([[3, 0, 2], [1, 0, 0]]))
SINGLE = labelled(("polyp",), np.array([[1, 1, 1, 1, 1, 1]]))


def foreground(**settings):
    return ForegroundSampling(mode="foreground", **settings)


class Scripted:
    """A generator whose every choice is the next of a script; ``random`` gives the middles of ten equal parts."""

    def __init__(self, script):
        self.script, self.weight, self.widths = list(script), Fraction(1), []

    def _next(self, width):
        self.widths.append(width)
        self.weight /= width
        return self.script.pop(0) if self.script else 0

    def random(self):
        return (self._next(10) + 0.5) / 10

    def integers(self, width):
        return self._next(int(width))


def every_outcome(sampler, position, monkeypatch):
    """Every path through a draw with its probability, by trying all choices at every fork."""
    pending, found = [()], []
    while pending:
        script = pending.pop()
        scripted = Scripted(script)
        monkeypatch.setattr(sampling, "derived_generator", lambda *_, s=scripted: s)
        draw = sampler.draw(0, position)
        if len(scripted.widths) > len(script):  # a choice was not scripted yet: try all
            pending += [(*script, choice) for choice in range(scripted.widths[len(script)])]
        else:
            found.append((draw, scripted.weight))
    assert sum(weight for _, weight in found) == 1
    return found


@pytest.mark.parametrize("position", [0, 1])
def test_the_law_by_enumeration(monkeypatch, position):
    """Every choice tried: with 0.8 a labelled slice, each alike; with 0.2 any place; the target by turns."""
    outcomes = every_outcome(ForegroundSampler([WHOLE], foreground(), 0), position, monkeypatch)
    target = ("whole", "core")[position]
    assert {draw.target for draw, _ in outcomes} == {target}
    chances = Counter()
    for draw, weight in outcomes:
        chances[draw.case, draw.nth] += weight
    share = Fraction(8, 10)
    if target == "whole":  # cases 0 (3 slices) and 2 (2 slices), each alike; case 1 has none
        expected = {(0, n): share / 2 / 3 for n in range(3)} | {(2, n): share / 2 / 2 for n in range(2)}
        expected |= {(0, None): (1 - share) / 2, (2, None): (1 - share) / 2}
    else:
        expected = {(0, 0): share, (0, None): 1 - share}
    assert chances == expected
    places = [draw.place for draw, _ in outcomes if draw.nth is None and draw.case == 0]
    assert sorted(set(places)) == [(n + 0.5) / 10 for n in range(10)]


def test_datasets_are_mixed_by_temperature(monkeypatch):
    """6 and 4 labelled slices: in proportion at 1, alike at a high temperature; exact by enumeration where it is so."""
    sizes = np.array([6, 6])
    assert ForegroundSampler([WHOLE, SINGLE], foreground(), 0).probabilities == pytest.approx(sizes / sizes.sum())
    small = labelled(("polyp",), np.array([[1, 1, 0, 2]]))
    for temperature in (1.0, 2.0, 5.0):
        sampler = ForegroundSampler([WHOLE, small], foreground(temperature=temperature), 0)
        weights = np.array([6.0, 4.0]) ** (1 / temperature)
        assert sampler.probabilities == pytest.approx(weights / weights.sum())
    at_one = ForegroundSampler([WHOLE, small], foreground(temperature=1.0), 0)
    chance = sum(weight for draw, weight in every_outcome(at_one, 0, monkeypatch) if draw.dataset == 0)
    assert chance == Fraction(6, 10)


def test_a_share_is_the_part_of_the_samples_and_the_others_divide_the_rest(monkeypatch):
    """Shares 1/10 and 2/10; of the remaining 7/10, 6 and 4 labelled slices take 6/10 and 4/10."""
    small = labelled(("polyp",), np.array([[1, 1, 0, 2]]))
    names = ("old", "older", "new", "newer")
    settings = foreground(shares={"old": 0.1, "older": 0.2})
    sampler = ForegroundSampler([SINGLE, SINGLE, WHOLE, small], settings, 0, names=names)
    assert sampler.probabilities == pytest.approx([0.1, 0.2, 0.42, 0.28])
    assert len(sampler) == round(10 / 0.7)  # so that the new ones come to their 10 slices, on average
    drawn = Counter(draw.dataset for draw, weight in every_outcome(sampler, 0, monkeypatch) if weight)
    assert set(drawn) == {0, 1, 2, 3}
    chance = sum(weight for draw, weight in every_outcome(sampler, 0, monkeypatch) if draw.dataset == 0)
    assert chance == Fraction(1, 10)
    all_named = foreground(shares={"old": 0.25, "new": 0.75})
    sampler = ForegroundSampler([SINGLE, WHOLE], all_named, 0, names=("old", "new"))
    assert sampler.probabilities == pytest.approx([0.25, 0.75])
    assert len(sampler) == 12


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"odl": 0.1}, r"sampling\.shares\.odl: no such dataset is trained on; did you mean 'old'"),
        ({"old": 0.1, "new": 0.2}, "name every dataset and add up to 0.3, not to 1"),
    ],
)
def test_shares_that_do_not_work_out_are_refused(shares, message):
    with pytest.raises(ConfigError, match=message):
        ForegroundSampler([WHOLE, SINGLE], foreground(shares=shares), 0, names=("old", "new"))


def test_shares_that_leave_nothing_are_refused():
    settings = foreground(shares={"old": 0.5, "older": 0.5})
    with pytest.raises(ConfigError, match="add up to 1, which leaves nothing for the other datasets"):
        ForegroundSampler([WHOLE, SINGLE, WHOLE], settings, 0, names=("old", "older", "new"))


def test_the_draws_follow_the_law():
    """20,000 draws against the expected counts: chi-square below its 99.9 % point, which a fixed seed makes certain."""
    sampler = ForegroundSampler([WHOLE, SINGLE], foreground(samples_per_epoch=20_000), 7)
    draws = [sampler.draw(0, position) for position in range(20_000)]
    cells = Counter()
    depth = 5
    for draw in draws:
        cells[draw.dataset, draw.case, draw.target, "place" if draw.nth is None else draw.nth] += 1
    expected = {}
    for target, share in (("whole", 0.5), ("core", 0.5)):
        counts = WHOLE.counts[WHOLE.targets.index(target)]
        having = np.flatnonzero(counts)
        for case in having:
            for nth in range(counts[case]):
                expected[0, int(case), target, nth] = 0.5 * share / len(having) * 0.8 / counts[case]
            expected[0, int(case), target, "place"] = 0.5 * share / len(having) * 0.2
    for case in range(6):
        expected[1, case, "polyp", 0] = 0.5 / 6 * 0.8
        expected[1, case, "polyp", "place"] = 0.5 / 6 * 0.2
    assert cells.keys() == expected.keys()
    square = sum((cells[cell] - 20_000 * chance) ** 2 / (20_000 * chance) for cell, chance in expected.items())
    assert len(expected) == 21
    assert square < 45.3  # 99.9 % point of chi-square with 20 degrees of freedom
    places = Counter(int(draw.place * depth) for draw in draws if draw.nth is None)
    mean = sum(places.values()) / depth
    assert sum((places[index] - mean) ** 2 / mean for index in range(depth)) < 18.5  # 4 degrees of freedom


def test_targets_take_turns_over_epochs_too():
    sampler = ForegroundSampler([WHOLE], foreground(samples_per_epoch=5), 0)
    targets = [sampler.draw(epoch, position).target for epoch in range(2) for position in range(5)]
    assert targets == ["whole", "core"] * 5


@pytest.mark.parametrize(
    "sampler", [LabelledSampler([WHOLE, SINGLE], 3), ForegroundSampler([WHOLE, SINGLE], foreground(), 3)]
)
def test_a_draw_depends_on_nothing_but_seed_epoch_and_position(sampler):
    forward = [sampler.draw(epoch, position) for epoch in range(2) for position in range(len(sampler))]
    backward = [sampler.draw(epoch, position) for epoch in (1, 0) for position in reversed(range(len(sampler)))]
    assert forward == backward[::-1]
    assert forward[: len(sampler)] != forward[len(sampler) :]  # epochs differ
    other = type(sampler)([WHOLE, SINGLE], *([foreground()] if isinstance(sampler, ForegroundSampler) else []), 4)
    assert forward[: len(sampler)] != [other.draw(0, position) for position in range(len(sampler))]


def test_an_epoch_of_labelled_slices_has_each_once_in_the_order_it_always_had():
    sampler = LabelledSampler([WHOLE, SINGLE], 3)
    draws = [sampler.draw(2, position) for position in range(len(sampler))]
    found = sorted((draw.dataset, draw.case, draw.target, draw.nth) for draw in draws)
    first = [(0, 0, "whole", n) for n in range(3)] + [(0, 0, "core", 0), (0, 2, "whole", 0), (0, 2, "whole", 1)]
    listed = first + [(1, case, "polyp", 0) for case in range(6)]
    assert found == sorted(listed)
    order = derived_generator(3, "order", 2).permutation(len(listed))
    assert [(draw.dataset, draw.case, draw.target, draw.nth) for draw in draws] == [listed[n] for n in order]
    assert [draw.number for draw in draws] == list(order)


@pytest.mark.parametrize(
    ("samples", "batch", "accumulation", "world"), list(itertools.product((1, 17, 18), (1, 4), (1, 2), (1, 3)))
)
def test_processes_share_an_epoch_without_overlap(samples, batch, accumulation, world):
    plans = [Plan(samples, batch, accumulation, rank, world) for rank in range(world)]
    for number in range(plans[0].steps_per_epoch):
        parts = [plan.step(number) for plan in plans]
        taken = [position for part in parts if part.weight for own in part.batches for position in own]
        first = number * batch * accumulation * world
        assert sorted(taken) == list(range(first, min(first + batch * accumulation * world, samples)))
        assert {part.total for part in parts} == {len(taken)}
        assert all(len(part.batches) <= accumulation for part in parts)
        assert all(part.batches for part in parts)  # nobody hangs the others


def test_a_hundred_thousand_cases_cost_a_sample_nothing():
    """98,154 cases of 60 slices with three targets, ten million samples an epoch: no list of them is made."""
    counts = np.random.default_rng(0).integers(0, 60, (3, 98_154))
    tracemalloc.start()
    sampler = ForegroundSampler([labelled(("a", "b", "c"), counts)], foreground(), 0)
    built, _ = tracemalloc.get_traced_memory()
    for position in range(0, 10**6, 5000):
        sampler.draw(1, position)
    drawn, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(sampler) > 8_000_000
    assert built < 5e6  # one number for each case and target
    assert drawn - built < 1e5
    assert peak - built < 1e6


class Source:
    """Cases of which only the label's name matters."""

    def __init__(self, tmp_path, names):
        self.cases = [
            Case(
                dataset="d", case_id=name, patient_id=name, modality="ct", images=(tmp_path / name,),
                labels=(tmp_path / f"{name}-label",), targets=(Target(name="tumour", labels={1}),),
            )
            for name in names
        ]  # fmt: skip

    def __len__(self):
        return len(self.cases)

    def record(self, number):
        return self.cases[number]

    def slice_counts(self, target):
        return np.zeros(len(self.cases), np.int64)


def test_a_target_that_is_empty_everywhere_is_refused(tmp_path):
    message = (
        r"x-label: the label holds no voxel of 'tumour', nor do those of 1 other cases: of 2 cases on this side of .*, "
        r"2 have it annotated and 0 show it\. If it is too rare for a side, leave it out of data\.targets"
    )
    with pytest.raises(DataError, match=message):
        LabelledSlices.of(Source(tmp_path, ["x", "y"]), ["tumour"])


def test_prompts_that_point_at_nothing_also_ask_where_the_target_is_not(monkeypatch):
    """Case 0 has two slices with the polyp, case 1 is annotated and has none, case 2 is not annotated."""
    annotated = np.array([[True, True, False]])
    slices = labelled(("polyp",), np.array([[2, 0, 0]]), annotated)
    sampler = ForegroundSampler([slices], foreground(), 0, points_at_object=False)
    chances = Counter()
    for draw, weight in every_outcome(sampler, 0, monkeypatch):
        chances[draw.case, draw.nth is None] += weight
    assert chances == {(0, False): Fraction(8, 10), (0, True): Fraction(1, 10), (1, True): Fraction(1, 10)}


class Counted(Source):
    """A source that counts 2, 0 and 1 slices."""

    def slice_counts(self, target):
        return np.array([2, 0, 1])


def test_a_target_is_annotated_where_it_was_found_and_where_it_was_looked_for(tmp_path):
    """Case 0 has it and is not said to, case 1 is annotated and has none, case 2 both."""
    source = Counted(tmp_path, ["x", "y", "z"])
    slices = LabelledSlices.of(source, ["polyp"], [["other"], ["polyp"], ["polyp"]])
    assert slices.annotated.tolist() == [[True, True, True]]
    assert LabelledSlices.of(source, ["polyp"], [[], [], []]).annotated.tolist() == [[True, False, True]]
    assert LabelledSlices.of(source, ["polyp"]).annotated.tolist() == [[True, False, True]]


def test_of_several_targets_one_that_is_empty_names_the_others_to_keep(tmp_path):
    source = Source(tmp_path, ["x"])
    with pytest.raises(DataError, match="the label holds no voxel of 'tumour': ") as alone:
        LabelledSlices.of(source, ["tumour"])
    assert "nor do those of" not in str(alone.value)


def test_a_new_sampler_draws_from_any_epoch_first():
    for epoch in (0, 1, 2):
        sampler = LabelledSampler([WHOLE, SINGLE], 3)
        order = derived_generator(3, "order", epoch).permutation(len(sampler))
        assert sampler.draw(epoch, 4).number == order[4]


def test_a_drawn_slice_follows_from_seed_epoch_and_position_as_it_always_did():
    sampler = ForegroundSampler([SINGLE], foreground(foreground_share=0.5), 3)
    for epoch, position in itertools.product(range(3), range(6)):
        rng = derived_generator(3, "draw", epoch, position)
        rng.random()  # of the dataset
        draw = sampler.draw(epoch, position)
        if rng.random() < 0.5:
            assert (draw.case, draw.nth, draw.place) == (rng.integers(6), rng.integers(1), 0.0)
        else:
            assert (draw.case, draw.nth, draw.place) == (rng.integers(6), None, rng.random())
    assert LabelledSampler([SINGLE], 0).draw(0, 0).place == 0.0


def test_three_targets_take_turns_from_sample_to_sample_and_epoch_to_epoch():
    three = labelled(("a", "b", "c"), np.ones((3, 1), dtype=np.int64))
    sampler = ForegroundSampler([three], foreground(samples_per_epoch=4), 0)
    drawn = "".join(sampler.draw(epoch, position).target for epoch in range(3) for position in range(4))
    assert drawn == "abcabcabcabc"


@pytest.mark.parametrize("build", [
    lambda slices: ForegroundSampler([slices], foreground(foreground_share=0.0), 0),
    lambda slices: sampling.build_sampler([slices], foreground(foreground_share=0.0), 0),
])  # fmt: skip
def test_prompts_point_at_the_object_unless_said_otherwise(build):
    annotated = np.array([[True, True]])
    sampler = build(labelled(("polyp",), np.array([[2, 0]]), annotated))
    assert {sampler.draw(epoch, 0).case for epoch in range(30)} == {0}
