"""C-STORE to a node that behaves and to many that do not; the proof by query and by storage commitment.

The node is pynetdicom's in this process; the images are phantoms.
"""

import shutil
import ssl
import subprocess
import threading
from contextlib import contextmanager
from io import BytesIO
from types import SimpleNamespace

import pydicom
import pytest
from false_dicom_node import false_node
from local_orthanc import free_port
from node_job import node_job, settings_in
from pydicom.uid import SegmentationStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel

from oncoseg_dicom import first_difference
from oncoseg_node.config.settings import DicomDestination
from oncoseg_node.sending import commitments_folder, confirm, dicom, send
from oncoseg_node.sending.outcomes import Pulse
from oncoseg_node.service.receivers import Receivers
from oncoseg_node.writing import write

BOTH = ("rtstruct", "seg")


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return write(*node_job(tmp_path_factory.mktemp("job")).arguments)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(dicom, "_WAITS", (0.01, 0.01))


def at(node, **more):
    port = node if isinstance(node, int) else node.port
    return DicomDestination(
        **{"kind": "dicom", "host": "127.0.0.1", "port": port, "ae_title": "ARCHIVE", "formats": BOTH, **more}
    )


def sent(objects, destination, **more):
    return send(objects, "archive", destination, **more)


def confirmed(objects, destination, **more):
    return confirm(objects, "archive", destination, **more)


def test_what_is_sent_is_kept_equal_and_proven_by_reading_it_back(objects):
    beats = []
    with false_node() as node:
        for one in sent(objects, at(node), beat=beats.append):
            assert (one.status, one.how, one.message) == ("stored", "C-STORE", "")
            assert one.destination == "archive"
        assert [first_difference(one.path, node.kept[one.sop_uid]) for one in objects] == [None, None]
        assert [(one.status, one.how) for one in confirmed(objects, at(node))] == [
            ("confirmed", "query and read back (C-FIND, C-GET), equal")
        ] * 2
        assert set(node.peers) == {"ONCOSEG"}
    assert beats


def test_only_the_formats_of_the_destination_are_sent(objects):
    with false_node() as node:
        (one,) = sent(objects, at(node, formats=("rtstruct",)))
        assert (one.format, one.sop_uid) == ("rtstruct", objects[0].sop_uid)
        assert list(node.kept) == [objects[0].sop_uid]
        assert sent(objects, at(node, formats=("pdf",))) == []


def test_after_a_crash_what_is_there_and_equal_is_not_sent_again(objects):
    with false_node() as node:
        sent(objects, at(node, formats=("rtstruct",)))
        again = sent(objects, at(node))
        assert [one.how for one in again] == ["already there and equal", "C-STORE"]
        assert node.stores == [objects[0].sop_uid, objects[1].sop_uid]


def test_what_is_there_under_the_same_uid_and_differs_is_a_failure(objects):
    with false_node() as node:
        sent(objects, at(node))
        for uid, content in node.kept.items():
            node.kept[uid] = changed(content)
        for one in sent(objects, at(node)):
            assert one.status == "failed"
            assert "with changes (PatientID differs)" in one.message


@contextmanager
def receiver_of(folder, destinations):
    """The port of the receiver of a node with these destinations."""
    settings = settings_in(folder, receive={"dicom": {"port": 0}}, destinations=destinations)
    settings = settings.model_copy(update={"data": folder})
    watermark = SimpleNamespace(is_full=lambda: False)
    receivers = Receivers(settings, None, None, watermark, dict, None)
    receivers.start()
    try:
        yield int(next(receivers.lines()).rpartition(" ")[2])
    finally:
        receivers.close()


