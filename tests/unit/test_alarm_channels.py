"""The channels: who may read their file, what they do with servers that misbehave, and that no secret gets out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pgbackup.errors import ConfigurationError, PermissionDenied, SuiteError
from pgbackup.host import channels
from pgbackup.host.channels import Channel
from pgbackup.report.alarms import delivery, one_message
from pgbackup.store.state.alarms import Message

from tests.support import alarm_servers
from tests.support.alarm_servers import Hook, Post
from tests.unit.test_alarm_outbox import ROOT, environment, subjects

MESSAGE = Message(datetime(2026, 3, 14, tzinfo=timezone.utc), "broken", "db1: <BROKEN>", "what\n  & since <when>")
SECRET = "s3cr3t-T0ken-4711"


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with alarm_servers.hook() as made:
        yield made


@pytest.fixture(scope="module")
def post() -> Iterator[Post]:
    with alarm_servers.post() as made:
        yield made


@pytest.fixture(autouse=True)
def as_new(hook: Hook, post: Post) -> None:
    hook.behave = post.behave = "ok"
    hook.came.clear()
    post.mails.clear()


def config(path: Path, *lines: str, mode: int = 0o600) -> Path:
    path.write_text("\n".join(lines) + "\n")
    path.chmod(mode)
    return path


def to(url: str) -> Channel:
    return channels.parsed(url, "alerts").channels[0]


# --- the file


def test_channels_and_pings_are_read_and_a_missing_file_is_none(tmp_path: Path) -> None:
    lines = ("# to the team", "", "  json://hook.example.org/x", "ping backup/auth https://hc.example.org/1", "# end")
    known = channels.read(config(tmp_path / "alerts", *lines), ("/usr/bin/tell", "--now"))
    assert [one.name for one in known.channels] == ["json (line 3)", "command 'tell'"]
    assert known.channels[0].url == "json://hook.example.org/x"
    assert known.pings == {"backup/auth": "https://hc.example.org/1"}
    assert channels.read(tmp_path / "absent", ()).channels == ()


@pytest.mark.fault(230, "a file of channels that others can read, with lines that are none, or with anything in it")
@pytest.mark.parametrize(
    "line",
    [
        SECRET, f"{SECRET}:8080/x", f"ping {SECRET} https://example.org/x", f"ping backup {SECRET}",
        f"ping backup ftp://example.org/{SECRET}", f"ping backup https://[{SECRET}", "ping status/auth https://e.org/x",
        f"json://{SECRET}.org/x\njson://{SECRET}.org/x", f"ping backup https://e.org/{SECRET}\nping backup https://e/x",
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_named_by_its_number_and_not_repeated(line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        channels.parsed(f"# the first\n{line}\n", "/etc/pgbackup/alerts")
    told = f"{caught.value.message} {caught.value.hint}"
    assert "/etc/pgbackup/alerts" in told
    assert SECRET not in told


@given(some.binary(max_size=300))
def test_a_file_of_anything_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "alerts"
    path.write_bytes(raw)
    path.chmod(0o600)
    try:
        channels.read(path, ())
    except SuiteError as error:
        assert error.message.startswith(("'", str(path)))


@pytest.mark.fault(230, "a file of channels that others can read, with lines that are none, or with anything in it")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666])
def test_a_file_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(PermissionDenied, match="others may read"):
        channels.read(config(tmp_path / "alerts", f"json://{SECRET}", mode=mode), ())


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(config(tmp_path / "alerts", "json://x.org"))
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "directory").mkdir(0o700)
    for name in ("link", "pipe", "directory"):
        with pytest.raises(ConfigurationError):
            channels.read(tmp_path / name, ())
    with pytest.raises(ConfigurationError, match="larger"):
        channels.read(config(tmp_path / "large", *["# x"] * 40_000), ())


def test_neither_name_nor_picture_of_a_channel_shows_its_url() -> None:
    known = channels.parsed(f"slack://{SECRET}/B/C\nping backup https://{SECRET}.org", "alerts")
    assert SECRET not in f"{known!r}{known.channels[0]!r}{known.channels[0].name}{known.channels[0].key}"


# --- servers that misbehave


def test_an_alarm_comes_by_web_hook_mail_and_command_as_it_is(hook: Hook, post: Post, tmp_path: Path) -> None:
    program = ["sh", "-c", 'cat >"$1"; echo "$ALERT_LEVEL" >>"$1"', "sh", str(tmp_path / "told")]
    for channel in (to(f"json://{hook.host}/x"), to(post.url(SECRET)), Channel("command", command=tuple(program))):
        assert delivery.deliver(channel, MESSAGE) == ""
    assert '"title": "db1: <BROKEN>", "message": "what\\n  & since <when>"' in hook.came[0].body
    assert "Subject: db1: <BROKEN>\r\n" in post.mails[0] and "what\r\n  & since <when>" in post.mails[0]
    assert (tmp_path / "told").read_text() == "db1: <BROKEN>\n\nwhat\n  & since <when>\nbroken\n"


HOOKS = "a web hook that is slow, dead, answers 500 or cuts the line"


@pytest.mark.fault(223, HOOKS)
@pytest.mark.parametrize(("behave", "said"), [("500", "error=500"), ("404", "error=404"), ("cut", "onnection error")])
def test_a_web_hook_that_fails_is_told_without_its_url(hook: Hook, behave: str, said: str) -> None:
    hook.behave = behave
    why = delivery.deliver(to(f"json://user:{SECRET}@{hook.host}/{SECRET}/x?+auth={SECRET}"), MESSAGE)
    assert said in why and SECRET not in why and "user" not in why


@pytest.mark.fault(223, HOOKS)
def test_a_dead_web_hook_is_told() -> None:
    why = delivery.deliver(to(f"json://127.0.0.1:{alarm_servers.closed_port()}/{SECRET}"), MESSAGE)
    assert "onnection error" in why and SECRET not in why


@pytest.mark.fault(223, HOOKS)
@pytest.mark.parametrize("behave", ["slow", "drips"])
def test_a_web_hook_that_never_ends_is_given_up(hook: Hook, behave: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hook.behave = behave
    monkeypatch.setattr(delivery, "SECONDS", 3)
    begun = time.monotonic()
    why = delivery.deliver(to(f"json://{hook.host}/x"), MESSAGE)
    assert why == "no answer within 3 s" and time.monotonic() - begun < 60
    hook.over.set()
    hook.over.clear()


@pytest.mark.fault(223, "a web hook that redirects to another host")
def test_no_redirect_is_followed(hook: Hook) -> None:
    with alarm_servers.hook() as other:
        hook.behave = f"http://{other.host}/{SECRET}"
        assert "307" in delivery.deliver(to(f"json://{hook.host}/x"), MESSAGE)
        assert hook.came and not other.came


@pytest.mark.fault(224, "a mail server that refuses the recipient or the mail")
@pytest.mark.parametrize("at", ["RCPT", "DATA"])
def test_a_mail_server_that_refuses_is_told(post: Post, at: str) -> None:
    post.behave, post.at = f"554 {SECRET} not today", at
    why = delivery.deliver(to(post.url(SECRET)), MESSAGE)
    assert "failed" in why and SECRET not in why and not post.mails


def test_a_channel_that_need_not_work_does_not_work_by_that() -> None:
    optional = to(f"json://127.0.0.1:{alarm_servers.closed_port()}/x?optional=yes")
    assert delivery.deliver(optional, MESSAGE) != ""


def test_a_command_that_fails_hangs_or_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SECONDS", 1)
    for command, said in ((("false",), "ended with 1"), (("sleep", "99"), "no answer"), (("/no/such",), "no program")):
        assert said in delivery.deliver(Channel("command", command=command), MESSAGE)


@pytest.mark.parametrize("url", [f"json://u:{SECRET}@h.org/a%2Fb?x={SECRET}", f"slack://{SECRET}/T1A/#h.org"])
def test_what_a_library_says_is_told_without_any_part_of_the_url(url: str) -> None:
    said = f"Failed: {url} at h.org, a/b, {SECRET.upper()}, #chan error=500"
    told = one_message.without_secrets(said, url)
    assert SECRET.lower() not in told.lower() and "h.org" not in told and "error=500" in told


# --- secrets


@contextmanager
def watched(found: set[str]) -> Iterator[None]:
    """Look at the arguments and the environment of every process of this machine for the secret, all the time."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        text = (process / name).read_bytes()
                    except OSError:
                        continue
                    if SECRET.encode() in text:
                        found.add(f"{process}/{name}: {text[:200]!r}")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.fault(227, "secrets of channels and pings looked for in /proc, output, logs, state files")
