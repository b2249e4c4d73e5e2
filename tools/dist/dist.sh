#!/bin/sh
# dist.sh [NAME...]: builds the two programs for each target (all six, if none is named), checks them, and puts them
# into dist/ with their checksums: tealight-NAME, tealight-bundle-NAME, SHA256SUMS. What is there already for other
# targets stays.
set -eu
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
[ $# != 0 ] || set -- linux-x86_64 linux-aarch64 windows-x86_64 windows-arm64 macos-arm64 macos-x86_64
mkdir -p dist
for name; do
	echo "=== $name" >&2
	folder=$(sh tools/dist/build.sh dist "$name")
	exe=
	[ "${name#windows}" = "$name" ] || exe=.exe
	"$PYTHON" tools/dist/check.py "$name" "$folder/tealight$exe" "$folder/tealight-bundle$exe" \
		--without "$PWD" --without "${CARGO_HOME:-$HOME/.cargo}" --without "${RUSTUP_HOME:-$HOME/.rustup}"
	for program in tealight tealight-bundle; do
		# Under its name only when it is whole.
		cp "$folder/$program$exe" "dist/$program-$name$exe.part"
		mv "dist/$program-$name$exe.part" "dist/$program-$name$exe"
	done
done
"$PYTHON" - <<'SUMS'
import hashlib, pathlib
dist = pathlib.Path("dist")
names = sorted(
    path.name
    for target in ("linux-x86_64", "linux-aarch64", "windows-x86_64", "windows-arm64", "macos-arm64", "macos-x86_64")
    for program in ("tealight", "tealight-bundle")
    for path in dist.glob(f"{program}-{target}*")
    if path.suffix in ("", ".exe")
)
rows = [f"{hashlib.sha256((dist / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
(dist / "SHA256SUMS").write_text("".join(rows), newline="\n")
SUMS
ls -l dist/tealight* dist/SHA256SUMS >&2
