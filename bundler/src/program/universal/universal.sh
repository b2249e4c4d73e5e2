# shellcheck shell=sh disable=SC2154
# Starts the program for this system out of a file that is at once a program for Windows and this script.
#
# Enters: tl_file, the path of that file; the arguments; tl_program, a function that says where in the file the program
# for a system is (the maker of the file puts it in front of this text). Leaves: that program, in this process, told
# with --bundle which file holds the model. The model is never copied. The program is, once, to a folder of the user's
# own, because a system starts files only as a whole; its place is named after its content, which is compared at each
# start.
#
# All names begin with tl_, so that no variable of the user's is changed for the program.

tl_fail() {
	printf 'error: %s\n' "$1" >&2
	shift
	for tl_line in "$@"; do printf '%s\n' "$tl_line" >&2; done
	exit 1
}

# The program's bytes. dd skips whole blocks only, so each program begins at one; head ends it.
tl_bytes_of() {
	dd if="$tl_file" bs=65536 skip="$tl_block" count=$(((tl_bytes + 65535) / 65536)) 2>/dev/null |
		head -c "$tl_bytes" 2>/dev/null
}

# Finds out the mode and the owner of a file, as in drwx------ and 1000. Not every shell has `test -O`.
tl_look() {
	# shellcheck disable=SC2046
	set -- $(ls -ldn "$1" 2>/dev/null)
	tl_mode=${1-} tl_owner=${3-}
}

# Whether a folder is the user's own, is no link, and cannot be written to by anybody else.
tl_own() {
	tl_look "$1"
	case $tl_mode in d????-??-*) [ "$tl_owner" = "$tl_user" ] ;; *) return 1 ;; esac
}

# Whether nobody else can exchange a folder that is in this one.
tl_keeps() {
	tl_look "$1/"
	case $tl_mode in d???????-* | d????????[tT]*) ;; *) return 1 ;; esac
}

# Remembers why a folder will not do.
tl_not() {
	tl_tried="$tl_tried
  $1: $2"
	return 1
}

