#!/usr/bin/env bash
# Runs once, on the first start of a database: what `heliosdb up` does to its private clusters
# (src/heliosdb/cli/embedded/prepare.py). A participant's database gets the extension; in the coordinator's,
# CREATE EXTENSION is the first statement of its user.
set -euo pipefail

psql=(psql --set ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER")

"${psql[@]}" --dbname template1 --command 'CREATE EXTENSION IF NOT EXISTS plpython3u'
"${psql[@]}" --dbname "$POSTGRES_DB" <<'SQL'
CREATE EXTENSION IF NOT EXISTS plpython3u;
CREATE ROLE federated_daemon NOLOGIN;
CREATE ROLE federated_reader NOLOGIN;
CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon;
CREATE ROLE heliosdb_reader LOGIN IN ROLE federated_reader;
SQL
if [ "$HELIOSDB_DATABASE_OF" = node ]; then
    "${psql[@]}" --dbname "$POSTGRES_DB" --command 'CREATE EXTENSION heliosdb_federated_learning'
fi
