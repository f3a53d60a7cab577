"""Keys are made, shown once and proven; whom copies are encrypted for is kept where only root can change it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
from pgbackup.errors import ConfigurationError, NoBackup, PermissionDenied, SuiteError
from pgbackup.formats import sealed
from pgbackup.store.state import keys

from tests.support import stock

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "setup-encryption.sh"
NOW = datetime(2024, 1, 15, 2, tzinfo=timezone.utc)
SECRET = re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]{58}")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="what the script does needs root")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture
def recipients(place: Path) -> Path:
    return place / "etc" / "recipients"


def environment(place: Path) -> dict[str, str]:
    there = {"ENCRYPTION_RECIPIENTS": str(place / "etc" / "recipients"), "BACKUP_DIR": str(place / "backups")}
    return {"PATH": os.defpath, **there}


def run(place: Path, *words: str, given: str = "", status: int = 0) -> str:
    """Run the script without a terminal; what it said on both."""
    done = subprocess.run(
        [SCRIPT, *words], env=environment(place), input=given, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    return said


def typed(place: Path, *words: str, answers: Callable[[str], str]) -> tuple[int, str]:
    """Run the script on a terminal; answers: what is typed at a question, given all that was said so far."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(SCRIPT, [str(SCRIPT), *words], environment(place))
    said, answered, deadline = "", 0, time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                said += os.read(terminal, 65536).decode()
            except OSError:  # EIO: it has ended
                break
        if re.search(r"ype [^\n]*: $", said[answered:]):
            answered = len(said)
            os.write(terminal, answers(said).encode() + b"\n")
    else:
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def everything(place: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in place.rglob("*") if path.is_file())


# --- the script


@as_root
def test_a_key_is_shown_once_and_only_its_public_half_is_kept(place: Path, recipients: Path) -> None:
    status, said = typed(place, answers=lambda so_far: SECRET.findall(so_far)[0][-8:].lower())
    assert status == 0
    (secret,) = SECRET.findall(said)
    assert keys.recipients(recipients).current == (sealed.recipient_of(secret),)
    assert "SECRET" not in everything(place)
    assert "there is one key" in said
    before = {path: path.stat().st_mtime_ns for path in recipients.parent.iterdir()}
    again = run(place)
    assert "its key was not proven yet" in again and "SECRET" not in again
    assert {path: path.stat().st_mtime_ns for path in recipients.parent.iterdir()} == before


@as_root
def test_a_key_that_was_not_noted_is_not_kept(place: Path, recipients: Path) -> None:
    status, said = typed(place, answers=lambda _: "XXXXXXXX")
    assert status == 64 and "it was not kept" in said
    assert said.count("that is not how it ends") == 3
    assert not recipients.exists()


@as_root
def test_a_key_is_shown_on_a_terminal_only(place: Path, recipients: Path) -> None:
    said = run(place, status=64)
    assert "shown on a terminal only" in said and "--key-file" in said and "SECRET" not in said
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as log:
        done = subprocess.run([SCRIPT], env=environment(place), stderr=log.stdin, check=False)
        assert done.returncode == 64
        assert log.stdin
        log.stdin.close()
    assert not recipients.exists()


