#!/bin/sh
# Prints the Chromium or Chrome to test the page with: CHROME=..., else the first on PATH, else where macOS keeps one.
set -eu

# runnable NAME: prints where it is. (`command -v` takes any path that exists.)
runnable() {
	found=$(command -v "$1") && [ -f "$found" ] && [ -x "$found" ] && printf '%s\n' "$found"
}

if [ -n "${CHROME:-}" ]; then
	runnable "$CHROME"
	exit
fi
for name in chromium chromium-browser google-chrome google-chrome-stable chrome microsoft-edge brave-browser \
	'/Applications/Google Chrome.app/Contents/MacOS/Google Chrome' \
	'/Applications/Chromium.app/Contents/MacOS/Chromium'; do
	if runnable "$name"; then
		exit
	fi
done
exit 1
