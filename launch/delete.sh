#!/usr/bin/env bash
# Deletes the slice whose full name is NAME, with its disk. A run in gs:// stays.
. "$(dirname "$0")/common.sh"
[ -n "${NAME:-}" ] || fail "say which, in full: make tpu-delete NAME=realm-v3-8"
check_name
cloud queued-resources delete "$NAME" --force --quiet
