#!/bin/sh
# Runs once, when PostgreSQL's volume is new. The service owns its database without being superuser,
# and may create Grafana's role. The exporter can read statistics but no rows.
set -eu
export SECRETS="${SECRETS:-/run/secrets}"

psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" \
    --dbname=postgres <<'EOSQL'
\set owner `cat "$SECRETS/owner_password"`
\set exporter `cat "$SECRETS/exporter_password"`
CREATE ROLE bountycoder LOGIN CREATEROLE PASSWORD :'owner';
CREATE DATABASE bountycoder OWNER bountycoder TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
CREATE ROLE exporter LOGIN PASSWORD :'exporter' IN ROLE pg_monitor;
EOSQL
