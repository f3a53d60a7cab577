"""Programs are run to their end or stopped for certain, with an environment of our own making."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pgbackup import interrupt, proc
from pgbackup.database.clients.streams import Stream, piped
from pgbackup.errors import ConfigurationError, Interrupted, Unavailable

ROOT = Path(__file__).parents[2]
LONG_BEFORE_ITS_END = 30.0  # seconds; the programs that are to be stopped last a minute or for ever


def run(*argv: str, seconds: float = 10) -> proc.Finished:
    return proc.run(argv, seconds=seconds)


def shell(script: str, *arguments: str) -> list[str]:
    return ["sh", "-c", script, "-", *arguments]


@pytest.fixture
def signals() -> Iterator[None]:
    """Handlers as in a run of the suite, put back afterwards; a request does not outlive the test."""
    before = {number: signal.getsignal(number) for number in (*interrupt.STOPPING, signal.SIGCHLD)}
    interrupt.install()
    yield
    interrupt._requested.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


# What comes in


def test_arguments_arrive_as_they_are() -> None:
    words = ["", " ", "a b", "*", "$HOME", "`id`", "--x", "it's", "new\nline", "ÄÖ€ı", "\\"]
    assert run(*shell('printf "%s|" "$@"', *words)).stdout.decode() == "".join(f"{word}|" for word in words)


def test_children_get_nothing_of_the_callers_environment_that_could_change_a_dump() -> None:
    hostile = {"PGOPTIONS": "x", "PGHOST": "x", "PGPASSWORD": "secret", "BASH_ENV": "x", "IFS": "x", "LD_PRELOAD": "x"}
    given = {**hostile, "PATH": "relative:/opt/bin:.", "HOME": "/root", "LC_ALL": "tr_TR", "DOCKER_HOST": "unix:///d"}
    made = proc.environment(given)
    assert made == {
        "PATH": "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C",
        "DOCKER_HOST": "unix:///d",
    }
    seen = proc.run(["env"], seconds=10, variables={**made, "EXTRA": "ö"}).stdout.decode()
    assert "EXTRA=ö\n" in seen
    assert "PG" not in seen


def test_children_hold_no_descriptor_of_ours() -> None:
    open_here = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(open_here, True)
    try:
        assert run("ls", "/proc/self/fd").stdout.split() == [b"0", b"1", b"2", b"3"]
    finally:
        os.close(open_here)


def test_names_do_not_depend_on_the_locale() -> None:
    script = "import os; from pgbackup import proc; os.write(1, proc.run(['printf', '%s', '\\u0131\\u20ac'], "
    script += "seconds=5).stdout)"
    environment = {**os.environ, "LC_ALL": "tr_TR.ISO-8859-9", "PYTHONPATH": str(ROOT / "lib"), "PYTHONUTF8": "0"}
    said = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=True)
    assert said.stdout.decode() == "ı€"


def test_a_name_that_is_not_text_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        run("true", os.fsdecode(b"\xff"))


# What comes out


def test_status_output_and_words_are_told() -> None:
    finished = run(*shell("printf out; echo wrong >&2; exit 3"))
    assert (finished.status, finished.stdout, finished.stderr) == (3, b"out", "wrong")
    assert run(*shell("kill -9 $$")).status == -9


def test_of_a_flood_of_words_the_end_is_kept() -> None:
    stderr = run(*shell("seq 1 200000 >&2; echo last >&2")).stderr
    assert stderr.endswith("\n200000\nlast")
    assert len(stderr) <= 64 * 1024


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", str(ROOT / "pyproject.toml")])
def test_a_program_that_cannot_be_started_is_named(program: str) -> None:
    with pytest.raises(Unavailable, match=program):
        run(program)


def test_a_broken_program_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(Unavailable, match="cannot be started"):
        run(str(broken))


def test_the_status_is_known_although_our_parent_ignored_sigchld() -> None:
    """Where SIGCHLD is ignored the kernel throws the status away: install() mends it, and without it nothing hangs."""
    script = """if True:
        import os, signal
        from pgbackup import interrupt, proc
        run = lambda: proc.run(["sh", "-c", "exit 7"], seconds=5).status
        unknown = run()
        interrupt.install()
        print(unknown, run())
    """
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT / "lib")},
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert said.stdout.split() == [b"255", b"7"]


# Limits


def test_a_program_that_takes_too_long_is_stopped() -> None:
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
        run("sleep", "60", seconds=0.2)
    assert time.monotonic() - begun < LONG_BEFORE_ITS_END


def test_leaving_the_block_ends_even_a_program_that_will_not() -> None:
    begun = time.monotonic()
    with proc.Program(shell("trap '' TERM; echo >&2; while :; do sleep 0.1; done")) as program:
        while not os.fstat(program._errors).st_size:
            time.sleep(0.01)
    assert program.status == -signal.SIGKILL
    assert time.monotonic() - begun < LONG_BEFORE_ITS_END


def test_a_program_that_is_to_end_with_us_outlives_no_kill() -> None:
    script = (
        "import sys, time; from pgbackup import proc;"
        "p = proc.Program(['sleep', '60'], ends_with_us=True); print(p.pid, flush=True); time.sleep(60)"
    )
    ours = subprocess.Popen(
        [sys.executable, "-c", script], env={"PYTHONPATH": "lib"}, stdout=subprocess.PIPE, text=True
    )
    assert ours.stdout
    child = int(ours.stdout.readline())
    ours.kill()
    ours.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < deadline, "it goes on without us"
        time.sleep(0.01)


def test_a_wait_ends_as_soon_as_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not at the next of the moments at which a signal is looked for, which are far apart here."""
    monkeypatch.setattr(proc, "_TICK_SECONDS", 2 * LONG_BEFORE_ITS_END)
    begun = time.monotonic()
    assert run("sleep", "0.1", seconds=3 * LONG_BEFORE_ITS_END).status == 0
    assert time.monotonic() - begun < LONG_BEFORE_ITS_END


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", interrupt.STOPPING)
def test_a_signal_ends_a_wait_and_the_program(number: int) -> None:
    threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
    begun = time.monotonic()
    with pytest.raises(Interrupted) as stopped:
        run("sleep", "60")
    assert stopped.value.status == 128 + number
    assert time.monotonic() - begun < LONG_BEFORE_ITS_END


