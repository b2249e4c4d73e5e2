#!/bin/sh
# build.sh PROFILE NAME: builds the two programs for one target, and prints the folder in which they are.
#
# NAME is linux-x86_64, linux-aarch64, windows-x86_64, windows-arm64, macos-arm64 or macos-x86_64; any of them is built on
# Linux, and each but windows-arm64 on its own system. What is missing is named, with exit code 3; on Debian, as root, it is installed instead.
#
# The standard library is that of the Rust on PATH, or comes by `rustup target add`. Where neither has the target,
# Debian's own Rust compiles it from its source, which is in a package too (rust-web-src). But for Windows on x86-64, zig is
# the linker: it brings the symbols of glibc 2.17, of macOS and of Windows. No crate of ours has C code, so a linker is all.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD

missing() {
	printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
	exit 3
}

have() { command -v "$1" >/dev/null 2>&1; }

profile=${1:-} name=${2:-}
case $name in
linux-x86_64) triple=x86_64-unknown-linux-gnu ;;
linux-aarch64) triple=aarch64-unknown-linux-gnu ;;
windows-x86_64) triple=x86_64-pc-windows-gnu ;;
windows-arm64) triple=aarch64-pc-windows-gnullvm ;;
macos-arm64) triple=aarch64-apple-darwin ;;
macos-x86_64) triple=x86_64-apple-darwin ;;
*)
	echo "usage: $0 PROFILE linux-x86_64|linux-aarch64|windows-x86_64|windows-arm64|macos-arm64|macos-x86_64" >&2
	exit 2
	;;
esac

# rust: the compiler, and the standard library of the target.
rust() {
	cargo=${CARGO:-cargo} std=
	# Debian's library for its own target wants Debian's glibc, so it never serves.
	case $("${RUSTC:-rustc}" --print sysroot 2>/dev/null) in
	'' | /usr | /usr/) ;;
	*)
		sysroot=$("${RUSTC:-rustc}" --print sysroot)
		[ -d "$sysroot/lib/rustlib/$triple/lib" ] && return
		have rustup && rustup target add "$triple" >&2 && return
		;;
	esac
	if [ ! -x /usr/bin/cargo ] || [ ! -x /usr/bin/rustc ] || [ ! -d /usr/lib/rustlib/src/rust/library ]; then
		sh tools/need.sh debian rustc-web cargo-web rust-web-src ||
			missing "no standard library for $triple" "rustup target add $triple, or on Debian: apt-get install rustc-web cargo-web rust-web-src"
	fi
	cargo=/usr/bin/cargo std=-Zbuild-std=std,panic_abort
	# RUSTC_BOOTSTRAP: this compiler is a released one, and the option is not.
	export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
	# The program that strips executables for macOS comes with rustup; Debian has it under LLVM's name.
	if [ "${triple#*apple}" != "$triple" ] && ! have rust-objcopy; then
		have llvm-objcopy || sh tools/need.sh debian llvm || missing 'llvm-objcopy not found' 'on Debian: apt-get install llvm'
		mkdir -p "$target/bin"
		ln -sf "$(command -v llvm-objcopy)" "$target/bin/rust-objcopy"
		PATH=$target/bin:$PATH
	fi
}

# linker: what cargo needs to link for the target.
linker() {
	build=build suffix=
	case $(uname -s)/$name in
	Darwin/macos-*) ;;
	MINGW*/windows-x86_64 | MSYS*/windows-x86_64) ;;
	*/windows-x86_64)
		have x86_64-w64-mingw32-gcc || sh tools/need.sh debian gcc-mingw-w64-x86-64-posix ||
			missing 'no linker for Windows: x86_64-w64-mingw32-gcc not found' 'on Debian: apt-get install gcc-mingw-w64-x86-64-posix'
		export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc
		;;
	*)
		sh tools/venv.sh .venv/zig tools/dist/requirements.txt || missing 'no zig' 'it links for glibc 2.17, macOS and Windows on ARM'
		PATH=$root/.venv/zig/bin:$PATH
		case $name in
		linux-*) build=zigbuild suffix=.2.17 ;;
		# Not by way of zigbuild, which has no way to name the oldest macOS that is to run it.
		macos-arm64) zig=aarch64-macos.11.0-none variable=CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER ;;
		macos-x86_64) zig=x86_64-macos.10.12-none variable=CARGO_TARGET_X86_64_APPLE_DARWIN_LINKER ;;
		windows-arm64) zig=aarch64-windows-gnu variable=CARGO_TARGET_AARCH64_PC_WINDOWS_GNULLVM_LINKER ;;
		esac
		if [ "$build" = build ]; then
			mkdir -p "$target/bin"
			# libiconv is named by a crate and used by none; zig does not bring it. Its C library for Windows is the
			# system's own, under another name than msvcrt, and it finds static libraries only where it may choose.
			cat >"$target/link-$name" <<-LINK
				#!/bin/sh
				for word; do
					shift
					case \$word in
					-liconv | -lmsvcrt | -nolibc | -Wl,-Bdynamic | -Wl,-Bstatic) ;;
					-Wl,*.def) set -- "\$@" "\${word#-Wl,}" ;;
					*) set -- "\$@" "\$word" ;;
					esac
				done
				exec python3 -m ziglang cc -target $zig "\$@"
			LINK
			# The resource compiler, for icon and version.
			cat >"$target/bin/rc" <<-RC
				#!/bin/sh
				exec python3 -m ziglang rc /:auto-includes none "\$@"
			RC
			chmod +x "$target/link-$name" "$target/bin/rc"
			PATH=$target/bin:$PATH
			export "$variable=$target/link-$name"
		fi
		;;
	esac
}

# flags: no path of this machine is to be in an executable. Separated so that paths may have spaces.
flags() {
	sep=$(printf '\037')
	home=${CARGO_HOME:-$HOME/.cargo}
	CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$root=tealight$sep--remap-path-prefix=$home=cargo$sep--remap-path-prefix=/usr/src=src"
	if [ "$name" = windows-x86_64 ]; then
		# gcc's own libraries are not a part of Windows.
		CARGO_ENCODED_RUSTFLAGS="$CARGO_ENCODED_RUSTFLAGS$sep-Clink-arg=-static$sep-Clink-arg=-static-libgcc"
	fi
	export CARGO_ENCODED_RUSTFLAGS
}

# A folder of its own, so that neither build waits for the other or undoes it.
target=${CARGO_TARGET_DIR:-$root/target}/cross
rust
linker
flags
export CARGO_TARGET_DIR="$target"
# shellcheck disable=SC2086 # $std is one word or none
"$cargo" "$build" $std --profile "$profile" --workspace --target "$triple$suffix" >&2
printf '%s\n' "$target/$triple/$profile"