# Puts the program into the folder $2 of the folder $1, unless it is there. tl_start is then its path.
tl_put() {
	case $1 in /*) ;; *) return 1 ;; esac
	tl_folder=$1/$2
	[ -d "$1" ] || mkdir -p "$1" 2>/dev/null || { tl_not "$1" 'does not exist and cannot be created'; return; }
	tl_keeps "$1" || { tl_not "$1" 'other users could replace what is in it'; return; }
	for tl_folder in "$1/$2" "$1/$2/$tl_name"; do
		[ -d "$tl_folder" ] || [ -L "$tl_folder" ] || mkdir -m 700 "$tl_folder" 2>/dev/null ||
			{ tl_not "$tl_folder" 'cannot be created'; return; }
		tl_own "$tl_folder" || { tl_not "$tl_folder" 'is not a folder that only you can write to'; return; }
	done
	tl_start=$tl_folder/tealight
	if [ -f "$tl_start" ] && [ ! -L "$tl_start" ] && [ -x "$tl_start" ] && tl_bytes_of | cmp -s - "$tl_start"; then
		return
	fi

	# Written under another name, so that nobody finds half a program under this one.
	tl_new=$(mktemp "$tl_folder/new.XXXXXX" 2>/dev/null) || { tl_not "$tl_folder" 'cannot be written to'; return; }
	trap 'rm -f "$tl_new"; exit 1' HUP INT TERM
	tl_write
	tl_result=$?
	[ $tl_result = 0 ] || { rm -f "$tl_new" && rmdir "$tl_folder" "$1/$2" 2>/dev/null; }
	trap - HUP INT TERM
	return $tl_result
}

tl_write() {
	tl_bytes_of >"$tl_new" || { tl_not "$tl_folder" 'has no space left for the program'; return; }
	case $(cksum <"$tl_new" 2>/dev/null || sha256sum <"$tl_new") in
	"$tl_sum $tl_bytes" | "$tl_name"*) ;;
	*)
		rm -f "$tl_new"
		tl_fail "$tl_file: the program for $tl_target in it is damaged or truncated" \
			'hint: the download or copy may be incomplete; fetch the file again'
		;;
	esac
	chmod 700 "$tl_new" || return
	"$tl_new" --version >/dev/null 2>&1
	case $? in
	0) ;;
	126) tl_not "$tl_folder" 'does not allow programs to run (noexec)'; return ;;
	*)
		rm -f "$tl_new"
		tl_fail "$tl_file: the program for $tl_target in it does not run on this system" \
			'hint: on Linux it needs glibc 2.17 or later; Alpine, for example, has another C library'
		;;
	esac
	# A folder, or a link to one, would swallow what is moved onto it.
	if [ -L "$tl_start" ] || [ -d "$tl_start" ]; then rm -rf "$tl_start"; fi
	mv -f "$tl_new" "$tl_start" || { tl_not "$tl_folder" 'cannot be written to'; return; }
	echo "note: the program for $tl_target is now in $tl_folder; the model stays where it is" >&2
}

tl_system=$(uname -s)
tl_machine=$(uname -m)
case $tl_system in
Linux)
	case $tl_machine in arm64) tl_machine=aarch64 ;; amd64) tl_machine=x86_64 ;; esac
	tl_target=linux-$tl_machine
	tl_cache=${HOME:+$HOME/.cache}
	;;
Darwin)
	# To a translated shell, Apple silicon is an x86_64.
	if [ "$(sysctl -n hw.optional.arm64 2>/dev/null)" = 1 ]; then tl_machine=arm64; fi
	tl_target=macos-$tl_machine
	tl_cache=${HOME:+$HOME/Library/Caches}
	;;
MINGW* | MSYS* | CYGWIN* | Windows_NT)
	# A shell on Windows, to which the file is a program as it is.
	exec "$tl_file" "$@"
	;;
*) tl_target=$tl_system-$tl_machine ;;
esac
tl_program "$tl_target" ||
	tl_fail "$tl_file: it has no program for $tl_system on $tl_machine" "it has programs for windows-x86_64 $tl_targets"

# A home that is somebody else's (sudo) is left alone.
tl_user=$(id -u)
tl_look "${HOME:-/}/"
if [ "$tl_owner" != "$tl_user" ]; then tl_cache=; fi
tl_tried=
if tl_put "${XDG_CACHE_HOME:-$tl_cache}" tealight || tl_put "${TMPDIR-}" "tealight-$tl_user" ||
	tl_put "${XDG_RUNTIME_DIR-}" "tealight-$tl_user" || tl_put /tmp "tealight-$tl_user" ||
	tl_put /dev/shm "tealight-$tl_user" || tl_put /var/tmp "tealight-$tl_user"; then
	exec "$tl_start" --bundle "$tl_file" "$@"
fi

tl_sorry="error: $tl_file: found no folder from which this system lets the program run:$tl_tried
hint: choose one: XDG_CACHE_HOME=/a/folder sh \"$tl_file\"   or extract the program to where you can run it:
  unzip -p \"$tl_file\" runtime/tealight-$tl_target >tealight; chmod +x tealight; ./tealight --bundle \"$tl_file\""
# Linux starts programs from memory, too. A shell cannot ask for that; Perl and Python can.
if [ "$tl_system" = Linux ]; then
	tl_offset=$((tl_block * 65536))
	case $tl_machine in aarch64) tl_call=279 ;; *) tl_call=319 ;; esac
	if command -v perl >/dev/null; then
		exec perl -e '
			my ($sorry, $call, $offset, $bytes, @command) = @ARGV;
			my ($file, $program, $memory, $fd, $name) = (undef, "", undef, -1, "tealight");
			if (open($file, "<:raw", $command[2]) && seek($file, $offset, 0)) {
				read($file, $program, $bytes);
				$fd = syscall($call, $name, 0) if length($program) == $bytes;
			}
			if ($fd >= 0 && open($memory, ">&=", $fd) && binmode($memory)) {
				exec { "/proc/self/fd/$fd" } @command if (print $memory $program) && $memory->flush();
			}
			print STDERR "$sorry\n";
			exit 1;
		' "$tl_sorry" "$tl_call" "$tl_offset" "$tl_bytes" tealight --bundle "$tl_file" "$@"
	elif command -v python3 >/dev/null; then
		exec python3 -I -c '
import os, sys
sorry, offset, size, *command = sys.argv[1:]
try:
    with open(command[2], "rb") as file:
        file.seek(int(offset))
        program = file.read(int(size))
    memory = os.memfd_create("tealight", 0)
    with open(memory, "wb", closefd=False) as file:
        file.write(program)
    os.execve(memory, command, os.environ)
except (OSError, AttributeError):
    sys.exit(sorry)
		' "$tl_sorry" "$tl_offset" "$tl_bytes" tealight --bundle "$tl_file" "$@"
	fi
fi
printf '%s\n' "$tl_sorry" >&2
exit 1
