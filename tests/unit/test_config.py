"""Settings: where they come from, which values are refused, and what does not fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pgbackup.errors import ConfigurationError, UsageError
from pgbackup.settings import config
from pgbackup.settings.named_table import PLACE_SETTINGS, TARGET_SETTINGS
from pgbackup.settings.table import GLOBAL_SETTINGS

from tests.support.effort import chosen
from tests.support.settings import load, refusal

ROOT = Path(__file__).resolve().parents[2]
KEYS = [row.key for row in GLOBAL_SETTINGS] + [f"AUTH_{row.key}" for row in TARGET_SETTINGS]


# --- where a setting comes from


def test_without_any_setting_it_is_the_guide(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert (found.backup_dir, found.retention_days, found.min_backups) == (Path("/opt/backups"), 7, 7)
    auth, payment = found.targets
    assert (auth.container, auth.database, auth.user, auth.directory) == (
        "postgres-a",
        "auth_db",
        "auth_user",
        "postgres-a",
    )
    assert (payment.container, payment.database, payment.user, payment.directory) == (
        "postgres-b",
        "payment_db",
        "payment_user",
        "postgres-b",
    )
    assert (auth.services, payment.services) == (("service-a-1", "service-a-2"), ("service-b-1", "service-b-2"))
    assert auth.health_url == "https://localhost/auth/health"
    assert payment.health_url == "https://localhost/payments/health/check"
    assert (auth.client, auth.url, auth.passfile) == ("auto", "", None)


def test_command_line_before_environment_before_file_before_default(tmp_path: Path) -> None:
    env, environment = "RETENTION_DAYS=3\n", {"RETENTION_DAYS": "4"}
    assert load(tmp_path, env, environment, RETENTION_DAYS="5").retention_days == 5
    assert load(tmp_path, env, environment).retention_days == 4
    assert load(tmp_path, env).retention_days == 3
    assert load(tmp_path, "").retention_days == 7


def test_a_third_database_is_three_lines(tmp_path: Path) -> None:
    found = load(
        tmp_path, 'DATABASES="auth payment shop"\nSHOP_CONTAINER=pg-c\nSHOP_DATABASE=webshop\nSHOP_USER=owner\n'
    )
    shop = found.targets[2]
    assert (shop.name, shop.container, shop.database, shop.user, shop.directory) == (
        "shop",
        "pg-c",
        "webshop",
        "owner",
        "pg-c",
    )
    assert found.targets[:2] == load(tmp_path, "").targets


def test_the_directory_follows_the_container_unless_it_is_set(tmp_path: Path) -> None:
    assert load(tmp_path, "AUTH_CONTAINER=pg\n").targets[0].directory == "pg"
    assert load(tmp_path, "AUTH_CONTAINER=pg\nAUTH_DIR=\n").targets[0].directory == "pg"
    assert load(tmp_path, "AUTH_CONTAINER=pg\nAUTH_DIR=here\n").targets[0].directory == "here"


def test_of_the_environment_only_known_keys_are_read(tmp_path: Path) -> None:
    foreign = {"RETENTION_DAY": "0", "AUTH_PASSWORD": "x", "DATABASE": "y", "PATH": "/bin", "LC_ALL": "tr_TR"}
    assert load(tmp_path, "", foreign) == load(tmp_path, "")


def test_the_environment_may_narrow_the_databases_for_one_run(tmp_path: Path) -> None:
    env = 'DATABASES="auth shop"\nSHOP_USER=owner\nAUTH_USER=a\n'
    assert [target.name for target in load(tmp_path, env, {"DATABASES": "auth"}).targets] == ["auth"]
    assert [target.name for target in load(tmp_path, "PAYMENT_USER=p\n", {"DATABASES": "auth"}).targets] == ["auth"]


def test_chosen_are_the_named_ones_each_once_or_all(tmp_path: Path) -> None:
    found = load(tmp_path, "")
    auth, payment = found.targets
    assert found.chosen(()) == (auth, payment)
    assert found.chosen(("payment", "auth", "payment")) == (payment, auth)
    with pytest.raises(UsageError, match="'paymant'") as caught:
        found.chosen(("paymant",))
    assert caught.value.hint == "choose from: auth, payment"


# --- what values are refused

DIGITS_OF_OTHER_SCRIPTS = "７", "٧", "७", "⁷"
BAD_NUMBERS = ("0", "-1", "7d", "1e9", "1000000000", "36501", "", "+7", "7.0", "0x7", "7 8", "seven", "1_0", "7\n")


@pytest.mark.parametrize("value", [*BAD_NUMBERS, *DIGITS_OF_OTHER_SCRIPTS, " 7", "7\t", "9" * 5000])
def test_a_number_of_days_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    in_file = '\nRETENTION_DAYS="' + value.replace("\n", "\\n") + '"\n'
    for said, place in (
        (refusal(tmp_path, in_file), f"{tmp_path / '.env'}:2: "),
        (refusal(tmp_path, "", {"RETENTION_DAYS": value}), "the environment: "),
    ):
        assert said.startswith(place)
        assert "RETENTION_DAYS=" in said and "must be a whole number from 1 to 36500" in said
        assert len(said) < 300


@pytest.mark.parametrize("value", ["1", "7", "007", "36500"])
def test_a_number_of_days_is_taken(tmp_path: Path, value: str) -> None:
    assert load(tmp_path, f"RETENTION_DAYS={value}\n").retention_days == int(value)
    assert load(tmp_path, f"RETENTION_DAYS= {value} \n").retention_days == int(value), (
        "unquoted blanks are not of the value"
    )


REFUSED = [
    ("BACKUP_DIR", "/"),
    ("BACKUP_DIR", "//"),
    ("BACKUP_DIR", "/."),
    ("BACKUP_DIR", "backups"),
    ("BACKUP_DIR", "./backups"),
    ("BACKUP_DIR", "~/backups"),
    ("BACKUP_DIR", "/opt/../etc"),
    ("BACKUP_DIR", "/opt/backups/.."),
    ("BACKUP_DIR", ""),
    ("BACKUP_DIR", "/opt/a\nb"),
    ("BACKUP_MOUNT", "opt"),
    ("MIN_BACKUPS", "0"),
    ("DOCKER", ""),
    ("DOCKER", "docker '"),
    ("DOCKER", "''"),
    ("AUTH_CONTAINER", ""),
    ("AUTH_CONTAINER", "--help"),
    ("AUTH_CONTAINER", "a/b"),
    ("AUTH_CONTAINER", "a b"),
    ("AUTH_CONTAINER", "../x"),
    ("AUTH_DATABASE", ""),
    ("AUTH_DATABASE", "x" * 64),
    ("AUTH_DATABASE", "ä" * 32),
    ("AUTH_USER", ""),
    ("AUTH_DIR", ".."),
    ("AUTH_DIR", ".hidden"),
    ("AUTH_DIR", "a/b"),
    ("AUTH_DIR", "/a"),
    ("AUTH_CLIENT", "ssh"),
    ("AUTH_CLIENT", ""),
    ("AUTH_CLIENT", "Auto"),
    ("AUTH_PASSFILE", "pgpass"),
    ("AUTH_SERVICES", "a --force"),
    ("AUTH_HEALTH_URL", "file:///etc/passwd"),
    ("AUTH_HEALTH_URL", "https://[::1/"),
    ("AUTH_HEALTH_URL", "https:///health"),
    ("AUTH_URL", "mysql://h/auth_db"),
    ("AUTH_URL", "postgresql://u@h:port/auth_db"),
    ("AUTH_URL", "postgresql://[h/auth_db"),
]


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_a_value_that_is_not_allowed_is_refused(tmp_path: Path, key: str, value: str) -> None:
    assert f"{key}" in refusal(tmp_path, "", {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("BACKUP_DIR", "/b"),
        ("BACKUP_DIR", "/mnt/my backups/ünï..code"),
        ("BACKUP_MOUNT", "/"),
        ("BACKUP_MOUNT", ""),
        ("DOCKER", "docker --host 'unix:///run/my docker.sock'"),
        ("AUTH_CONTAINER", "0123456789ab"),
        ("AUTH_CONTAINER", "project_postgres.1-a"),
        ("AUTH_DATABASE", "x" * 63),
        ("AUTH_DATABASE", "../x; $(id)\n`'\""),
        ("AUTH_DIR", "my dir"),
        ("AUTH_SERVICES", ""),
        ("AUTH_HEALTH_URL", ""),
        ("AUTH_URL", "postgresql:///auth_db?host=/run/postgresql"),
        ("AUTH_URL", "postgresql://u@[::1]:5432/auth_db"),
        ("AUTH_URL", "postgresql://u@h"),
    ],
)
def test_an_odd_value_that_is_allowed_is_taken(tmp_path: Path, key: str, value: str) -> None:
    load(tmp_path, "", {key: value})


def test_a_doubled_slash_is_the_same_directory(tmp_path: Path) -> None:
    assert load(tmp_path, "BACKUP_DIR=//opt//backups/\n").backup_dir == Path("/opt/backups")


SECRETS = [
    "postgresql://u:hunter2@h/auth_db",
    "postgresql://u:hunter2@h:port/auth_db",
    "postgresql://:hunter2@h/auth_db",
    "postgresql://u@h/auth_db?password=hunter2",
    "postgresql://u@h/auth_db?sslmode=require&sslpassword=hunter2",
    "postgresql://u@h/auth_db?%70assword=hunter2",
    "u:hunter2@h",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    for said in (refusal(tmp_path, f"AUTH_URL='{url}'\n"), refusal(tmp_path, "", {"AUTH_URL": url})):
        assert "AUTH_URL" in said and "password" in said
        assert "hunter2" not in said


def test_a_password_in_a_health_url_is_not_repeated(tmp_path: Path) -> None:
    assert "hunter2" not in refusal(tmp_path, "AUTH_HEALTH_URL=ftp://u:hunter2@h/\n")


# --- what does not fit together


@pytest.mark.parametrize(
    "value", ["", " ", "auth auth", "Auth", "1auth", "auth,payment", "auth-db", "a" * 32, "ａuth", "auth/../x"]
)
def test_names_that_are_none_are_refused(tmp_path: Path, value: str) -> None:
    assert "DATABASES=" in refusal(tmp_path, f"DATABASES='{value}'\n")


@pytest.mark.parametrize(
    ("names", "key"),
    [
        ("auth auth_health", "AUTH_HEALTH_URL"),
        ("auth_health auth", "AUTH_HEALTH_URL"),
        ("backup", "BACKUP_DIR"),
    ],
)
def test_two_owners_of_one_key_are_refused(tmp_path: Path, names: str, key: str) -> None:
    assert key in refusal(tmp_path, f'DATABASES="{names}"\n')


@pytest.mark.parametrize("names", ["auth auth_db", "a a_url a_user", "auth auth_1 auth_health_1"])
def test_names_that_only_begin_alike_are_fine(tmp_path: Path, names: str) -> None:
    found = load(tmp_path, f'DATABASES="{names}"\n{names.split()[-1].upper()}_USER=me\n')
    assert [target.name for target in found.targets] == names.split()
    assert [target.user for target in found.targets].count("me") == 1


def test_two_databases_with_the_same_files_are_refused(tmp_path: Path) -> None:
    same = "AUTH_DIR=d\nPAYMENT_DIR=d\n"
    assert "'d/auth_db_*'" in refusal(tmp_path, same + "PAYMENT_DATABASE=auth_db\n")
    load(tmp_path, same)
    load(tmp_path, "PAYMENT_DATABASE=auth_db\n")


@pytest.mark.parametrize("names", [("app", "app_manual"), ("app_manual", "app")])
def test_a_database_whose_files_look_handmade_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    lines = f"AUTH_DATABASE={names[0]}\nPAYMENT_DATABASE={names[1]}\n"
    assert "app_manual_*" in refusal(tmp_path, "AUTH_DIR=d\nPAYMENT_DIR=d\n" + lines)
    load(tmp_path, lines)


def test_a_direct_client_needs_a_url(tmp_path: Path) -> None:
    assert "AUTH_CLIENT=direct needs AUTH_URL" in refusal(tmp_path, "AUTH_CLIENT=direct\n")
    load(tmp_path, "AUTH_CLIENT=direct\nAUTH_URL=postgresql://auth_user@h/auth_db\n")


WITH_OTHER = ["postgresql://me@h/other", "postgresql://me@h/?dbname=other", "postgresql://m%65@h/o%74her"]
WITH_OTHER += ["postgresql://h/other?user=me", "postgresql://me@[::1]:5432/other?sslmode=require"]


@pytest.mark.parametrize("url", WITH_OTHER)
def test_a_url_supplies_what_nobody_set(tmp_path: Path, url: str) -> None:
    found = load(tmp_path, f"DATABASES=wiki\nWIKI_URL={url}\n").targets[0]
    assert (found.client, found.database, found.user, found.url) == ("direct", "other", "me", url)
    same = load(tmp_path, f"DATABASES=wiki\nWIKI_URL={url}\nWIKI_DATABASE=other\nWIKI_USER=me\nWIKI_CLIENT=direct\n")
    assert same.targets[0] == found
    assert load(tmp_path, f"AUTH_URL={url}\nAUTH_CLIENT=exec\n").targets[0].client == "exec"


@pytest.mark.parametrize("url", WITH_OTHER)
@pytest.mark.parametrize(("key", "value", "named"), [("DATABASE", "mine", "other"), ("USER", "somebody", "me")])
def test_a_url_that_names_another_than_was_set_is_refused(
    tmp_path: Path, url: str, key: str, value: str, named: str
) -> None:
    said = refusal(tmp_path, f"AUTH_URL={url}\nAUTH_{key}={value}\n")
    assert said.startswith(f"{tmp_path / '.env'}:1: AUTH_URL names the ")
    assert f"'{named}'" in said and f"AUTH_{key} '{value}'" in said


def test_a_url_without_database_and_role_leaves_the_defaults(tmp_path: Path) -> None:
    found = load(tmp_path, "AUTH_URL=postgresql://h\n").targets[0]
    assert (found.client, found.database, found.user) == ("direct", "auth_db", "auth_user")
    assert "AUTH_DATABASE" in refusal(tmp_path, f"AUTH_URL=postgresql://h/{'x' * 64}\n")


def test_a_dump_that_waits_for_a_lock_is_not_stalled(tmp_path: Path) -> None:
    assert "STALL_SECONDS=300 must exceed LOCK_WAIT_SECONDS=300" in refusal(tmp_path, "STALL_SECONDS=300\n")


def test_the_client_of_the_command_line_is_for_all(tmp_path: Path) -> None:
    found = load(tmp_path, "")
    assert config.with_client(found, None) == found
    assert {target.client for target in config.with_client(found, "exec").targets} == {"exec"}
    for kind in ("ssh", "", "direct"):
        with pytest.raises(ConfigurationError):
            config.with_client(found, kind)


# --- all at once


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = ["DATABASES=shop", "AUTH_CONTAINER=a", "no setting", "RETENTION_DAYS=7d", "RETENTION_DAYS=8", "AUTH_USER=a"]
    lines += ["SHOP_CONTAINER=a/b", "SHOP_CLIENT=direct", "STALL_SECONDS=1"]
    said = refusal(tmp_path, "\n".join(lines), {"MIN_BACKUPS": "0"}).splitlines()
    assert said[0] == "8 settings cannot be used:"
    file = tmp_path / ".env"
    told = [
        "unknown setting 'AUTH_CONTAINER'",
        "cannot be read",
        "RETENTION_DAYS='7d' must be",
        "'RETENTION_DAYS' is set",
    ]
    told += ["unknown setting 'AUTH_USER'", "SHOP_CONTAINER='a/b' must be"]
    for line, place, what in zip(said[1:], (2, 3, 4, 5, 6, 7), told, strict=False):
        assert line.startswith(f"  {file}:{place}: {what}"), line
    assert "the environment: MIN_BACKUPS='0'" in "\n".join(said[7:9]) and "STALL_SECONDS=1 must" in "\n".join(said[7:9])
    assert "\n".join(said).count("DATABASES has no 'auth'") == 1, "a hint is told once"


@pytest.mark.parametrize(
    "wrong",
    [
        ["AUTH_CONTAINER=a/b", "PAYMENT_DIR=.."],
        ["AUTH_CLIENT=direct", "PAYMENT_CLIENT=direct"],
        ["AUTH_URL=postgresql://h/a", "AUTH_DATABASE=b", "PAYMENT_URL=postgresql://h/a", "PAYMENT_DATABASE=b"],
        ["RETENTION_DAYS=0", "MIN_BACKUPS=0"],
        ["DATABASES=Auth", "ZZZ=1"],
        ["DATABASES='auth auth_health'", "ZZZ=1"],
        ["BACKUP_DIR=x", "STALL_SECONDS=300"],
    ],
)
def test_two_things_that_are_wrong_are_never_told_one_after_the_other(tmp_path: Path, wrong: list[str]) -> None:
    assert refusal(tmp_path, "\n".join(wrong)).startswith("2 settings cannot be used:")


def test_where_the_names_cannot_be_read_no_databases_setting_is_called_unknown(tmp_path: Path) -> None:
    said = refusal(tmp_path, "DATABASES=a-b\nSHOP_USER=me\n")
    assert "DATABASES='a-b'" in said and "SHOP_USER" not in said


def test_a_file_that_is_none_of_settings_does_not_fill_the_screen(tmp_path: Path) -> None:
    said = refusal(tmp_path, "".join(f"V{number}=1\n" for number in range(2000))).splitlines()
    assert said[0] == "2000 settings cannot be used:" and said[61] == "  and 1940 more" and len(said) < 70


# --- whatever is written


@settings(max_examples=chosen(60, 300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(KEYS), value=st.text(max_size=100))
def test_any_text_in_any_key_is_taken_or_refused(tmp_path: Path, key: str, value: str) -> None:
    try:
        load(tmp_path, "", {key: value})
    except ConfigurationError as error:
        assert key in error.message or "DATABASES" in error.message


# --- places elsewhere


def test_without_a_place_elsewhere_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path, "").offsite == ()


def test_each_place_elsewhere_has_settings_of_its_own(tmp_path: Path) -> None:
    text = 'OFFSITE="s3 nas"\nS3_REMOTE=aws:bucket/backups/\nS3_LOCK_DAYS=30\nNAS_REQUIRED=no\nNAS_ENCRYPTED=no\n'
    s3, nas = load(tmp_path, text + 'NAS_BANDWIDTH="08:00,512k 19:00,off"\n').offsite
    assert (s3.name, s3.remote, s3.bandwidth, s3.lock_days) == ("s3", "aws:bucket/backups", "", 30)
    assert (s3.required, s3.encrypted) == (True, True)
    assert (nas.remote, nas.bandwidth, nas.lock_days) == ("nas:backups", "08:00,512k 19:00,off", 0)
    assert (nas.required, nas.encrypted) == (False, False)


def test_a_place_is_chosen_by_its_name(tmp_path: Path) -> None:
    found = load(tmp_path, 'OFFSITE="s3 nas"\n')
    assert found.place("nas") is found.offsite[1]
    with pytest.raises(UsageError, match="no place 'nass'") as caught:
        found.place("nass")
    assert caught.value.hint == "choose from: s3, nas"
    with pytest.raises(UsageError, match="no place 's3'"):
        load(tmp_path, "").place("s3")


# The last but one would put a secret on every command line of rclone.
BAD_REMOTES = ("", "bucket", ":s3:bucket", "s3:a/../b", "-x:y", "/mnt/nas", ":s3,secret_access_key=x:bucket", "a,b=c:d")


@pytest.mark.parametrize("value", BAD_REMOTES)
def test_a_remote_that_rclone_would_not_find_in_its_file_is_refused(tmp_path: Path, value: str) -> None:
    assert "S3_REMOTE=" in refusal(tmp_path, f'OFFSITE=s3\nS3_REMOTE="{value}"\n')


@pytest.mark.parametrize("value", ["fast", "10 M", "25:99,1M,", "08:00", "-1", "--config=x", "08:00,512k  19:00,off"])
def test_a_bandwidth_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    assert "S3_BANDWIDTH=" in refusal(tmp_path, f'OFFSITE=s3\nS3_BANDWIDTH="{value}"\n')


@pytest.mark.parametrize("value", ["", "10M", "1.5M", "512k", "08:00,512k 19:00,off", "Mon-08:00,512 Sat-00:00,off"])
def test_a_bandwidth_is_taken_as_rclone_takes_it(tmp_path: Path, value: str) -> None:
    assert load(tmp_path, f'OFFSITE=s3\nS3_BANDWIDTH="{value}"\n').offsite[0].bandwidth == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("S3_REMOTE=x:y\n", "OFFSITE has no 's3': add it there"),
        ("OFFSITE=s3\nS3_REMOT=x:y\n", "did you mean S3_REMOTE?"),
        ("OFFSITE=s3\nS3_LOCK_DAY=3\n", "did you mean S3_LOCK_DAYS?"),
        ("OFSITE=s3\n", "did you mean OFFSITE?"),
        ("OFFSITE=auth\n", "'auth' cannot be a name: a database in DATABASES has it"),
        ("OFFSITE=S3\n", "OFFSITE='S3' must be"),
        ('OFFSITE="s3 s3"\n', "must be different names"),
    ],
)
def test_what_is_wrong_with_the_names_of_places_is_told(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_one_key_of_a_database_and_of_a_place_is_refused(tmp_path: Path) -> None:
    """No two rows end alike today; what a later one brings is seen here."""
    assert not {row.key for row in PLACE_SETTINGS} & {row.key for row in TARGET_SETTINGS}
    assert not {f"{row.key}" for row in GLOBAL_SETTINGS if row.key.startswith("OFFSITE_")} & {
        f"OFFSITE_{row.key}" for row in PLACE_SETTINGS
    }
