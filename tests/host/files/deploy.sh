#!/bin/sh
# Deploys the payment system: two databases and four services. deploy.sh USERS: how many users are made up
set -eu
image=pgbackup-test/postgres:15
docker network inspect payment >/dev/null 2>&1 || docker network create payment >/dev/null

# database CONTAINER USER DATABASE
database() {
	docker run -d --name "$1" --network payment --restart unless-stopped -e POSTGRES_USER="$2" -e POSTGRES_DB="$3" \
		-e POSTGRES_PASSWORD=payment-system "$image" postgres -c fsync=off >/dev/null
}

# filled CONTAINER USER DATABASE ROWS: when it answers over TCP its own set-up is over.
filled() {
	tries=0
	until docker exec "$1" pg_isready -q -h 127.0.0.1; do
		tries=$((tries + 1))
		[ "$tries" -lt 300 ] || exit 1
		sleep 0.1
	done
	docker exec -i "$1" psql -q -X -U "$2" -d "$3" -v rows="$4" <"/srv/payment/$3.sql"
	# The role that the guide's `psql -U postgres` takes for granted.
	docker exec "$1" psql -q -X -U "$2" -d postgres -c 'CREATE ROLE postgres SUPERUSER LOGIN'
}

# service NAME PORT DATABASE-SERVER USER DATABASE: Python is the host's; the image holds only a Debian.
service() {
	docker run -d --name "$1" --network payment --restart unless-stopped -p "127.0.0.1:$2:8080" \
		-v /usr:/usr:ro -v /srv/payment:/srv/payment:ro --user 65534 --entrypoint /usr/bin/python3 "$image" \
		/srv/payment/service.py "host=$3 user=$4 dbname=$5 password=payment-system connect_timeout=5" >/dev/null
}

database postgres-a auth_user auth_db
database postgres-b payment_user payment_db
filled postgres-a auth_user auth_db "$1"
filled postgres-b payment_user payment_db "$1"
service service-a-1 8101 postgres-a auth_user auth_db
service service-a-2 8102 postgres-a auth_user auth_db
service service-b-1 8201 postgres-b payment_user payment_db
service service-b-2 8202 postgres-b payment_user payment_db
