#!/bin/sh
# Starts the chat on Linux. In a terminal, in this folder:  sh start-chat-linux.sh
# Writes nothing. What follows the name goes to the program:  sh start-chat-linux.sh --help

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
case $(uname -m) in
x86_64 | amd64) name=tealight-linux-x86_64 loader=/lib64/ld-linux-x86-64.so.2 ;;
aarch64 | arm64) name=tealight-linux-aarch64 loader=/lib/ld-linux-aarch64.so.1 ;;
*) name= ;;
esac
program=$here/$name
if [ -z "$name" ] || [ ! -f "$program" ]; then
	echo "error: no program for this computer's processor ($(uname -m)) in this folder" >&2
	exit 1
fi
if [ -x "$program" ]; then
	exec "$program" "$@"
fi
# Mounted so that files have no permission to execute, as desktops do with FAT: the system's own loader of programs does
# not ask for it.
if "$loader" "$program" --version >/dev/null 2>&1; then
	exec "$loader" "$program" --bundle "$program" "$@"
fi
cat >&2 <<END
error: this system does not run programs from here (it is mounted with "noexec")
hint: start a copy of the program (the model stays here):
  cp '$program' ~/tealight && chmod +x ~/tealight && ~/tealight --bundle '$program'
error: este sistema no inicia programas desde aquí (está montado con «noexec»)
pista: inicie una copia del programa con la orden de arriba (el modelo se queda aquí)
END
exit 126
