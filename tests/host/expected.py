"""Which command of the runbook has to do what. A command that is not in here fails its test."""

from __future__ import annotations

import re

from tests.host.effects import (
    CRON_JOB,
    Effect,
    adds_the_cron_job,
    all_are_healthy,
    all_is_kept,
    changes_nothing,
    copied,
    databases,
    deletes,
    drops_old,
    ends_sessions,
    finds_a_large_file,
    holds,
    is_json_without_a_bad_file,
    loaded,
    made_by_hand,
    nothing_said,
    only_foreign_jobs,
    only_the_first_user,
    publishes,
    recovered,
    registers,
    restarts,
    restored,
    restored_beside,
    rolled_back,
    shows,
    shows_the_timer,
    starts,
    stops,
)
from tests.host.host import SCRIPTS

_LISTS = r"-rw------- .* deployer +deployer .* {}_db_\d{{8}}_\d{{6}}\.sql\.gz$"
_THERE = "ssh -o StrictHostKeyChecking=no backup-server"
_RECEIVER = "postgres-wal@payment.service"
_HAND_B = r"docker exec postgres-b psql -U payment_user -d postgres -c"

# The first pattern that is found at the start of a command decides.
EXPECTED: tuple[tuple[str, Effect], ...] = (
    (r"cd /", shows()),
    (r"sudo make install", holds(f"runuser -u deployer -- {SCRIPTS}/backup-postgres.sh --version")),
    # Back up.
    (r"sudo -u deployer \S+/backup-postgres.sh --dry-run", changes_nothing),
    (r"sudo -u deployer \S+/backup-postgres.sh auth$", publishes("auth")),
    (r"sudo -u deployer \S+/backup-postgres.sh$", publishes("auth", "payment")),
    (r"docker exec postgres-a pg_dump", made_by_hand("auth")),
    (r"docker exec postgres-b pg_dump", made_by_hand("payment")),
    (r"ls -l[th]+ /opt/backups/postgres-a/ \| head", shows(_LISTS.format("auth"))),
    (r"ls -l[th]+ /opt/backups/postgres-b/ \| head", shows(_LISTS.format("payment"))),
    (r"ls -l[th]+ /opt/backups/postgres-a/$", shows(_LISTS.format("auth"), r"auth_db_LATEST\.sql\.gz -> auth_db_")),
    (r"ls -l[th]+ /opt/backups/postgres-b/$", shows(_LISTS.format("payment"))),
    # Cron.
    (r"sudo \S+/setup-backup-cron.sh$", adds_the_cron_job),
    (r"sudo \S+/setup-backup-cron.sh --schedule every-6h --dry-run", changes_nothing),
    (
        r"sudo \S+/setup-backup-cron.sh --schedule every-6h",
        holds(
            r"test $(crontab -u deployer -l | grep -cE '^[0-9]+ \*/6 \* \* \* BACKUP_DIR=.*/backup-postgres.sh$') = 1"
        ),
    ),
    (r"sudo \S+/setup-backup-cron.sh --uninstall", only_foreign_jobs),
    (r"crontab -u deployer -l \| grep backup", shows(rf"^{re.escape(CRON_JOB)}$")),
    (r"crontab -u deployer -l \| grep -v", only_foreign_jobs),
    (r"crontab -u deployer -l$", shows(r"RETENTION_DAYS=14 \S+/backup-postgres\.sh$")),
    (r"tail -f ", shows(r"event=\S+")),
    (r"tail -100 ", shows(r"event=run\.finish status=0", r"event=backup\.published")),
    # Systemd.
    (
        r"sudo \S+/setup-backup-systemd.sh$",
        holds(
            "systemctl is-active postgres-{backup,verify,drill}.timer"
            " && systemctl is-enabled postgres-{backup,verify,drill}.timer"
        ),
    ),
    (r"sudo \S+/setup-backup-systemd.sh --uninstall", holds("! ls /etc/systemd/system/postgres-*")),
    (r"systemctl status postgres-backup.timer", shows_the_timer),
    (
        r"systemctl list-timers",
        shows(r"02:00:00 .* postgres-backup\.timer +postgres-backup\.service", r"^1 timers listed"),
    ),
    (
        r"sudo systemctl start postgres-backup.timer",
        holds("systemctl is-active postgres-backup.timer", "systemctl stop postgres-backup.timer"),
    ),
    (r"sudo systemctl stop postgres-backup.timer", holds("! systemctl is-active postgres-backup.timer")),
    (
        r"sudo systemctl enable postgres-backup.timer",
        holds("systemctl is-enabled postgres-backup.timer", "systemctl disable postgres-backup.timer"),
    ),
    (r"sudo systemctl disable postgres-backup.timer", holds("! systemctl is-enabled postgres-backup.timer")),
    (r"sudo systemctl start postgres-backup.service", publishes("auth", "payment")),
    (
        r"sudo systemctl start postgres-verify.service",
        holds("systemctl show -p Result postgres-verify.service | grep -x Result=success"),
    ),
    (
        r"sudo systemctl start postgres-drill.service",
        holds("journalctl -u postgres-drill.service | grep -q 'payment: drilled .* all equal'"),
    ),
    (
        r"journalctl -u postgres-backup.service",
        shows(r"Finished postgres-backup\.service", r"auth_db_\d{8}_\d{6}\.sql\.gz"),
    ),
    (
        r"sudo systemctl daemon-reload",
        holds("systemctl show -p Environment postgres-backup.service | grep -w RETENTION_DAYS=14"),
    ),
    # Drill.
    (r"sudo -u deployer \S+/drill-backups.sh$", shows(r"^auth +passed +\d", r"^payment +passed +\d")),
    (r"sudo -u deployer \S+/drill-backups.sh auth --file", shows(r"^auth +passed +\d", r"compared: rows, content")),
    # Verify.
    (r"\S+/verify-backups.sh.* --json", is_json_without_a_bad_file),
    (r"\S+/verify-backups.sh", shows(r"auth_db_\d{8}_\d{6}\.sql\.gz", r"payment_db_\d{8}_\d{6}\.sql\.gz")),
    (r"gunzip -t ", nothing_said),
    (r"gunzip -c \S+ \| grep -c", shows(r"^[1-9]\d*$")),
    # Point in time.
    (
        r"sudo \S+/setup-wal-archiving.sh payment$",
        holds(f"systemctl is-active {_RECEIVER} && {SCRIPTS}/restore-postgres.sh payment --window"),
    ),
    (
        r"sudo \S+/setup-wal-archiving.sh payment --uninstall",
        holds(f"! systemctl is-active {_RECEIVER} && ! pgrep -u deployer -f receive-wal"),
    ),
    (r"\S+/restore-postgres.sh payment --window", shows(r"recoverable +20\d\d-")),
    (r"systemctl status postgres-wal@payment", shows(r"Active: active \(running\)")),
    (r"journalctl -u postgres-wal@payment", shows(r"receiving WAL from")),
    (r"docker exec postgres-b .*pg_create_restore_point", shows(r"^ [0-9A-F]+/[0-9A-F]+$")),
    (rf'{_HAND_B} "DROP DATABASE payment_db_at', databases("payment", gone="payment_db_at_1337", there="payment_db")),
    # Restore.
    (r"sudo \S+/restore-postgres.sh auth --list", shows(r"auth_db_\d{8}_\d{6}\.sql\.gz .* \d{4}-\d\d-\d\d  ")),
    (r"sudo \S+/restore-postgres.sh auth auth_db_LATEST.sql.gz --dry-run", changes_nothing),
    (r"sudo \S+/restore-postgres.sh auth --rollback", rolled_back),
    (r"sudo \S+/restore-postgres.sh auth --history", shows("rollback", "restore")),
    (r"sudo \S+/restore-postgres.sh auth auth_db_LATEST.sql.gz --into", restored_beside),
    (r"sudo \S+/restore-postgres.sh auth --drop-old", drops_old("auth")),
    (r"sudo \S+/restore-postgres.sh payment --drop-old", drops_old("payment")),
    (r"sudo \S+/restore-postgres.sh payment --to-time .* --into", recovered("payment_db_at_1337")),
    (r"sudo \S+/restore-postgres.sh payment --to-time ", recovered()),
    (r"sudo \S+/restore-postgres.sh payment --latest", recovered(latest=True)),
    (r"sudo \S+/restore-postgres.sh payment --from nas --window", shows(r"recoverable +20\d\d-")),
    (r"sudo \S+/restore-postgres.sh payment --from nas --latest", restored("payment")),
    (r"sudo \S+/restore-postgres.sh auth --from nas --list", shows(r"auth_db_\d{8}_\d{6}\.sql\.gz .* encrypted")),
    (r"sudo \S+/restore-postgres.sh auth ", restored("auth")),
    (r"sudo \S+/restore-postgres.sh payment ", restored("payment")),
    # By hand.
    (r"docker stop service-a", stops("auth")),
    (r"docker stop service-b", stops("payment")),
    (r"docker start service-a", starts("auth")),
    (r"docker start service-b", starts("payment")),
    (r"docker restart service-a", restarts),
    (r"docker logs service-a-1", shows("listening")),
    (r"docker exec postgres-a psql -U \w+ (-d postgres )?-c \\\n +\"SELECT pg_terminate", ends_sessions("auth")),
    (rf"{_HAND_B} \\\n +\"SELECT pg_terminate", ends_sessions("payment")),
    (r'docker exec postgres-a .*"DROP DATABASE auth_db', databases("auth", gone="auth_db")),
    (r'docker exec postgres-a .*"DROP DATABASE auth_lookup', databases("auth", gone="auth_lookup", there="auth_db")),
    (r'docker exec postgres-a .*"CREATE DATABASE', databases("auth", there="auth_db")),
    (rf'{_HAND_B} "DROP DATABASE', databases("payment", gone="payment_db")),
    (rf'{_HAND_B} "CREATE DATABASE', databases("payment", there="payment_db")),
    (r"gunzip -c \S+ \| \\\n +docker exec -i postgres-a", loaded("auth", "users")),
    (r"gunzip -c \S+ \| \\\n +docker exec -i postgres-b", loaded("payment", "payments")),
    (r"docker exec postgres-[ab] .*\\\n.*information_schema.tables", shows(r"^ +[34]$")),
    (r'docker exec postgres-[ab] .*"SELECT COUNT\(\*\) FROM (users|payments)', shows(r"^ +[1-9]\d\d+$")),
    (r"sleep 30", all_are_healthy),
    (r"curl -k https://localhost/\S+", shows('"status": "healthy"')),
    (r"curl -k -X POST [\s\S]*256700123456", registers("+256700123456")),
    (r"curl -k -X POST [\s\S]*256700999999", registers("+256700999999")),
    (r"docker exec postgres-a .*\\\n.*SELECT phone_number", only_the_first_user),
    # Clean-up and monitoring.
    (r"sudo -u deployer \S+/backup-status.sh$", all_is_kept),
    (r"sudo -u deployer \S+/backup-status.sh --history", shows(r"^started \(UTC\) +who", r" backup +auth ")),
    (r"find /opt/backups/postgres-a .* -mtime \+30 -delete", deletes("-32 days", spares="-20 days")),
    (
        r"find /opt/backups/postgres-b .* -mtime \+30 -delete",
        deletes("-32 days", where="postgres-b", spares="-20 days"),
    ),
    (r"find /opt/backups .* -newermt", deletes("2023-12-31", spares="2024-01-02")),
    (r"find /opt/backups .* -mtime \+7 -delete", deletes("-9 days", spares="-6 days")),
    (
        r"find /opt/backups .* -mtime -1$",
        shows(r"^/opt/backups/postgres-a/auth_db_", r"^/opt/backups/postgres-b/payment_db_"),
    ),
    (r"find /opt/backups -type f -size", finds_a_large_file),
    (r"du -sh /opt/backups/postgres-a/\*", shows(r"^[\d.]+K\s+/opt/backups/postgres-a/auth_db_")),
    (r"du -sh /opt/backups/postgres-b/\*", shows(r"^[\d.]+K\s+/opt/backups/postgres-b/payment_db_")),
    (r"du -sh /opt/backups$", shows(r"^[\d.]+[KM]\s+/opt/backups$")),
    (r"df -h /opt/backups", shows(r"Use%", r"\d+% ")),
    (r"if \[ ", nothing_said),
    # Elsewhere.
    (r"rsync -avz", copied(f"{_THERE} find /backups/payment-system", "/opt/backups")),
    (r"scp ", copied(f"{_THERE} ls /backups", "/opt/backups/postgres-a/")),
    (r"aws configure", holds("grep -q AKIAEXAMPLE ~/.aws/credentials")),
    (r"aws s3 cp", copied("aws s3 ls --recursive s3://my-backup-bucket", "/opt/backups/")),
    (r"rsync -av ", holds("test -e /opt/backups/postgres-a/auth_db_LATEST.sql.gz")),
    (r"sudo install -D -m 0600 -o deployer", holds("runuser -u deployer -- test -r /etc/pgbackup/rclone.conf")),
    (r"sudo \S+/setup-encryption.sh --add-recipient", holds("grep -c ^age1 /etc/pgbackup/recipients")),
    (r"sudo shred -u /root/key", holds("! test -e /root/key")),
    (r"chown -R deployer", holds("! find /opt/backups ! -user deployer | grep -q .")),
    # When something is wrong.
    (r"systemctl status docker", shows(r"Active: active \(running\)")),
    (r"docker ps \| grep postgres", shows(r"Up .* postgres-a$", r"Up .* postgres-b$")),
    (r"ls -la /opt/backups", shows(r"drwx------ .* deployer +deployer .* postgres-a", r"-rw-r----- .* backup\.log")),
)

# The line that an editor is given, in place of the first with the word; and what holds then.
EDITS: tuple[tuple[str, str, Effect], ...] = (
    (r"0 2 \* \* \* ", "backup-postgres.sh", holds(f"crontab -u deployer -l | grep -c RETENTION_DAYS=14.*{SCRIPTS}")),
    (
        r"Environment=",
        "RETENTION_DAYS",
        holds("""grep -x 'Environment="RETENTION_DAYS=14"' /etc/systemd/system/postgres-backup.service"""),
    ),
)


class Unknown(Exception):
    """A command of the runbook for which nobody has said what it has to do."""


def effect_of(command: str) -> Effect:
    """Return what a command has to do; raise Unknown."""
    for pattern, effect in EXPECTED:
        if re.match(pattern, command):
            return effect
    raise Unknown(command)
