#!/usr/bin/env bash
# Run pgspot over every SQL script that a superuser will run: the install script, the upgrade script to it and the
# plain installer; or over the files named. Status 0 where it finds nothing but what is accepted here.
#
# pgspot needs an older pglast than this project, so it has an environment of its own, made from its own lock.
#
# Accepted, and why:
#   federated.execute pins no search_path: a dataset's table is looked up in the caller's. It runs with the caller's
#     rights, and every name in it is qualified; the functions that it calls pin theirs. So it is with federated_predict_batch,
#     federated_evaluate, federated_certified_accuracy, federated._gather_evaluated, federated._fetch_block and
#     federated._fetch_rows, in which the caller's query runs.
#   PS002, PS007, PS015 in upgrade scripts (CREATE OR REPLACE): what they replace belongs to the extension, and the
#     server itself refuses to replace what does not (PostgreSQL 14.5 and newer).
#   plpython3u bodies are not analysed by pgspot; they import and call, and name nothing of the database.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=build/pgspot
extension=heliosdb_federated_learning
version=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" "extension/$extension.control")

ensure_pgspot() {
    local wanted
    wanted=$(sha256sum requirements-pgspot.lock | cut -d ' ' -f 1)
    mkdir -p build
    exec 8> build/pgspot.lock
    flock 8
    if [ "$(cat "$environment/.requirements" 2> /dev/null)" != "$wanted" ]; then
        "$(scripts/find-python.sh)" -m venv --clear "$environment"
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
            --requirement requirements-pgspot.lock
        echo "$wanted" > "$environment/.requirements"
    fi
    flock -u 8
}

check() {
    local file=$1 ignored=()
    shift
    case "$(basename "$file")" in
        "$extension"--*--*.plain*.sql) ;;
        "$extension"--*--*.sql) ignored=(--ignore PS002 --ignore PS007 --ignore PS015) ;;
    esac
    echo "pgspot: $file"
    # Inlined, so without a SET clause; every name in them is qualified.
    local one inlined=()
    for one in is_given as_number as_flag as_text as_time as_interval as_array as_image; do
        inlined+=(--proc-without-search-path "federated._$one(value anyelement)")
    done
    local evaluate='model text,query text,resamples integer,confidence double precision,seed bigint,subject text'
    evaluate+=',metric text,value double precision,std_error double precision,conf_low double precision,conf_high double precision'
    local certified='model text,query text,hostile_nodes integer,certified_share double precision,certified_accuracy double precision,row_count bigint'
    # What is bound when it is created, a body of RETURN, is nothing that a search_path can change, and nothing that pgspot reads.
    sed -E -z 's/\nCREATE FUNCTION [^;$]*[[:space:]]RETURN[[:space:]][^;]*;/\n/g' "$file" > "build/pgspot/$(basename "$file")"
    # pgspot's own "clean" is status 0; what it cannot parse is a status too.
    "$environment/bin/pgspot" --ignore-lang plpython3u \
        --proc-without-search-path 'federated.execute(command text)' \
        --proc-without-search-path 'federated._fetch_block(cursor_name text,most integer)' \
        --proc-without-search-path 'federated._gather_evaluated(whole text,statement text,most bigint,OUT rows bytea,OUT taken bigint)' \
        --proc-without-search-path "extschema.federated_evaluate($evaluate)" \
        --proc-without-search-path "public.federated_evaluate($evaluate)" \
        --proc-without-search-path 'federated._fetch_rows(query text)' \
        --proc-without-search-path "extschema.federated_certified_accuracy($certified)" \
        --proc-without-search-path "public.federated_certified_accuracy($certified)" \
        --proc-without-search-path 'extschema.federated_predict_batch(model text,query text)' \
        --proc-without-search-path 'public.federated_predict_batch(model text,query text)' \
        --proc-without-search-path 'extschema.federated_predict_batch(model text,query text,experiment text,experiment_key text)' \
        --proc-without-search-path 'public.federated_predict_batch(model text,query text,experiment text,experiment_key text)' "${inlined[@]}" "${ignored[@]}" "build/pgspot/$(basename "$file")"
}

ensure_pgspot
if [ $# -eq 0 ]; then
    make --silent -C extension all plain >&2
    set -- "build/extension/$extension--$version.sql" build/extension/"$extension"--*--"$version.sql" \
        "build/$extension--$version.plain.sql"
fi
status=0
for file; do check "$file" || status=1; done
exit "$status"