def changed(content):
    data = pydicom.dcmread(BytesIO(content))
    data.PatientID = "someone else"
    stream = BytesIO()
    data.save_as(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (0xA700, "out of resources; free some there (status 0xa700)"),
        (0xA701, "out of resources"),
        (0xA900, "does not fit its kind"),
        (0xC123, "does not understand the object"),
        (0x0110, "processing failed"),
        (0x0122, "does not take that kind of object; configure it there"),
        (0x0124, "not authorised; allow its AE title"),
        (0x0999, "status 0x0999"),
    ],
)
def test_every_failure_status_is_a_failure_in_words(status, message, objects):
    with false_node() as node:
        node.store = lambda event, number: status if number == 1 else 0
        first, second = sent(objects, at(node))
    assert first.status == "failed"
    assert message in first.message
    assert second.status == "stored"


@pytest.mark.parametrize(
    ("status", "message"), [(0xB000, "changed elements"), (0xB006, "dropped elements"), (0xB007, "does not fit")]
)
def test_a_warning_is_stored_with_a_note(status, message, objects):
    with false_node() as node:
        node.store = lambda event, number: status
        for one in sent(objects, at(node)):
            assert one.status == "stored"
            assert message in one.message


def test_an_instance_that_it_calls_a_duplicate_is_compared(objects):
    with false_node() as node:
        node.listed = lambda uid: False

        def keeps_first(event, number):
            return 0x0111 if number > 2 else 0

        node.store = keeps_first
        sent(objects, at(node))
        assert [one.how for one in sent(objects, at(node))] == ["already there and equal"] * 2
        assert len(node.stores) == 4


def test_an_association_that_is_lost_is_opened_once_more_for_what_is_missing(objects):
    with false_node() as node:

        def abort(event, number):
            if number == 2:
                event.assoc.abort()
            return 0

        node.store = abort
        node.keeps = lambda content: None if len(node.stores) == 2 else content
        assert [one.status for one in sent(objects, at(node))] == ["stored", "stored"]
        assert node.stores == [objects[0].sop_uid, objects[1].sop_uid, objects[1].sop_uid]
        assert node.associations == 2


def test_a_node_that_always_breaks_off_is_given_up(objects):
    with false_node() as node:
        node.store = lambda event, number: event.assoc.abort() or 0
        node.keeps = lambda content: None
        for one in sent(objects, at(node)):
            assert one.status == "failed"
            assert "did not answer a C-STORE" in one.message
        assert node.associations == 2


@pytest.mark.parametrize("call", ["send_c_find", "send_c_store", "send_c_get", "send_n_action"])
def test_an_association_that_ends_between_two_requests_is_no_exception(call, objects, monkeypatch):
    """pynetdicom raises where there is none any more."""

    def ended(*_, **__):
        raise RuntimeError("the association with a peer SCP must be established")

    monkeypatch.setattr(Association, call, ended)
    with false_node() as node:
        how = "commitment" if call == "send_n_action" else "query"
        deliveries = sent(objects, at(node)) if call == "send_c_store" else confirmed(objects, at(node, confirm=how))
        if call == "send_c_get":
            node.listed = lambda uid: True
            deliveries = confirmed(objects, at(node))
    for one in deliveries:
        assert one.status == "failed"
        assert "the association broke (RuntimeError); it is tried again later" in one.message


def test_no_answer_is_an_empty_dataset_and_a_failure(objects):
    """pynetdicom gives one without a status where nothing came in time; it must not pass for success."""
    release = threading.Event()
    with false_node() as node:
        node.store = lambda event, number: release.wait(5) and 0xA700
        try:
            (one,) = sent(objects, at(node, formats=("rtstruct",), silent_seconds=0.2))
        finally:
            release.set()
    assert one.status == "failed"
    assert "did not answer a C-STORE" in one.message


def test_a_node_that_says_success_and_keeps_nothing_is_not_believed(objects):
    with false_node() as node:
        node.keeps = lambda content: None
        assert [one.status for one in sent(objects, at(node))] == ["stored", "stored"]
        for one in confirmed(objects, at(node)):
            assert one.status == "failed"
            assert "does not list it" in one.message


def test_a_node_that_lists_a_moment_later_is_waited_for(objects):
    with false_node() as node:
        sent(objects, at(node))
        times = []
        node.listed = lambda uid: times.append(uid) or times.count(uid) > 2
        assert [one.status for one in confirmed(objects, at(node))] == ["confirmed", "confirmed"]


