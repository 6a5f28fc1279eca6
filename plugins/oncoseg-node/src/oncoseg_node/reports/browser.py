"""A page as PDF, by a headless Chromium that may reach nothing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from oncoseg_core.system import atomic_path

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
"""Programs that print, in the order in which they are looked for."""

SECONDS = 90.0
"""A browser that takes longer is ended, and there is no PDF."""

_OPTIONS = (
    *("--headless=new", "--disable-gpu", "--no-pdf-header-footer", "--no-first-run", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"),
    *("--disable-dev-shm-usage", "--disable-breakpad", "--metrics-recording-only", "--mute-audio"),
    # Whatever it should want to reach: a proxy at which nobody listens, and no names.
    *("--proxy-server=127.0.0.1:9", "--proxy-bypass-list=<-loopback>", "--host-resolver-rules=MAP * ~NOTFOUND"),
)

_DATE = re.compile(rb"/(CreationDate|ModDate) ?\(D:[^)]*\)")


def find_browser() -> str | None:
    """The program that makes PDFs; None where none is installed."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def print_pdf(page: Path, destination: Path, moment: float, seconds: float = SECONDS) -> str | None:
    """Print a page to a PDF of a given date; None where it is written, else why it is not.

    Args:
        page: an HTML file that needs no other.
        destination: the PDF.
        moment: what it gives as its date, in seconds since 1970, so that a page always gives the same file.
        seconds: after which it is given up.

    Raises:
        StorageError: the PDF cannot be written.
    """
    program = find_browser()
    if program is None:
        return "no PDF: no Chromium is installed (looked for " + ", ".join(BROWSERS) + ")"
    with tempfile.TemporaryDirectory(prefix="oncoseg-print-", ignore_cleanup_errors=True) as folder:
        printed = Path(folder) / "report.pdf"
        root = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
        command = [
            *(program, *_OPTIONS, *root, f"--user-data-dir={folder}/profile", f"--print-to-pdf={printed}"),
            page.resolve().as_uri(),
        ]
        problem = _run(command, Path(folder), seconds)
        if not printed.is_file() or not printed.stat().st_size:
            return f"no PDF: the browser {problem or 'wrote none'}"
        content = printed.read_bytes()
    if not content.startswith(b"%PDF-") or b"%%EOF" not in content[-1024:]:
        return "no PDF: the browser did not finish it"
    with atomic_path(destination, private=True) as temporary:
        temporary.write_bytes(_dated(content, moment))
    return None


def _run(command: list[str], folder: Path, seconds: float) -> str | None:
    """Run the browser, with all that it starts, for so long at most; what went wrong, if anything."""
    environment = {"HOME": str(folder), "PATH": os.environ.get("PATH", ""), "TMPDIR": str(folder)}
    quiet = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, start_new_session=True
        )
    except OSError as error:
        return f"does not start ({type(error).__name__})"
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"took longer than {seconds:g} s"
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"ended with exit code {code}" if code else None


def _dated(content: bytes, moment: float) -> bytes:
    """The same PDF with another date, byte for byte as long: its table of offsets stays right."""
    text = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%d%H%M%S")

    def date(match: re.Match[bytes]) -> bytes:
        head, _, value = match.group(0).partition(b"(")
        return head + b"(" + f"D:{text}+00'00'".encode().ljust(len(value) - 1)[: len(value) - 1] + b")"

    return _DATE.sub(date, content)
