#!/bin/sh
# Tests the kernels for 64-bit ARM on three emulated processors: with all that they use, without products of matrices
# of bytes, and without products of bytes. Needs qemu-user, a linker for ARM, and a standard library for it: rustup's,
# or Debian's compiler with its source. What is missing is said in one line and fails, unless ALLOW_SKIP=1.
set -eu
cd "$(dirname "$0")/.."

have() { command -v "$1" >/dev/null 2>&1; }
skip() {
	echo "kernels for ARM: not tested: $1" >&2
	[ "${ALLOW_SKIP:-}" = 1 ] && exit 0 || exit 1
}

triple=aarch64-unknown-linux-gnu
libraries=/usr/aarch64-linux-gnu
if [ "$(uname -m)" = aarch64 ]; then
	echo 'kernels for ARM: this is an ARM processor, where the tests of the program cover them' >&2
	exit 0
fi
have qemu-aarch64 || skip 'no qemu-aarch64 (on Debian: apt-get install qemu-user)'
have aarch64-linux-gnu-gcc || skip 'no linker (on Debian: apt-get install gcc-aarch64-linux-gnu)'

cargo=${CARGO:-cargo} std=
if [ ! -d "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$triple/lib" ]; then
	[ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && [ -d /usr/lib/rustlib/src/rust/library ] ||
		skip "no standard library (rustup target add $triple; on Debian: apt-get install rustc-web cargo-web rust-web-src)"
	cargo=/usr/bin/cargo std=-Zbuild-std=std,panic_abort
	# RUSTC_BOOTSTRAP: this compiler is a released one, and the option is not.
	export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/kernels-alone"
for processor in max cortex-a76 cortex-a57; do
	echo "=== kernels on an emulated $processor"
	export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $processor -L $libraries"
	# shellcheck disable=SC2086 # $std is one word or none
	(cd tests/kernels && "$cargo" test $std --locked --target "$triple" -- "$@")
done
