"""The SCP against pynetdicom's SCU and DCMTK's storescu, over loopback."""

import contextlib
import os
import random
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pydicom
import pytest
from node_parts import ct_series, node_settings, stored_files
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage, RTStructureSetStorage, generate_uid
from pynetdicom import AE, build_context, evt

from oncoseg_core import ConfigError, StorageError
from oncoseg_node.config.settings import DicomReceiver, Peer, TlsSettings
from oncoseg_node.queue.queue import Queue
from oncoseg_node.receiving.intake import Intake
from oncoseg_node.receiving.peers import Peers
from oncoseg_node.receiving.scp import _Traffic, start_scp

DCMTK = "/usr/bin/storescu"


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    return ct_series(tmp_path_factory.mktemp("ct"), 3)


class Door:
    def __init__(self, folder, is_full=lambda: False, dicom=None, **receive):
        settings = node_settings(folder, dicom={"port": 0} | (dicom or {}), **receive)
        self.data = folder
        self.scp = start_scp(settings.receive.dicom, Intake(Queue(self.data), settings, is_full=is_full))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.scp.close()

    def associate(self, *contexts, title="CT1", called="ONCOSEG", **options):
        scu = AE(title)
        scu.acse_timeout = scu.dimse_timeout = scu.network_timeout = 10
        contexts = contexts or (build_context(CTImageStorage),)
        return scu.associate("127.0.0.1", self.scp.port, list(contexts), ae_title=called, **options)

    def send(self, *datasets, contexts=()):
        association = self.associate(*contexts)
        assert association.is_established
        answers = [association.send_c_store(dataset) for dataset in datasets]
        association.release()
        return answers


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    with Door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


def test_what_is_sent_is_stored_with_meta_information_and_unchanged(door, ct):
    sent = [pydicom.dcmread(file) for file in ct]
    assert [answer.Status for answer in door.send(*sent)] == [0, 0, 0]
    stored = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, stored_files(door.data))}
    assert len(stored) == 3
    for one in sent:
        assert stored[one.SOPInstanceUID] == one
        assert stored[one.SOPInstanceUID].file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
    before = stored_files(door.data)
    assert [answer.Status for answer in door.send(*sent)] == [0, 0, 0]
    assert stored_files(door.data) == before


def test_it_answers_an_echo(door):
    association = door.associate(build_context("1.2.840.10008.1.1"))
    assert association.send_c_echo().Status == 0
    association.release()


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
    ],
)
def test_real_images_are_kept_in_the_transfer_syntax_in_which_they_come(tmp_path, name):
    """Of scanners, from the wheel of pydicom."""
    path = Path(get_testdata_file(name, download=False))
    image = pydicom.dcmread(path)
    syntax = image.file_meta.TransferSyntaxUID
    with Door(tmp_path) as door:
        (answer,) = door.send(image, contexts=[build_context(image.SOPClassUID, syntax)])
        assert answer.Status == 0
        (stored,) = stored_files(door.data)
    assert pydicom.dcmread(stored).file_meta.TransferSyntaxUID == syntax
    assert pydicom.dcmread(stored).PixelData == image.PixelData


def test_a_structure_set_among_the_images_is_a_warning_and_the_study_goes_on(door, ct):
    plan = pydicom.Dataset()
    plan.SOPClassUID, plan.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    plan.StudyInstanceUID, plan.SeriesInstanceUID = generate_uid(), generate_uid()
    plan.file_meta = pydicom.dataset.FileMetaDataset()
    plan.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    answers = door.send(
        plan, pydicom.dcmread(ct[0]), contexts=[build_context(RTStructureSetStorage), build_context(CTImageStorage)]
    )
    assert [answer.Status for answer in answers] == [0xB006, 0]
    assert plan.SOPInstanceUID not in {pydicom.dcmread(file).SOPInstanceUID for file in stored_files(door.data)}


def test_another_image_with_a_known_uid_fails_and_says_why(door, ct):
    image = pydicom.dcmread(ct[0])
    image.KVP = "80"
    first, second = door.send(pydicom.dcmread(ct[0]), image)
    assert (first.Status, second.Status) == (0, 0x0111)
    assert "other content" in second.ErrorComment


