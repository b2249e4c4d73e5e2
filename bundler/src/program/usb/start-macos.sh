#!/bin/sh
# Starts the chat on macOS: a double click, or in a terminal:  sh "Start chat (macOS).command"

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
# A terminal that runs for Intel on Apple's processor would say x86_64.
if [ "$(sysctl -n hw.optional.arm64 2>/dev/null)" = 1 ] || [ "$(uname -m)" = arm64 ]; then
	program=$here/tealight-macos-arm64
else
	program=$here/tealight-macos-x86_64
fi
if [ ! -f "$program" ]; then
	echo "error: no program for this computer's processor ($(uname -m)) in this folder" >&2
	exit 1
fi
if [ ! -x "$program" ]; then
	echo "error: no permission to start $program" >&2
	echo "hint: copy the folder to your computer, then: chmod +x '$(basename "$program")'" >&2
	exit 126
fi
exec "$program" "$@"
