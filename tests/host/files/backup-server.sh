#!/bin/sh
# The other place: reachable by ssh, and an S3-compatible server.
set -eu
mkdir -p /backups /run/sshd
cd /tmp
PYTHONPATH=/opt/aws python3 -m moto.server -H 0.0.0.0 -p 5000 &
exec /usr/sbin/sshd -D -e
