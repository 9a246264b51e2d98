#!/usr/bin/env bash
# One role and one database for each service. The role owns its database, may enter no other, and is nobody's administrator.
#
# PostgreSQL's image runs this once, on an empty data folder. It may be run again at any time, for a new service or other passwords:
#   docker compose exec postgres bash /docker-entrypoint-initdb.d/init.sh
set -euo pipefail

# Passwords go through the environment of psql, never through a command line.
create_service() {
    SERVICE="$1" PASSWORD="$2" psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 \
        --username "${POSTGRES_USER:-postgres}" --dbname "${POSTGRES_DB:-postgres}" <<'SQL'
\getenv service SERVICE
\getenv password PASSWORD
-- Neither the password nor its length is written to the server's log.
set log_statement = 'none';
set log_min_duration_statement = -1;
set log_min_error_statement = 'panic';
select format('create role %I', :'service') where not exists (select from pg_roles where rolname = :'service') \gexec
alter role :"service" login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password :'password';
select format('create database %I owner %I', :'service', :'service')
where not exists (select from pg_database where datname = :'service') \gexec
revoke all on database :"service" from public;
SQL
}

# Every role could enter the server's own databases, too.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname "${POSTGRES_DB:-postgres}" \
    --command 'revoke all on database postgres, template1 from public'

create_service users "${USERS_DATABASE_PASSWORD:?}"
create_service orders "${ORDERS_DATABASE_PASSWORD:?}"
create_service inventory "${INVENTORY_DATABASE_PASSWORD:?}"
create_service payments "${PAYMENTS_DATABASE_PASSWORD:?}"
create_service notifications "${NOTIFICATIONS_DATABASE_PASSWORD:?}"
create_service access_log "${ACCESS_LOG_DATABASE_PASSWORD:?}"

# Whoever measures: it may read statistics, and enters the server's own database only.
SERVICE=postrider_monitor PASSWORD="${MONITOR_DATABASE_PASSWORD:?}" psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 \
    --username "${POSTGRES_USER:-postgres}" --dbname "${POSTGRES_DB:-postgres}" <<'SQL'
\getenv service SERVICE
\getenv password PASSWORD
set log_statement = 'none';
set log_min_duration_statement = -1;
set log_min_error_statement = 'panic';
select format('create role %I', :'service') where not exists (select from pg_roles where rolname = :'service') \gexec
alter role :"service" login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password :'password';
grant pg_monitor to :"service";
grant connect on database postgres to :"service";
SQL