def test_a_node_that_gives_back_something_else_is_a_failure(objects):
    with false_node() as node:
        node.keeps = changed
        sent(objects, at(node))
        for one in confirmed(objects, at(node)):
            assert one.status == "failed"
            assert "PatientID differs" in one.message


def test_a_node_that_lists_and_gives_nothing_back_is_a_failure(objects):
    with false_node() as node:
        node.listed = lambda uid: True
        for one in confirmed(objects, at(node)):
            assert one.status == "failed"
            assert "lists the object and does not give it back" in one.message


def test_a_node_that_gives_back_without_end_is_broken_off(objects):
    with false_node() as node:
        sent(objects, at(node))
        data = pydicom.dcmread(objects[0].path)
        data.add_new(0x00420011, "OB", bytes(20_000_000))
        stream = BytesIO()
        data.save_as(stream)
        node.kept[objects[0].sop_uid] = stream.getvalue()
        first, second = confirmed(objects, at(node))
    assert first.status == "failed"
    assert "gives back more than" in first.message
    assert second.status == "confirmed"


def test_no_sign_of_life_comes_after_the_end(objects):
    beats, pulse = [], Pulse(lambda what: beats.append(what), clock=iter(range(0, 100, 2)).__next__)
    pulse()
    pulse.end()
    pulse()
    assert beats == ["sending"]


def test_a_query_alone_is_named_as_the_lesser_proof(objects):
    with false_node(offers=("store", "find")) as node:
        sent(objects, at(node))
        for one in confirmed(objects, at(node)):
            assert one.status == "confirmed"
            assert one.how == "query (C-FIND); not read back, since C-GET is not offered"
        assert {one.how for one in sent(objects, at(node))} == {"already there"}


def test_without_queries_reading_back_is_proof_and_with_neither_there_is_none(objects):
    with false_node(offers=("store", "get")) as node:
        sent(objects, at(node))
        assert {one.how for one in confirmed(objects, at(node))} == {"read back (C-GET), equal"}
    with false_node(offers=("store",)) as node:
        assert {one.status for one in sent(objects, at(node))} == {"stored"}
        for one in confirmed(objects, at(node)):
            assert one.status == "failed"
            assert "`confirm: commitment`" in one.message


# Refused before anything is sent.


def test_a_kind_that_is_not_taken_does_not_stop_the_other(objects):
    with false_node(kinds=(SegmentationStorage,)) as node:
        first, second = sent(objects, at(node))
    assert first.status == "failed"
    assert "does not take the kind of object of 'rtstruct'; configure it there, or leave it out" in first.message
    assert second.status == "stored"


def test_a_node_that_takes_nothing_at_all(objects):
    with false_node(offers=("commitment",)) as node:
        for one in sent(objects, at(node)):
            assert one.status == "failed"
            assert "takes none of the kinds of object" in one.message


def test_titles_that_it_does_not_know(objects):
    with false_node(requires="SOMEONE") as node:
        (one, _) = sent(objects, at(node))
        assert "does not know the AE title 'ONCOSEG'; register it there" in one.message
        (one, _) = sent(objects, at(node, ae_title="OTHER", calling_ae_title="SOMEONE"))
        assert "does not answer to the AE title 'OTHER'; correct `ae_title`" in one.message
        assert sent(objects, at(node, calling_ae_title="SOMEONE"))[0].status == "stored"


def test_as_many_associations_as_it_takes(objects):
    with false_node(most=1) as node:
        entity = AE()
        entity.add_requested_context(SegmentationStorage)
        held = entity.associate("127.0.0.1", node.port, ae_title="ARCHIVE")
        (one, _) = sent(objects, at(node))
        held.release()
    assert one.status == "failed"
    assert "as many associations as it takes" in one.message