def test_a_full_disk_is_told(tmp_path, ct):
    with Door(tmp_path, is_full=lambda: True) as door:
        (answer,) = door.send(pydicom.dcmread(ct[0]))
    assert answer.Status == 0xA700
    assert not stored_files(door.data)


def test_another_called_title_is_rejected(door):
    association = door.associate(called="ANOTHER")
    assert association.is_rejected


def test_only_titles_that_are_allowed_may_send(tmp_path):
    with Door(tmp_path, dicom={"allowed": [{"ae_title": "CT1"}]}) as door:
        assert door.associate(title="CT1").is_established
        assert door.associate(title="CT2").is_rejected


def test_only_addresses_that_are_allowed_are_listened_to(tmp_path):
    with Door(tmp_path, dicom={"allowed": [{"address": "10.0.0.0/8"}]}) as door:
        assert door.associate().is_aborted


@pytest.mark.parametrize(
    ("allowed", "address", "title", "fits"),
    [
        ([], "127.0.0.1", "X", True),
        ([], "::ffff:127.0.0.1", "X", True),
        ([], "192.168.0.1", "X", False),
        ([Peer(address="10.1.0.0/16")], "10.1.2.3", "X", True),
        ([Peer(address="10.1.0.0/16")], "10.2.2.3", "X", False),
        ([Peer(address="10.1.2.3", ae_title="CT1")], "10.1.2.3", "CT2", False),
        ([Peer(address="10.1.2.3", ae_title="CT1")], "10.1.2.3", None, True),
        ([Peer(address="10.1.2.3", ae_title="CT1"), Peer(ae_title="CT2")], "10.9.9.9", "CT2 ", True),
        ([Peer(ae_title="CT1")], "no address", "CT1", False),
    ],
)
def test_who_may_send(allowed, address, title, fits):
    assert Peers(allowed).lets_in(address, title) is fits


def test_associations_are_bounded(tmp_path):
    with Door(tmp_path, dicom={"most_associations": 2}) as door:
        first, second = door.associate(), door.associate()
        assert first.is_established
        assert second.is_established
        assert door.associate().is_rejected
        first.release()
        second.release()


def test_connections_that_say_nothing_are_closed(tmp_path):
    with Door(tmp_path, dicom={"silent_seconds": 0.2}) as door:
        with socket.create_connection(("127.0.0.1", door.scp.port), 10) as silent:
            assert silent.recv(1) == b""
        assert door.scp.alive


def test_a_message_that_never_ends_is_not_waited_for(tmp_path):
    with Door(tmp_path, dicom={"silent_seconds": 0.2}) as door:
        with socket.create_connection(("127.0.0.1", door.scp.port), 10) as slow:
            slow.sendall(b"\x01\x00\x00\x00\x01\x00 and no more")
            assert slow.recv(1) == b""
        while len(door.scp._server.active_associations):
            threading.Event().wait(0.02)


def test_what_associations_hold_is_bounded_and_forgotten_with_them():
    traffic = _Traffic(100)
    first, second, third = (Held() for _ in range(3))
    assert traffic.add(first, 100)
    assert not traffic.add(first, 1)
    assert traffic.add(second, 99)
    assert not traffic.add(third, 1)
    first.alive = False
    traffic.forget_ended()
    assert traffic.add(third, 99)
    traffic.add(second, -99)
    traffic.add(third, -200)
    assert len(traffic) == 0


class Held:
    alive = True

    def is_alive(self):
        return self.alive


def test_a_message_that_declares_four_gigabytes_is_not_waited_for(tmp_path):
    with Door(tmp_path) as door:
        with socket.create_connection(("127.0.0.1", door.scp.port), 10) as hostile:
            hostile.sendall(b"\x01\x00\xff\xff\xff\xff" + bytes(100))
            with contextlib.suppress(ConnectionResetError):
                assert hostile.recv(1) in {b"", b"\x07"}
        assert door.associate().is_established


