#!/bin/sh
# Makes the passwords of docker/compose.yaml, each once, and writes each where only its reader sees
# it: a volume for each kind of reader. A second run changes nothing, but that production replaces
# the passwords that everybody knows. To choose one yourself, write its file before the first start.
set -eu
umask 077

root=${SECRETS_ROOT:-/secrets}
# The users of the containers that read them.
app=10001 postgres=999 valkey=999 grafana=472

random() {
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

# write FILE VALUE: whole or not at all.
write() {
    mkdir -p "$(dirname "$root/$1")"
    printf '%s\n' "$2" >"$root/$1.new"
    mv "$root/$1.new" "$root/$1"
}

# keep FILE [KNOWN]: print what the file holds. A new one is random; KNOWN where it is development.
keep() {
    value=
    if [ -s "$root/$1" ]; then value=$(cat "$root/$1"); fi
    if [ "${APP_ENV:-development}" = production ] && [ "$value" = "${2:-}" ]; then value=; fi
    if [ -z "$value" ]; then
        value=$(random)
        if [ -n "${2:-}" ] && [ "${APP_ENV:-development}" != production ]; then value=$2; fi
        write "$1" "$value"
    fi
    printf '%s' "$value"
}

# give OWNER MODE DIRECTORY
give() {
    chmod "$2" "$root/$3"/*
    chmod 0755 "$root/$3"
    # Without root, in a test, they stay whose they are.
    if [ "$(id -u)" = 0 ]; then chown "$1:$1" "$root/$3"/*; fi
}

keep app/secret_key >/dev/null
keep app/admin_password admin123 >/dev/null
keep postgres/superuser_password >/dev/null
keep grafana/grafana_admin_password admin >/dev/null

owner=$(keep postgres/owner_password)
write app/database_url "postgresql://bountycoder:$owner@postgres:5432/bountycoder"

reader=$(keep app/grafana_database_password)
write grafana/grafana_database_password "$reader"

exporter=$(keep postgres/exporter_password)
write exporters/postgres_password "$exporter"

redis=$(keep redis/password)
write app/redis_url "redis://:$redis@redis:6379/0"
write exporters/redis_passwords.json "{\"redis://redis:6379\": \"$redis\"}"
write redis/valkey.conf "# Made by docker/secrets.sh.
bind * -::*
port 6379
dir /data
requirepass $redis
appendonly yes
appendfsync everysec
maxmemory ${REDIS_MAXMEMORY:-768mb}
maxmemory-policy noeviction"

give "$app" 0400 app
give "$postgres" 0400 postgres
give "$valkey" 0400 redis
give "$grafana" 0400 grafana
# Two exporters with two users: their volume is theirs alone.
give 65534 0444 exporters
