"""How every OncoSeg program ends: 0 done, 1 failed, 2 wrong usage; one-line errors, a traceback only with --debug."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

from oncoseg_core.contract.errors import OncoSegError
from oncoseg_core.system.output import printable
from oncoseg_core.system.privacy import display_path

INTERRUPTED = 130
"""What typer returns for Ctrl-C: 128 and the signal's number, as shells do."""


def run_app(app: Any, without_arguments: Sequence[str] = ()) -> NoReturn:
    """Run a ``typer.Typer`` app on the process's arguments (or on ``without_arguments``, if there are none) and exit.

    ``--debug`` may stand anywhere among the arguments (or ``ONCOSEG_DEBUG=1`` in the environment).
    """
    debug = "--debug" in sys.argv or os.environ.get("ONCOSEG_DEBUG", "") not in ("", "0")
    _set_up(debug=debug)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(args=arguments or list(without_arguments), standalone_mode=False)
    except OncoSegError as error:
        if debug:
            traceback.print_exc()
        _fail(" ".join(str(error).split()), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _fail("out of memory; use a smaller image, batch or model", 1)
    except Exception as error:  # noqa: BLE001 - the last line of defence: nobody should meet a traceback
        usage = getattr(error, "format_message", None)
        if usage is not None:  # typer's own: wrong usage of options and arguments
            _fail(f"{' '.join(usage().split())} (--help shows how)", 2)
        if debug:
            traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        _fail(f"unexpected error: {reason}; run again with --debug and report it", 1)
    if code == INTERRUPTED:
        _fail("interrupted", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _set_up(*, debug: bool) -> None:
    # Threads that wait actively fight with whatever else runs: beside one busy process a training step took 4.0 s
    # and not 2.7 s on two cores; alone both take 1.6 s. Read by OpenMP when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not debug:  # Python would add the file and the line of code that warns
        warnings.formatwarning = lambda message, *_args, **_kwargs: (
            f"warning: {printable(display_path(' '.join(str(message).split())))}\n"
        )


def _fail(message: str, code: int) -> NoReturn:
    # A path may lead to a patient, whichever library put it into its message.
    print(f"error: {printable(display_path(message))}", file=sys.stderr)  # noqa: T201 - this is the program's voice
    sys.exit(code)