def test_an_object_beyond_the_bound_ends_its_association_alone(tmp_path, ct):
    image = pydicom.dcmread(ct[0])
    image.Rows, image.Columns, image.PixelData = 1024, 1024, bytes(2 * 1024 * 1024)
    with Door(tmp_path, most_instance_bytes=100_000) as door:
        (answer,) = door.send(image)
        assert "Status" not in answer  # before all of it was in memory
        (answer,) = door.send(pydicom.dcmread(ct[0]))
        assert answer.Status == 0
        assert len(stored_files(door.data)) == 1


def test_messages_that_are_none_leave_no_traceback_and_no_memory(tmp_path, ct, capfd):
    messages = []
    with Door(tmp_path, dicom={"silent_seconds": 2}) as door:
        association = door.associate(
            evt_handlers=[(evt.EVT_DATA_SENT, lambda event: messages.append(bytes(event.data)))]
        )
        association.send_c_store(pydicom.dcmread(ct[0]))
        association.release()
        dice = random.Random(1)
        for _ in range(12):
            with socket.create_connection(("127.0.0.1", door.scp.port), 10) as hostile, contextlib.suppress(OSError):
                for message in messages[: dice.randrange(1, len(messages) + 1)]:
                    changed = bytearray(message)
                    for _ in range(dice.randrange(3)):
                        changed[dice.randrange(len(changed))] = dice.randrange(256)
                    hostile.sendall(changed)
        while len(door.scp._server.active_associations):
            threading.Event().wait(0.02)
        (answer,) = door.send(pydicom.dcmread(ct[0]))
        assert answer.Status == 0
        door.associate().release()
        assert len(door.scp._traffic) <= 1
        assert not list((tmp_path / "incoming").iterdir())
    assert "Traceback" not in "".join(capfd.readouterr())


def test_errors_of_other_threads_are_told_as_before(door, monkeypatch):
    errors = []
    monkeypatch.setattr("oncoseg_node.receiving.connections._others_hook", [errors.append])
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert [one.exc_type for one in errors] == [ZeroDivisionError]


def test_a_port_in_use_is_named(tmp_path, door):
    with pytest.raises(StorageError, match=f"`receive.dicom`: 127.0.0.1, port {door.scp.port} cannot be listened on"):
        Door(tmp_path, dicom={"port": door.scp.port})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "key.pem", "-out", folder / "certificate.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_tls_asks_for_a_known_certificate_and_a_silent_client_stops_nobody(tmp_path, certificate, ct):
    files = {"certificate": certificate / "certificate.pem", "key": certificate / "key.pem"}
    with Door(tmp_path, dicom={"tls": files | {"authorities": files["certificate"]}, "silent_seconds": 30}) as door:
        with socket.create_connection(("127.0.0.1", door.scp.port)):
            context = ssl.create_default_context(cafile=files["certificate"])
            assert not door.associate(tls_args=(context, "127.0.0.1")).is_established
            context.load_cert_chain(files["certificate"], files["key"])
            association = door.associate(tls_args=(context, "127.0.0.1"))
            assert association.is_established
            assert association.send_c_store(pydicom.dcmread(ct[0])).Status == 0
            association.release()
        assert not door.associate().is_established


def test_a_certificate_that_is_not_there_is_named(tmp_path):
    tls = TlsSettings(certificate=tmp_path / "none.pem", key=tmp_path / "none.key")
    settings = node_settings(tmp_path)
    with pytest.raises(ConfigError, match="`tls`"):
        start_scp(DicomReceiver(port=0, tls=tls), Intake(Queue(tmp_path), settings))


@pytest.mark.skipif(not os.path.exists(DCMTK), reason="DCMTK is not installed")
def test_dcmtk_sends_a_series(tmp_path, ct):
    with Door(tmp_path) as door:
        command = [DCMTK, "-aec", "ONCOSEG", "-aet", "CT1", "127.0.0.1", str(door.scp.port), *ct]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        assert len(stored_files(door.data)) == 3


def test_an_error_of_a_kind_that_nobody_foresaw_brings_no_value_into_the_log(tmp_path, ct, caplog, monkeypatch):
    def fails(*_, **__):
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(Intake, "take", fails)
    with Door(tmp_path) as door:
        (answer,) = door.send(pydicom.dcmread(ct[0]))
    assert answer.Status == 0x0110
    assert "an instance could not be stored: ValueError" in caplog.text
    assert "Doe" not in caplog.text
