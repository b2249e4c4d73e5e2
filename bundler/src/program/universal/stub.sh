'
# The lines above are all that Windows wants to see here. A shell goes on; the rest of the script lies further back.
if [ -n "${ZSH_VERSION-}" ]; then emulate sh; fi
tl_file=$0
case $tl_file in
*/*) ;;
*) if [ -f "$tl_file" ]; then tl_file=./$tl_file; else tl_file=$(command -v "$tl_file"); fi ;;
esac
tl_script=$(dd if="$tl_file" bs=4096 skip=1 count=3 2>/dev/null)
case $tl_script in
'# tealight '*) eval "$tl_script" ;;
esac
echo "error: $0: this program cannot find its own file; start it by its path: sh /the/path/of/it" >&2
exit 1
