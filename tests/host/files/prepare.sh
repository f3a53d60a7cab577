#!/bin/sh
# Makes of a bare Debian the host of the payment system; runs once, while the image is built.
set -eu

# No registration, no terminal, no timers of Debian's own: what fires here is the suite's.
systemctl mask console-getty.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer \
	dpkg-db-backup.timer e2scrub_all.timer systemd-networkd-wait-online.service >/dev/null 2>&1
systemctl enable nginx.service docker.service cron.service ssh.service >/dev/null 2>&1

# The HTTPS front of the services, with a certificate of its own.
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
	-keyout /etc/ssl/private/front.key -out /etc/ssl/certs/front.pem 2>/dev/null
rm -f /etc/nginx/sites-enabled/default
mv /srv/payment/front.conf /etc/nginx/sites-enabled/front
nginx -t -q

# root may go from one host of the tests to the other.
install -d -m 0700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys

# aws finds the server of the tests instead of Amazon's; `aws configure` adds to this file.
install -d -m 0700 /root/.aws
printf '[default]\nendpoint_url = http://backup-server:5000\n' >/root/.aws/config
mv /srv/payment/aws.sh /usr/local/bin/aws
chmod 0755 /usr/local/bin/aws
