"""The steps of a job: each once, in order, and begun again where it broke off."""

import pytest
from node_stand_ins import REFUSAL, StandIns, settings_of

from oncoseg_core import DataError, Registry, StorageError
from oncoseg_node.queue.queue import Flaws
from oncoseg_node.records.job import EARLIER, Earlier, Job, State
from oncoseg_node.work import kept
from oncoseg_node.work.outcome import StepError, fault_of
from oncoseg_node.work.steps import Workshop, advance


@pytest.fixture
def stand_ins():
    return StandIns()


@pytest.fixture
def shop(tmp_path, stand_ins):
    return Workshop(settings_of(tmp_path), Registry([]), "cpu", stand_ins.rooms(), lambda _: None)


@pytest.fixture
def job(tmp_path):
    folder = tmp_path / "jobs" / "1-ab"
    folder.mkdir(parents=True)
    return Job(id=1, study_uid="1.2", series_uid="1.2.3", folder=folder, state=State.RECEIVED, created=1.0, changed=2.0)


def at(job, state):
    return job.model_copy(update={"state": state, "rule": "lungs"})


def until(job, shop, state):
    """The job, after all steps before a state."""
    for one in (State.RECEIVED, State.COMPLETE, State.SEGMENTED, State.CHECKED, State.SENT):
        if one is state:
            break
        advance(at(job, one), shop)
    return at(job, state)


def test_a_series_goes_from_state_to_state_to_the_end(job, shop, stand_ins):
    states, now = [], job
    while now.state is not State.CONFIRMED:
        result = advance(now, shop)
        states.append(result.state)
        now = at(now, result.state)
    assert states == [State.COMPLETE, State.SEGMENTED, State.CHECKED, State.SENT, State.CONFIRMED]
    assert stand_ins.calls == [
        "make on cpu",
        "send to archive",
        "send to planning",
        "confirm by archive",
        "confirm by planning",
    ]
    assert stand_ins.states == ["checked", "confirmed"]


def test_the_rule_that_matched_gives_priority_and_name(job, shop):
    result = advance(job, shop)
    assert (result.rule, result.priority, result.off_peak) == ("lungs", 3, False)


def test_a_bad_series_is_refused_with_every_reason_and_a_report(job, shop, stand_ins):
    stand_ins.refusals = [REFUSAL]
    result = advance(job, shop, Flaws(different=2, excess=1))
    assert result.state is State.REFUSED
    assert result.facts["kinds"] == ["conflicting-images", "too-many-images", "missing_slices"]
    assert "2 images came with the UID of another one" in result.reason
    assert "2 slices are missing" in result.reason
    assert stand_ins.states == ["refused"]


def test_a_flaw_refuses_a_series_that_a_rule_matched(job, shop):
    assert advance(job, shop, Flaws(different=1, excess=0)).state is State.REFUSED


def test_a_series_of_which_nothing_is_left_ends_as_refused_and_nothing_is_sent(job, shop, stand_ins):
    stand_ins.decision = "left out"
    result = advance(until(job, shop, State.SEGMENTED), shop)
    assert (result.state, result.facts["kinds"]) == (State.REFUSED, ["no-structures"])
    assert "each of the 1 structures was left out" in result.reason
    assert kept.kept_objects(job) == []
    assert stand_ins.states == ["refused"]


def test_what_an_attempt_before_wrote_is_no_part_of_a_refused_series(job, shop, stand_ins):
    advance(until(job, shop, State.SEGMENTED), shop)  # killed before its state was changed
    stand_ins.decision = "left out"
    advance(at(job, State.SEGMENTED), shop)
    assert kept.kept_objects(job) == []
    assert not list(job.out.glob("*.dcm"))


def test_a_series_that_is_examined_anew_brings_no_structures_of_before(job, shop, stand_ins):
    stand_ins.decision = "left out"
    advance(until(job, shop, State.SEGMENTED), shop)
    stand_ins.refusals = [REFUSAL]
    advance(job, shop)
    assert kept.kept_checked(job) == []


def test_a_second_job_of_fewer_images_is_refused(job, shop):
    """The images of before are kept for some days; those that come again are an even stack, and not the whole one."""
    (job.folder / EARLIER).write_text(Earlier(case="0-ab", images=4).model_dump_json())
    result = advance(job, shop)
    assert (result.state, result.facts["kinds"]) == (State.REFUSED, ["fewer-images"])
    (job.folder / EARLIER).write_text(Earlier(case="0-ab", images=3).model_dump_json())
    assert advance(job, shop).state is State.COMPLETE


