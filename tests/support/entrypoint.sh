#!/bin/sh
# Behaves like the entrypoint of the official postgres image, as far as the suite can tell the difference.
set -eu

# "docker run IMAGE -c fsync=off" is short for "… postgres -c fsync=off".
case ${1:-} in -*) set -- postgres "$@" ;; esac
[ "${1:-}" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA"
	chmod 0700 "$PGDATA"
	find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres:postgres {} +
	exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
[ ! -s "$PGDATA/PG_VERSION" ] || exec "$@"

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "$method" != trust ]; then
	echo 'Error: Database is uninitialized and superuser password is not specified.' >&2
	echo '       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser.' >&2
	exit 1
fi

secret=$(mktemp)
printf '%s\n' "${POSTGRES_PASSWORD:-}" >"$secret"
[ -n "${POSTGRES_PASSWORD:-}" ] || rm "$secret"
# POSTGRES_INITDB_ARGS unquoted on purpose, as in the official image: it holds several arguments.
# shellcheck disable=SC2086
initdb --username="$user" --auth=trust ${POSTGRES_PASSWORD:+--pwfile="$secret"} ${POSTGRES_INITDB_ARGS:-}
rm -f "$secret"
printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

# A server for the set-up alone, which nobody outside can reach.
"$@" -c listen_addresses= &
server=$!
until pg_isready -q -U "$user" -d postgres; do
	kill -0 "$server" || exit 1
	sleep 0.05
done

run_sql() {
	psql -X -v ON_ERROR_STOP=1 --no-password -U "$user" "$@"
}
if [ "$database" != postgres ]; then
	echo 'CREATE DATABASE :"name";' | run_sql -d postgres -v name="$database"
fi
for file in /docker-entrypoint-initdb.d/*; do
	case $file in
	*.sql) run_sql -d "$database" -f "$file" ;;
	*.sql.gz) gunzip -c "$file" | run_sql -d "$database" ;;
	*.sh)
		# shellcheck disable=SC1090 # whatever the test put there
		if [ -x "$file" ]; then "$file"; else . "$file"; fi
		;;
	esac
done

kill -INT "$server"
wait "$server"
echo
echo 'PostgreSQL init process complete; ready for start up.'
echo
exec "$@"