@pytest.mark.usefixtures("signals")
def test_cleaning_up_goes_on_although_a_signal_has_arrived() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with interrupt.shielded():
        assert run("sleep", "0.1").status == 0
    with pytest.raises(Interrupted):
        run("sleep", "1")


# Streams


def pieces(script: str, stall_seconds: float = 5) -> list[bytes]:
    with piped(shell(script), "shop") as stream:
        return list(stream.chunks(stall_seconds))


def test_a_stream_is_whole_and_comes_in_bounded_pieces() -> None:
    got = pieces("head -c 30000000 /dev/zero; printf end")
    assert sum(map(len, got)) == 30_000_003
    assert got[-1].endswith(b"end")
    assert max(map(len, got)) <= 1 << 20


def test_a_stream_of_nothing_ends() -> None:
    assert pieces("exit 0") == []
    assert pieces("exit 4") == []


def test_a_stream_may_pause_but_not_stall() -> None:
    assert b"".join(pieces("printf a; sleep 0.4; printf b", 5)) == b"ab"
    with pytest.raises(Unavailable, match=r"'shop' delivered nothing for 0\.3 s"):
        pieces("printf a; sleep 60", 0.3)


def test_a_consumer_may_take_its_time() -> None:
    with piped(shell("head -c 3000000 /dev/zero"), "shop") as stream:
        total = 0
        for piece in stream.chunks(2):
            if not total:
                time.sleep(2.5)
            total += len(piece)
    assert total == 3_000_000


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, fd
    os.close(fd)


def test_a_fifo_has_not_ended_before_its_writer_came(fifo: tuple[Path, int]) -> None:
    path, fd = fifo
    assert os.read(fd, 1) == b"", "it looks like the end"
    script = 'sleep 0.3; exec 3>"$1"; sleep 0.2; printf a >&3; sleep 0.2; printf b >&3; exec 3>&-; sleep 60'
    with proc.Program(shell(script, str(path))) as program:
        assert b"".join(Stream(fd, program, "shop").chunks(5)) == b"ab", "though the program goes on"


def test_a_fifo_whose_writer_never_came_ends_with_the_program(fifo: tuple[Path, int]) -> None:
    with proc.Program(shell("sleep 0.2; exit 1")) as program:
        assert list(Stream(fifo[1], program, "shop").chunks(5)) == []


def test_a_fifo_that_another_process_still_holds_ends_with_the_program(fifo: tuple[Path, int]) -> None:
    path, fd = fifo
    holder = os.open(path, os.O_WRONLY)
    try:
        with proc.Program(shell('printf all >"$1"', str(path))) as program:
            assert b"".join(Stream(fd, program, "shop").chunks(5)) == b"all"
    finally:
        os.close(holder)


@pytest.mark.usefixtures("signals")
def test_a_signal_ends_a_stream_that_is_silent() -> None:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        pieces("sleep 60", 60)
    assert time.monotonic() - begun < LONG_BEFORE_ITS_END
