#!/bin/sh
# Refuses a major version of PostgreSQL for which this image is not made, before anything is built on it.
# Usage: supported.sh POSTGRES_MAJOR
case "$1" in
14 | 15 | 16 | 17) ;;
*)
    echo "POSTGRES_MAJOR is $1: this image is made for 14 to 17. From 18 on the official image keeps its data elsewhere" \
        "(/var/lib/postgresql/18/docker), so that the volumes of docker-compose.yml would stay empty." >&2
    exit 1
    ;;
esac