@as_root
def test_a_key_in_a_file_is_what_age_takes(place: Path) -> None:
    stock.need("age")
    file = place / "key"
    said = run(place, "--key-file", str(file))
    assert "SECRET" not in said and "on this host's own disk" in said
    assert file.stat().st_mode & 0o777 == 0o600
    (recipient,) = keys.recipients(place / "etc" / "recipients").current
    shown = subprocess.run(["age-keygen", "-y", file], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == recipient
    sealing = ["age", "-R", str(place / "etc" / "recipients")]
    made = subprocess.run(sealing, input=b"rows", capture_output=True, check=True).stdout
    assert b"".join(sealed.opened([made], keys.identities(file))) == b"rows"


@as_root
def test_a_key_file_is_never_written_over_nor_among_the_backups(place: Path, recipients: Path) -> None:
    (place / "backups").mkdir()
    (place / "there").write_text("mine")
    (place / "link").symlink_to(place / "elsewhere")
    for name, status in (("there", 78), ("link", 78), ("backups/key", 64), ("absent/key", 73)):
        assert "key" in run(place, "--key-file", str(place / name), status=status)
    assert (place / "there").read_text() == "mine"
    assert not recipients.exists() and not (place / "elsewhere").exists()


@as_root
def test_a_dry_run_changes_nothing(place: Path, recipients: Path) -> None:
    assert "would make a key" in run(place, "--dry-run", "--key-file", str(place / "key"))
    assert "would encrypt copies for" in run(place, "--dry-run", "--add-recipient", sealed.new_key()[1])
    assert list(place.iterdir()) == []
    first, second = sealed.new_key()[1], sealed.new_key()[1]
    keys.change(recipients, NOW, add=[first, second])
    before = everything(place)
    assert "no longer" in run(place, "--dry-run", "--retire-recipient", first)
    assert everything(place) == before


@as_root
def test_keys_change_for_new_copies_and_the_last_one_stays(place: Path, recipients: Path) -> None:
    first, second = sealed.new_key()[1], sealed.new_key()[1]
    run(place, "--add-recipient", first)
    assert "is the only recipient" in run(place, "--retire-recipient", first, status=64)
    run(place, "--add-recipient", second)
    assert "already" in run(place, "--add-recipient", second)
    assert "keep its key as long as" in run(place, "--retire-recipient", first)
    assert keys.recipients(recipients) == keys.Recipients((second,), (first,))
    assert "already" in run(place, "--retire-recipient", first)
    run(place, "--add-recipient", first)
    assert keys.recipients(recipients) == keys.Recipients((second, first))


@as_root
def test_what_excludes_each_other_is_refused(place: Path) -> None:
    for words in (["--prove", "--new-key"], ["--prove", "--key-file", "x"], ["--prove", "--dry-run"]):
        run(place, *words, status=64)
    assert list(place.iterdir()) == []


@as_root
@pytest.mark.parametrize("wrong", ["age1xyz", "ssh-ed25519 AAAA", "", "-x"])
def test_who_is_no_recipient_is_refused(place: Path, wrong: str) -> None:
    run(place, f"--add-recipient={wrong}", status=64)
    assert list(place.iterdir()) == []


@as_root
def test_a_private_key_typed_as_a_recipient_is_refused_and_not_repeated(place: Path) -> None:
    secret = sealed.new_key()[0]
    said = run(place, "--add-recipient", secret, status=64)
    assert "it is a private key" in said and secret[20:40] not in said


@as_root
@pytest.mark.fault(145, "the key on paper is proven, typed and piped")
def test_a_key_on_paper_is_proven_and_its_date_kept(place: Path, recipients: Path) -> None:
    (first, one), (second, two) = sealed.new_key(), sealed.new_key()
    keys.change(recipients, NOW, add=[one, two])
    assert "its key was not proven yet" in run(place)
    assert f"the key of {one} opens what this host encrypts" in run(place, "--prove", given=f"# paper\n{first}\n")
    grouped = " ".join(second.lower()[start : start + 8] for start in range(0, len(second), 8))
    status, said = typed(place, "--prove", answers=lambda _: grouped)
    assert status == 0, said
    assert grouped not in said and second not in said.upper(), "what was typed is shown"
    held = keys.proofs(recipients)
    assert held and set(held.proven) == {one, two}
    assert "not proven" not in run(place)
    assert first not in everything(place) and second not in everything(place)
    run(place, "--retire-recipient", one)
    held = keys.proofs(recipients)
    assert held and set(held.proven) == {two}


@as_root
@pytest.mark.fault(145, "a key of another host, a retired one, a token that was exchanged")
def test_a_key_that_opens_nothing_here_is_told(place: Path, recipients: Path) -> None:
    (first, one), (second, two), stranger = sealed.new_key(), sealed.new_key(), sealed.new_key()
    assert "there are no keys" in run(place, "--prove", given=first, status=78)
    keys.change(recipients, NOW, add=[one, two])
    said = run(place, "--prove", given=stranger[0], status=78)
    assert "not one of this host's" in said and stranger[1] in said and one in said and stranger[0][20:40] not in said
    for text, why in (("", "is empty"), (one, "it is a public key"), (first[:-1], "no private key")):
        assert why in run(place, "--prove", given=text, status=78)
    run(place, "--retire-recipient", one)
    assert "was retired" in run(place, "--prove", given=first, status=78)
    (recipients.parent / "other").mkdir()
    keys.change(recipients.parent / "other" / "recipients", NOW, add=[stranger[1]])
    (recipients.parent / "other" / "recipients.proofs").rename(recipients.parent / "recipients.proofs")
    assert "or was changed" in run(place, "--prove", given=second, status=78)


# --- the files


@pytest.mark.fault(146, "a file of recipients that others can change, or with anything in it")
def test_a_file_of_recipients_that_others_can_change_is_refused(recipients: Path) -> None:
    keys.change(recipients, NOW, add=[sealed.new_key()[1]])
    assert recipients.stat().st_mode & 0o777 == 0o644
    assert recipients.parent.stat().st_mode & 0o777 == 0o755
    for mode in (0o664, 0o646, 0o666):
        recipients.chmod(mode)
        with pytest.raises(ConfigurationError, match="may be changed by others"):
            keys.recipients(recipients)
    recipients.chmod(0o644)
    recipients.parent.chmod(0o777)
    with pytest.raises(SuiteError, match="may be written by others"):
        keys.recipients(recipients)
    recipients.parent.chmod(0o755)
    moved = recipients.rename(recipients.with_name("moved"))
    recipients.symlink_to(moved)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        keys.recipients(recipients)


@as_root
def test_a_file_of_recipients_of_another_account_is_refused(recipients: Path) -> None:
    keys.change(recipients, NOW, add=[sealed.new_key()[1]])
    os.chown(recipients, 65534, 65534)
    with pytest.raises(ConfigurationError, match="may be changed by others"):
        keys.recipients(recipients)


@pytest.mark.parametrize(
    "text", ["age1xyz\n", "AGE-SECRET-KEY-1\n", "\0\n", "ssh-rsa AAAA\n", "\udcff\n", "x" * 70_000]
)
def test_a_file_with_something_else_is_refused(recipients: Path, text: str) -> None:
    keys.change(recipients, NOW, add=[sealed.new_key()[1]])
    recipients.write_bytes(recipients.read_bytes() + text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError):
        keys.recipients(recipients)


def test_no_file_is_nobody(recipients: Path) -> None:
    assert keys.recipients(recipients) == keys.Recipients(())
    assert keys.proofs(recipients) is None


@pytest.mark.fault(146, "a key file that others can read, that is missing, or no key file")
def test_a_key_file_that_is_none_is_told(place: Path) -> None:
    secret, recipient = sealed.new_key()
    file = place / "key"
    with pytest.raises(NoBackup, match="there is no key file"):
        keys.identities(file)
    keys.write_identity(file, secret, NOW)
    assert keys.identities(file) == [secret]
    for mode in (0o640, 0o604, 0o644, 0o620):
        file.chmod(mode)
        with pytest.raises(PermissionDenied, match="may be read by others"):
            keys.identities(file)
    file.chmod(0o600)
    for text in ("", "# nothing\n", recipient, secret[:-1], "\0", "\udcff", f"{secret}\n{secret[:-2]}"):
        file.write_text(text, errors="surrogateescape")
        with pytest.raises(ConfigurationError) as told:
            keys.identities(file)
        assert secret[20:40] not in f"{told.value.message}{told.value.hint}"


def test_a_key_from_a_pipe_is_taken() -> None:
    secret, _ = sealed.new_key()
    reading, writing = os.pipe()
    os.write(writing, secret.encode())
    os.close(writing)
    assert keys.identities(Path(f"/dev/fd/{reading}")) == [secret]
    os.close(reading)


def test_a_change_that_is_cut_off_leaves_what_was_there(recipients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = sealed.new_key()[1]
    keys.change(recipients, NOW, add=[one])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            keys.change(recipients, NOW, add=[sealed.new_key()[1]])
    assert keys.recipients(recipients).current == (one,)
    assert sorted(path.name for path in recipients.parent.iterdir()) == ["recipients", "recipients.proofs"]
