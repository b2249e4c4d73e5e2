#!/bin/sh
# Prints the Chromium or Chrome to test the page with: CHROME=..., else the first on PATH, else where macOS keeps one.
set -eu

if [ -n "${CHROME:-}" ]; then
	command -v "$CHROME"
	exit
fi
for name in chromium chromium-browser google-chrome google-chrome-stable chrome microsoft-edge brave-browser \
	'/Applications/Google Chrome.app/Contents/MacOS/Google Chrome' \
	'/Applications/Chromium.app/Contents/MacOS/Chromium'; do
	if command -v "$name"; then
		exit
	fi
done
exit 1