def test_no_secret_is_in_a_process_in_the_output_or_in_a_state_file(hook: Hook, post: Post, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir(mode=0o700)
    lines = [f"json://{hook.host}/{SECRET}", f"json://x:{SECRET}@127.0.0.1:{alarm_servers.closed_port()}/{SECRET}"]
    lines += [post.url(SECRET), f"nosuch://{SECRET}", f"ping backup https://example.org/{SECRET}"]
    file = config(tmp_path / "alerts", *lines)
    words = [sys.executable, "-m", "tests.support.teller", str(top), str(file), "several_broken", "true"]
    found: set[str] = set()
    with watched(found):
        done = subprocess.run(words, env=environment(), cwd=ROOT, capture_output=True, text=True, check=True)
    assert found == set()
    assert len(hook.came) == 1 and len(post.mails) == 1
    assert re.match(r"1 \{'json \(line 2\)'.*'nosuch \(line 4\)'", done.stdout), done.stdout
    kept = "".join(path.read_text(errors="replace") for path in top.iterdir())
    assert SECRET not in done.stdout + done.stderr + kept and "json (line 2)" not in kept


def test_a_secret_in_an_argument_would_be_seen(tmp_path: Path) -> None:
    found: set[str] = set()
    with watched(found), subprocess.Popen(["sleep", "60", SECRET], stderr=subprocess.DEVNULL) as shown:
        pass
    with watched(found), subprocess.Popen(["sh", "-c", "sleep 1; :", SECRET]) as shown:
        shown.wait()
    assert found and subjects(tmp_path / "absent") == []
