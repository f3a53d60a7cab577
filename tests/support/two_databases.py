"""Two throwaway databases for the bats tests: `two_databases.py FILE` runs until it is stopped or its parent ends.

When they accept connections, FILE has what a shell needs to reach them: `export KEY='value'` lines.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import embedded  # found by the line above

USERS, PAYMENTS = 40, 100


def main(file: Path) -> None:
    stopping = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)  # before the servers: nothing interrupts their making
    parent = os.getppid()
    with embedded.running(["auth_user", "payment_user"]) as (auth, payment):
        auth.load("auth_db", embedded.AUTH_SQL, USERS)
        payment.load("payment_db", embedded.PAYMENT_SQL, PAYMENTS)
        exports = {
            "PROGRAMS": str(auth.installation.programs),
            "AUTH_URL": auth.url("auth_db"),
            "PAYMENT_URL": payment.url("payment_db"),
        }
        unfinished = file.with_suffix(".new")
        unfinished.write_text("".join(f"export {key}={shlex.quote(value)}\n" for key, value in exports.items()))
        unfinished.rename(file)
        while os.getppid() == parent and signal.sigtimedwait(stopping, 1) is None:
            pass
    embedded.release()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