def test_nothing_answers(objects):
    (one, _) = sent(objects, at(free_port()))
    assert one.status == "failed"
    assert "does not answer; start it, or correct `host` and `port`" in one.message
    for one in confirmed(objects, at(free_port())):
        assert one.status == "failed"
    (one, _) = sent(objects, at(1, host="no such host.invalid"))
    assert "correct `host`" in one.message


# TLS.


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls_with_certificates_of_both_sides(objects, tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", certificate, "-keyout", key], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    tls = {"certificate": certificate, "key": key}
    with false_node(context=context) as node:
        assert sent(objects, at(node, tls={**tls, "authorities": certificate}))[0].status == "stored"
        for wrong in (tls, None):  # an authority of this system, none of which vouches for it; no TLS
            (one, _) = sent(objects, at(node, tls=wrong, silent_seconds=1))
            assert one.status == "failed"
            assert "certificates of both" in one.message or "TLS" in one.message
        (one, _) = sent(objects, at(node, tls={**tls, "key": tmp_path / "none.pem"}))
        assert "`tls`: certificate, key or authorities cannot be read" in one.message


# Storage commitment.


def test_commitment_on_the_same_association(objects):
    with false_node() as node:
        destination = at(node, confirm="commitment")
        sent(objects, destination)
        assert [(one.status, one.how) for one in confirmed(objects, destination)] == [
            ("confirmed", "storage commitment")
        ] * 2


def test_what_it_does_not_commit_itself_to_is_a_failure(objects):
    with false_node() as node:
        destination = at(node, confirm="commitment")
        sent(objects, destination)
        node.refuses = (objects[1].sop_uid,)
        first, second = confirmed(objects, destination)
    assert first.status == "confirmed"
    assert second.status == "failed"
    assert "does not have that instance" in second.message


@pytest.mark.parametrize("commit", ["never", "of another"])
def test_a_report_that_does_not_come_or_is_on_another_transaction_is_no_proof(commit, objects):
    with false_node() as node:
        destination = at(node, confirm="commitment", silent_seconds=0.3)
        sent(objects, destination)
        node.commit = commit
        for one in confirmed(objects, destination):
            assert one.status == "failed"
            assert "has not come yet; let it reach this node's AE title and port" in one.message


def test_commitment_that_comes_later_by_an_association_of_its_own(objects, tmp_path):
    """It reaches the node's own receiver, which runs in another process than the worker that asked for it."""
    folder = commitments_folder(tmp_path)
    with false_node() as node:
        destination = at(node, confirm="commitment", silent_seconds=0.3)
        with receiver_of(tmp_path, {"archive": destination}) as port:
            sent(objects, destination)
            node.commit = "later"
            for one in confirmed(objects, destination, commitments=folder):
                assert one.status == "failed"
                assert "has not come yet" in one.message
            assert node.send_late_report(port, "ONCOSEG") == 0
            report, _ = node.late_report
            for one in confirmed(objects, destination, commitments=folder):
                assert (one.status, one.how) == ("confirmed", "storage commitment")
            assert len(node.transactions) == 1  # it was not asked again
            assert not list(folder.iterdir())
            assert node.send_late_report(port, "ONCOSEG") == 0x0115  # of a transaction that is over
            report.TransactionUID = "1.2.3"
            assert node.send_late_report(port, "ONCOSEG") == 0x0115
            assert not list(folder.iterdir())


def test_a_receiver_takes_no_reports_where_no_destination_gives_any(objects, tmp_path):
    with false_node() as node, receiver_of(tmp_path, {"archive": at(node)}) as port:
        entity = AE(ae_title="ARCHIVE")
        entity.add_requested_context(StorageCommitmentPushModel)
        association = entity.associate("127.0.0.1", port, ae_title="ONCOSEG")
        assert not association.is_established
        association.abort()


def test_a_node_without_commitment_is_said(objects):
    with false_node(offers=("store", "find")) as node:
        (one, _) = confirmed(objects, at(node, confirm="commitment"))
    assert one.status == "failed"
    assert "takes none of the kinds" in one.message or "does not offer storage commitment" in one.message
