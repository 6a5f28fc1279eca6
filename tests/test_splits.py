"""Splits: no patient torn, nothing but the seed and the ids decides, shares kept, and a frozen file that is checked."""

import json
from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from oncoseg_core import DataError
from oncoseg_core.data.splits import FileSplit, FrozenSplit, MadeSplit, OfficialSplit, SplitSettings, split_cases


class Labelled(NamedTuple):
    dataset: str
    case_id: str
    patient_id: str
    split: str | None = None
    category: str | None = None


def made(**changes):
    return MadeSplit(how="made", **changes)


def patients_on(split, side):
    return {(d, p) for d, patients in split.sides.get(side, {}).items() for p in patients}


@st.composite
def populations(draw):
    """One or two datasets of 10 to 60 patients with one to four cases each, some with categories."""
    cases = []
    for dataset in ("d", "e")[: draw(st.integers(1, 2))]:
        for number in range(draw(st.integers(10, 60))):
            category = draw(st.sampled_from([None, "benign", "malignant"]))
            cases += [
                Labelled(dataset, f"c{number}-{scan}", f"p{number}", None, category)
                for scan in range(draw(st.integers(1, 4)))
            ]
    return cases


@settings(max_examples=60, deadline=None)
@given(populations(), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_a_made_split_holds_its_promises(cases, seed, random):
    wanted = made(fractions={"train": 0.7, "validation": 0.1, "test": 0.2}, seed=seed)
    split = split_cases(cases, wanted)
    sides = ("train", "validation", "test")
    placed = [patients_on(split, side) for side in sides]
    everyone = {(case.dataset, case.patient_id) for case in cases}
    assert set.union(*placed) == everyone
    assert sum(map(len, placed)) == len(everyone)  # nobody twice
    for case in cases:  # a patient's cases go together
        assert (case.dataset, case.patient_id) in placed[sides.index(split.side_of(case))]
    shuffled = list(cases)
    random.shuffle(shuffled)
    assert split_cases(shuffled, wanted).sha256 == split.sha256
    for dataset in {case.dataset for case in cases}:
        own = {p for d, p in everyone if d == dataset}
        for side, patients in zip(sides, placed, strict=True):
            share = wanted.fractions[side]
            assert abs(len({p for d, p in patients if d == dataset}) - share * len(own)) < 1.5
            for category in (None, "benign", "malignant"):
                alike = {c.patient_id for c in cases if c.dataset == dataset and c.category == category}
                found = {p for d, p in patients if d == dataset and p in alike}
                assert abs(len(found) - share * len(alike)) < 3


def test_the_seed_and_the_ids_decide():
    cases = [Labelled("d", f"c{n}", f"p{n}") for n in range(40)]
    first = split_cases(cases, made())
    assert first.sha256 == split_cases(cases, made()).sha256
    assert first.sha256 != split_cases(cases, made(seed=1)).sha256
    other = split_cases([case._replace(dataset="e") for case in cases], made())
    assert {p for _, p in patients_on(first, "test")} != {p for _, p in patients_on(other, "test")}
    assert len(patients_on(first, "test")) == 8


def test_one_patient_id_in_two_datasets_is_two_patients():
    cases = [Labelled(d, f"{d}{n}", f"p{n}") for d in ("d", "e") for n in range(30)]
    split = split_cases(cases, made())
    assert {p for d, p in patients_on(split, "test") if d == "d"} != {
        p for d, p in patients_on(split, "test") if d == "e"
    }


def test_the_rarest_category_of_a_patient_counts():
    """Twenty patients with a benign case each, of whom five have a malignant one too: one of these is held out."""
    cases = [Labelled("d", f"b{n}", f"p{n}", None, "benign") for n in range(20)]
    cases += [Labelled("d", f"m{n}", f"p{n}", None, "malignant") for n in range(5)]
    for seed in range(20):
        split = split_cases(cases, made(seed=seed))
        held_out = patients_on(split, "test")
        assert sum(("d", f"p{n}") in held_out for n in range(5)) == 1
        assert len(held_out) == 4


def test_official_sides_are_taken_and_the_rest_is_left_out():
    cases = [Labelled("d", "a", "p1", "train"), Labelled("d", "b", "p2", "test"), Labelled("d", "c", "p3")]
    split = split_cases(cases, OfficialSplit())
    assert [split.side_of(case) for case in cases] == ["train", "test", "unused"]


def test_a_made_split_keeps_the_sides_that_the_dataset_has():
    train = [Labelled("d", f"c{n}", f"p{n}", "train") for n in range(20)]
    test = [Labelled("d", f"t{n}", f"q{n}", "test") for n in range(3)]
    split = split_cases(train + test, made(fractions={"train": 0.6, "validation": 0.2, "test": 0.2}))
    counts = Counter(split.side_of(case) for case in train)
    assert counts == {"train": 15, "validation": 5}  # 0.6 : 0.2 of the 20
    assert {split.side_of(case) for case in test} == {"test"}
    only_train = split_cases(train, made())  # as the MSD: its test part has no labels
    assert Counter(only_train.side_of(case) for case in train) == {"train": 16, "test": 4}
    both = split_cases(train + test, made())  # nothing is lacking
    assert both.sha256 == split_cases(train + test, OfficialSplit()).sha256


def test_an_official_validation_side_is_never_dealt_out():
    """Only the side that is lacking is taken out of the rest; a patient of the validation side is in no other."""
    rest = [Labelled("d", f"c{n}", f"p{n}") for n in range(20)]
    validation = [Labelled("d", f"v{n}", f"q{n}", "validation") for n in range(5)]
    more = Labelled("d", "w0", "q0")  # of a patient of that side, without a side itself
    wanted = made(fractions={"train": 0.6, "validation": 0.2, "test": 0.2})
    split = split_cases([*rest, *validation, more], wanted)
    assert {split.side_of(case) for case in validation} == {"validation"}
    assert split.side_of(more) == "unused"
    assert Counter(split.side_of(case) for case in rest) == {"train": 15, "test": 5}
    test = [Labelled("d", f"t{n}", f"r{n}", "test") for n in range(3)]
    all_there = split_cases([*rest, *validation, *test], wanted)
    assert {all_there.side_of(case) for case in rest} == {"train"}
    assert {all_there.side_of(case) for case in validation} == {"validation"}
    assert {all_there.side_of(case) for case in test} == {"test"}


def test_how_a_split_is_made_is_part_of_its_record():
    cases = [Labelled("d", "a", "p1", "train"), Labelled("d", "b", "p2", "test")]
    assert split_cases(cases, OfficialSplit()).how == {"how": "official"}
    assert TypeAdapter(SplitSettings).validate_python({"how": "official"}) == OfficialSplit()


def test_a_dataset_can_go_to_one_side_as_a_whole():
    cases = [Labelled("d", f"c{n}", f"p{n}", "train") for n in range(10)] + [Labelled("e", "x", "p", "train")]
    split = split_cases(cases, made(), {"e": "test"})
    assert split.side_of(cases[-1]) == "test"
    assert patients_on(split, "train")


def test_a_torn_patient_is_refused():
    cases = [Labelled("d", "a", "p1", "train"), Labelled("d", "b", "p1", "test")]
    with pytest.raises(DataError, match="cases a, b of 'd' are of one patient but on several sides"):
        split_cases(cases, OfficialSplit())


def test_too_few_patients_are_named():
    with pytest.raises(DataError, match="dataset 'd' has 2 patients to split: too few for a side 'test' of 0.2"):
        split_cases([Labelled("d", "a", "p1"), Labelled("d", "b", "p2")], made())


@pytest.fixture
def frozen(tmp_path):
    cases = [Labelled("d", f"c{n}", f"p{n // 2}") for n in range(20)]
    split = split_cases(cases, made())
    split.write(tmp_path / "split.json")
    return cases, split, tmp_path / "split.json"


def test_a_frozen_split_reads_back_the_same(frozen):
    cases, split, path = frozen
    again = split_cases(cases, FileSplit(how="file", file=path))
    assert again.sha256 == split.sha256
    assert [again.side_of(case) for case in cases] == [split.side_of(case) for case in cases]
    assert again.how["seed"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cases: cases[1:], r"split\.json: .*the data lacks d/c0 \(1\)"),
        (lambda cases: [*cases, Labelled("d", "new", "p99")], r"the split does not know d/new \(1\)"),
        (lambda cases: [cases[0]._replace(patient_id="p7"), *cases[1:]], r"another patient has d/c0 \(1\)"),
        (lambda cases: cases[8:], r"the data lacks d/c0, d/c1, d/c2, d/c3, d/c4, … \(8\)"),
    ],
)
def test_a_frozen_split_of_other_cases_is_refused(frozen, change, message):
    cases, _, path = frozen
    with pytest.raises(DataError, match=message):
        split_cases(change(cases), FileSplit(how="file", file=path))


