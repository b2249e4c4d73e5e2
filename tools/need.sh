#!/bin/sh
# Says in one line what is missing to build (`build`), to set up the tests (`python`) or to run them (`test`), and how
# to get it. On Debian, as root, `test` installs the programs that only the tests want, `systems` what builds and runs
# the programs of other systems; `debian PACKAGE...` installs packages, and fails elsewhere. Silent when all is there.
set -eu

fail() {
	printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

PYTHON=${PYTHON:-python3}

need_build() {
	have "${CARGO:-cargo}" || fail 'cargo not found' 'install Rust 1.89 or newer: https://rustup.rs'
	have "${CC:-cc}" || have gcc || have clang ||
		fail 'no C compiler found (cc, gcc or clang); Rust links with it' 'on Debian: apt-get install gcc libc6-dev; on macOS: xcode-select --install'
}

need_python() {
	have "$PYTHON" || fail "$PYTHON not found" 'install Python 3.9 or newer with pip (on Debian: apt-get install python3 python3-pip)'
	"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
		fail "$("$PYTHON" --version 2>&1) is too old" 'Python 3.9 or newer is needed; name another one with PYTHON=...'
	"$PYTHON" -m pip --version >/dev/null 2>&1 ||
		fail "$PYTHON has no pip" 'on Debian: apt-get install python3-pip; elsewhere: python3 -m ensurepip --user'
	"$PYTHON" -c 'import venv' 2>/dev/null ||
		fail "$PYTHON has no module venv" 'on Debian: apt-get install python3-venv'
}

# debian PACKAGE...: installs them where that is possible without asking anyone.
debian() {
	[ "$(id -u)" = 0 ] && have apt-get || return 1
	echo "installing $* (apt-get)" >&2
	log=$(mktemp)
	if { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; } >"$log" 2>&1; then
		rm -f "$log"
	else
		tail -n 3 "$log" >&2
		rm -f "$log"
		return 1
	fi
}

need_test() {
	here=$(dirname "$0")
	if [ -n "${CHROME:-}" ]; then
		sh "$here/browser.sh" >/dev/null || fail "CHROME=$CHROME cannot be run" 'name the Chromium or Chrome program itself'
	elif ! sh "$here/browser.sh" >/dev/null; then
		{ debian chromium && sh "$here/browser.sh" >/dev/null; } ||
			fail 'no Chromium or Chrome found; the page is tested in one' 'install one (on Debian: apt-get install chromium) or name it with CHROME=...'
	fi
	have unzip || debian unzip ||
		fail 'unzip not found; the bundle is tested with it' 'install it (on Debian: apt-get install unzip)'
	[ "$(uname -s)" = Linux ] || return 0
	# What traces system calls and formats a stick; shells that start a file for every system, and what reads its script.
	set --
	have mkfs.vfat || set -- "$@" dosfstools
	for tool in strace zsh busybox mksh posh fish shellcheck; do
		have "$tool" || set -- "$@" "$tool"
	done
	wanted "$@"
}

# The systems that are not this one.
need_systems() {
	[ "$(uname -sm)" = 'Linux x86_64' ] || return 0
	set --
	have wine && [ -e /usr/lib/wine/wine64 ] || set -- "$@" wine wine64
	have x86_64-w64-mingw32-gcc || set -- "$@" gcc-mingw-w64-x86-64-posix
	have qemu-aarch64 || set -- "$@" qemu-user
	have aarch64-linux-gnu-gcc || set -- "$@" gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	wanted "$@"
}

# Tests say themselves what they miss, and fail unless ALLOW_SKIP=1.
wanted() {
	[ $# = 0 ] || debian "$@" || echo "note: not found: $*" >&2
}

case "${1:-}" in
build) need_build ;;
python) need_python ;;
test) need_test ;;
systems) need_systems ;;
debian)
	shift
	debian "$@"
	;;
*)
	echo "usage: $0 build|python|test|systems|debian PACKAGE..." >&2
	exit 2
	;;
esac
