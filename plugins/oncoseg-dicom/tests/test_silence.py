"""What pydicom says stays unsaid, whichever thread asks, and nothing stays changed."""

import logging
import threading
import warnings

import pytest
from pydicom import config

from oncoseg_dicom.quiet import quiet


def test_no_warnings_and_no_log_within(recwarn, caplog):
    with quiet():
        warnings.warn("Doe^Jane", stacklevel=1)
        logging.getLogger("pydicom").warning("Doe^Jane")
    assert not recwarn.list
    assert not caplog.records
    with pytest.warns(UserWarning, match="after"):
        warnings.warn("after", stacklevel=1)


def test_nothing_stays_changed_whichever_thread_leaves_last():
    before = (config.settings.reading_validation_mode, logging.getLogger("pydicom").disabled)
    entered, leave = threading.Event(), threading.Event()

    def inside():
        with quiet():
            entered.set()
            leave.wait(10)

    with quiet():
        thread = threading.Thread(target=inside)
        thread.start()
        assert entered.wait(10)
    assert logging.getLogger("pydicom").disabled  # the other thread still reads
    leave.set()
    thread.join(10)
    assert before == (config.settings.reading_validation_mode, logging.getLogger("pydicom").disabled)


def test_an_error_within_restores_too():
    with pytest.raises(ValueError, match="inside"), quiet():
        raise ValueError("inside")
    assert not logging.getLogger("pydicom").disabled
