"""Started by path (`python -I lib/pgbackup VERB …`), so that the caller's directory is never on sys.path."""

import os
import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until cli.main() installs its own: a traceback from somewhere in an import is no answer to Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pathlib import Path

HERE = Path(__file__).resolve().parent


def _open_the_standard_descriptors() -> None:
    """Give a run started with `<&- >&- 2>&-` something harmless there, or a backup might become its stdout."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        # Python has None for one that it found closed.
        stream = getattr(sys, name) or os.fdopen(descriptor, "w", closefd=False)
        stream.reconfigure(errors="backslashreplace")  # a name that the locale cannot write must not end the run
        setattr(sys, name, stream)


def _run() -> int:
    try:
        from pgbackup.cli.main import main

        return main(sys.argv[1:])
    except ModuleNotFoundError as error:
        venv = HERE.parent.parent / ".venv"
        sys.stderr.write(f"pgbackup: the suite's Python environment '{venv}' lacks the module '{error.name}'\n")
        is_checkout = (venv.parent / "Makefile").exists()
        hint = f"make -C '{venv.parent}' setup" if is_checkout else "in the suite's checkout: sudo make install"
        if error.name == "pyrage" and os.uname().machine not in ("x86_64", "aarch64"):
            hint = f"there is none for {os.uname().machine}: backups need it not, encrypted copies elsewhere do"
        sys.stderr.write(f"Hint: {hint}\n")
        return 78


_open_the_standard_descriptors()
sys.path[0] = str(HERE.parent)
status = _run()
try:
    sys.stderr.flush()
except OSError:
    # What a full disk did not take Python would try again when it exits, and end with a status of its own.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
sys.exit(status)