def test_a_changed_file_is_refused_unless_its_hash_is_taken_out(frozen):
    _, split, path = frozen
    content = json.loads(path.read_text())
    side, other = ("train", "test")
    patient, own = content["sides"][side]["d"].popitem()
    content["sides"][other]["d"][patient] = own
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="was changed after it was frozen"):
        FrozenSplit.read(path)
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert FrozenSplit.read(path).sha256 != split.sha256
    content["sides"][side]["d"][patient] = ["another"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"split\.json: cases another, {', '.join(own)} of 'd' are of one patient"):
        FrozenSplit.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "is no frozen split"),
        ('{"format": 1}', "is no frozen split: missing key .sides."),
        ('{"format": 1, "sides": {"train": {"d": {"p": ["a", "a"]}}}}', "names case 'a' of 'd' twice"),
    ],
)
def test_a_file_that_is_no_split_is_refused(tmp_path, content, message):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(DataError, match=message):
        FrozenSplit.read(tmp_path / "s.json")
    with pytest.raises(DataError, match="No such file.*expected a frozen split"):
        FrozenSplit.read(tmp_path / "absent.json")


@pytest.mark.parametrize("fractions", [{"train": 0.8}, {"train": 0.8, "test": 0.3}, {"validation": 0.5, "test": 0.5}])
def test_fractions_that_cannot_be_are_refused(fractions):
    with pytest.raises(ValidationError, match="fractions name train and one or two other sides|less than 1"):
        TypeAdapter(SplitSettings).validate_python({"how": "made", "fractions": fractions})
