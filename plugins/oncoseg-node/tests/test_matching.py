"""Rules over tags: typed, of several values, absent ones, expressions that end; the first of the file that fits."""

import pytest

from oncoseg_node.config.settings import Condition, RuleSettings
from oncoseg_node.examination.matching import fulfils, in_words, match, no_rule
from oncoseg_node.records.series import SeriesFacts


def facts(**values):
    return SeriesFacts(study_uid="1.2", series_uid="1.3", modality="CT", slices=12, values=values)


def rule(name, **when):
    return RuleSettings(name=name, when=when, protocol="p", models=["m"])


@pytest.mark.parametrize(
    ("value", "condition", "fits"),
    [
        ("CT", {"equals": "CT"}, True),
        ("ct ", {"equals": "CT"}, True),
        ("MR", {"equals": "CT"}, False),
        (120.0, {"equals": 120}, True),
        (1.1, {"equals": 1.1000000001}, True),
        (1.1, {"equals": 1.2}, False),
        ("120", {"equals": 120}, False),
        (["ORIGINAL", "PRIMARY"], {"equals": "PRIMARY"}, True),
        (["ORIGINAL", "PRIMARY"], {"any_of": ["AXIAL", "HELIX"]}, False),
        ("CHEST", {"any_of": ["THORAX", "CHEST"]}, True),
        ("Thorax 3.0", {"matches": "^thorax"}, True),
        ("CT Thorax", {"matches": "^thorax"}, False),
        (5, {"matches": "5"}, False),
        (3.0, {"at_least": 1, "at_most": 3}, True),
        (3.5, {"at_least": 1, "at_most": 3}, False),
        (9, {"at_least": 10}, False),
        ([0.9, 1.2], {"at_most": 1}, False),
        ([0.9, 0.9], {"at_most": 1}, True),
        ("10", {"at_least": 1}, False),
        (None, {"absent": True}, True),
        (None, {"absent": False}, False),
        (None, {"at_most": 3}, False),
        (None, {"equals": ""}, False),
        ("x", {"absent": True}, False),
        ("x", {"absent": False}, True),
        ("x", {"absent": False, "equals": "y"}, False),
        ("Thorax C+", {"matches": "thorax", "equals": "Thorax"}, False),
    ],
)
def test_a_condition_compares_by_type(value, condition, fits):
    assert fulfils(value, Condition.model_validate(condition)) is fits


def test_an_expression_without_end_does_not_fit_and_comes_back():
    assert not fulfils("a" * 60 + "!", Condition(matches="^(a|a)*$"))


def test_the_first_rule_of_the_file_is_taken_and_all_are_tried():
    rules = [
        rule("mr", Modality=Condition(equals="MR")),
        rule("thorax", Modality=Condition(equals="CT"), BodyPartExamined=Condition(equals="CHEST")),
        rule("any-ct", Modality=Condition(equals="CT")),
    ]
    found = match(rules, facts(Modality="CT", BodyPartExamined="CHEST"))
    assert found.rule.name == "thorax"
    assert [(trial.rule, trial.fits) for trial in found.trials] == [("mr", False), ("thorax", True), ("any-ct", True)]
    (modality,) = found.trials[0].conditions
    assert (modality.keyword, modality.present, modality.expected, modality.fits) == (
        "Modality",
        "CT",
        "equal to 'MR'",
        False,
    )


def test_why_no_rule_fits_is_named():
    rules = [rule("mr", Modality=Condition(equals="MR")), rule("pet", Modality=Condition(equals="PT"))]
    assert no_rule(match(rules, facts(Modality="CT"))).kind == "wrong-modality"
    rules.append(rule("foot", Modality=Condition(equals="CT"), BodyPartExamined=Condition(equals="FOOT")))
    refusal = no_rule(match(rules, facts(Modality="CT", BodyPartExamined="CHEST")))
    assert (refusal.kind, refusal.message) == ("no-rule", "none of 3 rules is for this series")


@pytest.mark.parametrize("text", ["ct", "Doe^Jane 1970", "CT\nx", "C" * 17])
def test_a_modality_that_is_no_code_is_not_repeated(text):
    message = no_rule(match([rule("mr", Modality=Condition(equals="MR"))], facts(Modality=text))).message
    assert message == "no rule is for the modality that the series has, which is no code"


def test_conditions_are_told_in_words():
    condition = Condition(any_of=("a", 2.0), matches="x+", at_least=1, at_most=2, absent=False)
    assert in_words(condition) == "present and any of 'a', 2 and matching x+ and at least 1 and at most 2"
