#!/bin/sh
# venv.sh FOLDER REQUIREMENTS: makes a virtual environment that holds exactly these packages; done before, it does nothing.
# Without ensurepip, which Debian keeps in a package of its own, the pip outside fills it.
set -eu

PYTHON=${PYTHON:-python3}
folder=$1
wanted=$2
python=$folder/bin/python

if [ -x "$python" ] && cmp -s "$wanted" "$folder/.ready" && "$python" -c '' 2>/dev/null; then
	exit 0
fi
echo "setting up $folder with $wanted" >&2
# Not the whole folder: another environment may lie in it.
rm -rf "$folder/.ready" "$folder/bin" "$folder/lib" "$folder/lib64" "$folder/include" "$folder/pyvenv.cfg"
"$PYTHON" -m venv --without-pip "$folder" || {
	printf 'error: cannot make a virtual environment in %s\nhint: on Debian: apt-get install python3-venv\n' "$folder" >&2
	exit 1
}
log=$folder/.log
if ! "$PYTHON" -m pip --disable-pip-version-check --python "$python" install --quiet --no-input -r "$wanted" >"$log" 2>&1; then
	printf 'error: %s: %s\n' "$wanted" "$(grep -v '^[[:space:]]*$' "$log" | tail -n 1)" >&2
	printf 'hint: check the network; pip 22.3 or newer is needed (%s)\n' "$("$PYTHON" -m pip --version)" >&2
	exit 1
fi
rm -f "$log"
cp "$wanted" "$folder/.ready"