def test_a_destination_that_is_new_in_the_settings_is_sent_to_before_it_is_asked(job, shop, stand_ins):
    now = until(job, shop, State.SENT)
    deliveries = [one for one in kept.kept_deliveries(job) if one.destination != "planning"]
    kept.keep(job, kept.DELIVERIES, deliveries)
    stand_ins.calls = []
    assert advance(now, shop).state is State.CONFIRMED
    assert stand_ins.calls == ["confirm by archive", "send to planning", "confirm by planning"]


def test_a_destination_that_has_all_is_not_sent_to_again(job, shop, stand_ins):
    now = until(job, shop, State.CHECKED)
    stand_ins.fails = {("send", "planning"): "failed"}
    with pytest.raises(StepError, match="planning: does not answer") as error:
        advance(now, shop)
    assert fault_of(error.value).kind == "not sent"
    assert not fault_of(error.value).permanent
    stand_ins.fails, stand_ins.calls = {}, []
    assert advance(now, shop).state is State.SENT
    assert stand_ins.calls == ["send to planning"]


def test_what_a_destination_lost_is_sent_again_before_it_is_asked_again(job, shop, stand_ins):
    now = until(job, shop, State.SENT)
    stand_ins.fails = {("confirm", "archive"): "failed"}
    with pytest.raises(StepError, match="archive: does not answer"):
        advance(now, shop)
    stand_ins.fails, stand_ins.calls = {}, []
    assert advance(now, shop).state is State.CONFIRMED
    assert stand_ins.calls == ["send to archive", "confirm by archive"]


def test_nothing_is_confirmed_that_no_destination_answered_for(job, shop, stand_ins):
    now = until(job, shop, State.CHECKED)
    stand_ins.send = lambda *_: []
    with pytest.raises(StepError, match="archive: no object is of a format that it takes"):
        advance(now, Workshop(shop.settings, shop.registry, "cpu", stand_ins.rooms(), shop.beat))


def test_the_report_is_an_object_where_a_destination_takes_it(job, tmp_path, stand_ins):
    destinations = {
        "archive": {"kind": "folder", "path": str(tmp_path), "formats": ["rtstruct", "pdf"]},
        "planning": {"kind": "folder", "path": str(tmp_path)},
    }
    settings = settings_of(tmp_path, destinations=destinations)
    until(job, Workshop(settings, Registry([]), "cpu", stand_ins.rooms(), lambda _: None), State.CHECKED)
    assert [one.format for one in kept.kept_objects(job)] == ["rtstruct", "pdf"]


def test_a_rule_that_is_gone_is_a_fault_of_the_settings(job, shop):
    with pytest.raises(StepError, match="the rule 'heads' that this series matched is no longer in the settings"):
        advance(at(job, State.COMPLETE).model_copy(update={"rule": "heads"}), shop)


def test_a_failed_job_has_a_report(job, shop, stand_ins):
    advance(at(job, State.FAILED), shop)
    assert stand_ins.states == ["failed"]


def test_what_is_kept_is_for_the_nodes_user_alone(job):
    kept.keep(job, kept.FACTS, [])
    assert (job.folder / kept.FACTS).stat().st_mode & 0o077 == 0


def test_what_was_kept_and_is_damaged_is_named(job):
    (job.folder / kept.CHECKED).write_text("[{}]")
    with pytest.raises(DataError, match="is not what the node wrote; retry the job, or send the series again"):
        kept.kept_checked(job)


@pytest.mark.parametrize(
    ("error", "kind", "permanent"),
    [
        (DataError("bad"), "data", True),
        (StorageError("full"), "storage", False),
        (OSError(28, "full"), "storage", False),
        (MemoryError(), "memory", False),
        (ValueError("Doe^Jane"), "unforeseen", False),
    ],
)
def test_faults_have_kinds_and_no_values_of_unforeseen_errors(error, kind, permanent):
    fault = fault_of(error)
    assert (fault.kind, fault.permanent) == (kind, permanent)
    assert "Doe" not in fault.message


def test_a_message_is_one_line_without_uids():
    message = fault_of(DataError("series 1.2.840.113619.2.55.3\nis bad")).message
    assert "\n" not in message
    assert "1.2.840" not in message
