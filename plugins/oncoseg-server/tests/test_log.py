"""The log of a running server: its own lines, and not a word of what other libraries say of patients."""

import subprocess
import sys


def test_other_libraries_say_nothing():
    code = """
import logging, warnings
from oncoseg_server.web.run import _log_own_lines_alone
_log_own_lines_alone()
logging.getLogger("highdicom.base").info("copy PatientName Doe^Jane")
logging.getLogger("pydicom").error("Invalid value for VR UI: 'Doe^Jane'")
warnings.warn_explicit("Doe^Jane", UserWarning, "pydicom/valuerep.py", 1, module="pydicom.valuerep")
warnings.warn_explicit("an engine is missing", UserWarning, "engines.py", 1, module="oncoseg_litemedsam.engines")
logging.getLogger("oncoseg.server").info("POST /sessions 201")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Jane" not in done.stdout + done.stderr
    assert "POST /sessions 201" in done.stderr
    assert "an engine is missing" in done.stderr
