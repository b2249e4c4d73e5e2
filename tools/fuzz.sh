#!/bin/sh
# fuzz.sh [TARGET...]: runs each target of fuzz/ (or those named) for SECONDS_EACH (60), with AddressSanitizer, and fails
# at the first finding. It does what `cargo fuzz` does, on a released compiler: RUSTC_BOOTSTRAP lets that take the flags.
set -eu
cd "$(dirname "$0")/.."

seconds=${SECONDS_EACH:-60}
# A vocabulary, for those that need one.
"${PYTHON:-python3}" tools/models.py get smollm2
triple=$("${RUSTC:-rustc}" -vV | sed -n 's/^host: //p')
folder=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
[ $# -gt 0 ] || set -- calls gbnf gguf markdown model schema tail template tokenizer

# Coverage by counters and compares, for the program alone: with --target, build scripts and macros have none.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$folder"
export RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cdebug-assertions \
	-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
for target; do
	set -- "$@" --bin "$target"
	shift
done
"${CARGO:-cargo}" build --manifest-path fuzz/Cargo.toml --release --target "$triple" "$@"

while [ $# -gt 0 ]; do
	target=$2
	shift 2
	echo "=== fuzzing $target for $seconds s"
	mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
	seeds=fuzz/seeds/$target
	[ -d "$seeds" ] || seeds=
	# shellcheck disable=SC2086 # $seeds is one word or none
	"$folder/$triple/release/$target" "fuzz/corpus/$target" $seeds -artifact_prefix="fuzz/artifacts/$target/" \
		-max_total_time="$seconds" -max_len=6000 -timeout=25 -rss_limit_mb=4096 -print_final_stats=1 2>&1 |
		grep -E 'ERROR|SUMMARY|panicked|assert|left:|right:|Test unit|stat::number_of_executed|stat::new_units|^#[0-9]+.*DONE' || true
	if [ -n "$(ls "fuzz/artifacts/$target")" ]; then
		echo "error: fuzzing $target: found $(ls -d "fuzz/artifacts/$target"/*)" >&2
		exit 1
	fi
done
