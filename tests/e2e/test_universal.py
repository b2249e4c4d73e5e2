"""One file for every system, started as people start programs, on the real model.

Where the real programs for the other systems are not there (see `test_targets.py`), small ones stand in for them: what
is tested then is that the right one is found and would be started. The note on stderr says what was written where.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from harness import BUNDLER, CLEAN, ROOT, RUNTIME, SMOLLM2, Server, link, needs, proc, run
from test_targets import arm, windows  # noqa: F401 (fixtures)

pytestmark = pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="tried on Linux x86-64 only")

PROMPT = "Once upon a time, in a café by the sea,"
ASK = ("-p", PROMPT, "-n", "8", "--temp", "0", "-c", "512")
QUESTION = "What is the capital of France?"
ODD = "it's a \"folder\" $HOME `id` \\n ñandú 蝋燭"
NOTE = "note: the program for linux-x86_64 is now in "
BEHIND = ("macos-arm64", "macos-x86_64", "linux-x86_64", "linux-aarch64")


# ---- the file


@pytest.fixture(scope="session")
def dist(request, tmp_path_factory) -> Path:
    """A folder such as `make dist` makes. The program for this system is real; those for others are in the nightly tests."""
    folder = tmp_path_factory.mktemp("dist")
    link(RUNTIME, folder / "tealight-linux-x86_64")
    for name, fixture, stand_in in (("windows-x86_64.exe", "windows", exe()), ("linux-aarch64", "arm", elf(183))):
        if request.config.getoption("markexpr") == "nightly":
            link(request.getfixturevalue(fixture).runtime, folder / f"tealight-{name}")
        else:
            (folder / f"tealight-{name}").write_bytes(stand_in)
    for name, processor in (("macos-arm64", 0x100000C), ("macos-x86_64", 0x1000007)):
        made = Path(os.environ.get("TEALIGHT_DIST", "dist")) / f"tealight-{name}"
        if made.is_file():
            link(made, folder / made.name)
        else:
            (folder / made.name).write_bytes(struct.pack("<II", 0xFEEDFACF, processor) + name.encode() * 9001)
    return folder


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01".ljust(18, b"\0") + struct.pack("<H", machine) + bytes(range(1, 100)) * 1000


def exe() -> bytes:
    """The headers of a program for Windows with one section."""
    header = bytearray(0x400)
    header[:2] = b"MZ"
    struct.pack_into("<I", header, 0x3C, 0x80)
    struct.pack_into("<4sHH12xH", header, 0x80, b"PE\0\0", 0x8664, 1, 240)
    struct.pack_into("<H30xII20xI", header, 0x98, 0x20B, 0x1000, 0x200, 0x400)
    struct.pack_into("<I", header, 0x98 + 108, 16)
    struct.pack_into("<8sIIII", header, 0x98 + 240, b".text", 0x200, 0x1000, 0x200, 0x400)
    return bytes(header) + b"\xc3" * 0x200


@pytest.fixture(scope="session")
def universal(dist, tmp_path_factory):
    """The file. Not to be changed: see `copy`."""
    folder = tmp_path_factory.mktemp("universal")
    run(BUNDLER, "--universal", "--dist", dist, "--weights", SMOLLM2, "-o", folder / "chat")
    # The name that a person would type on Windows; other systems do not care.
    yield folder / "chat.exe"
    shutil.rmtree(folder)


@pytest.fixture
def copy(universal, tmp_path):
    path = tmp_path / "copy.exe"
    shutil.copy2(universal, path)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def expected() -> str:
    """What the program for this system says, without any bundle."""
    return run(RUNTIME, "--weights", SMOLLM2, *ASK).stdout


@pytest.fixture(scope="session")
def answer(tmp_path_factory) -> list:
    """What it answers to a question over HTTP."""
    with Server(RUNTIME, "--weights", SMOLLM2, "-c", 512, folder=tmp_path_factory.mktemp("answer")) as server:
        return server.chat(QUESTION)["choices"]


@pytest.fixture(scope="session")
def warm(tmp_path_factory) -> dict[str, str]:
    """A user with a home, in which the program is after the first start."""
    return user(tmp_path_factory.mktemp("warm"))


@pytest.fixture
def fresh(tmp_path) -> dict[str, str]:
    """A user with a home where nothing is yet."""
    return user(tmp_path / "home")


def user(home: Path) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    return {name: value for name, value in CLEAN.items() if name not in ("XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "TMPDIR")} | {"HOME": str(home)}


def kept(home: dict[str, str], cache: str = ".cache") -> list[Path]:
    return [path for path in (Path(home["HOME"]) / cache).rglob("*") if not path.is_dir()]


def commands(folder: Path, **scripts: str) -> Path:
    """A folder to put in front of PATH, with commands that say what a test wants."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def wine_takes_exe() -> bool:
    """Whether the kernel hands programs for Windows to wine, or to another loader."""
    try:
        return any(b"magic 4d5a" in path.read_bytes() for path in Path("/proc/sys/fs/binfmt_misc").iterdir() if path.name not in ("register", "status"))
    except OSError:
        return False


direct = pytest.mark.skipif(wine_takes_exe(), reason="this kernel starts programs for Windows with wine")


# ---- shells


SHELLS = ["sh", "dash", "bash", "bash --posix", "zsh", "busybox sh", "mksh", "posh"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_told_to_read_it_starts_the_program_for_this_system(universal, expected, warm, shell):
    needs(shell.split()[0])
    assert run(*shell.split(), universal, *ASK, env=warm).stdout == expected


# ksh, mksh and yash know by themselves that such a file is none of theirs; `sh FILE` is for them.
@direct
@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "bash --posix", "zsh", "busybox sh", "posh", "fish"])
def test_typed_into_a_shell_it_starts_as_any_program(universal, expected, warm, shell):
    needs(shell.split()[0])
    line = "./chat.exe " + " ".join(f"'{part}'" for part in ASK)
    assert run(*shell.split(), "-c", line, cwd=universal.parent, env=warm).stdout == expected


@direct
@pytest.mark.parametrize("command", ["env", "nohup", "nice", "timeout 60", "xargs -n 99 -a /dev/null"])
def test_commands_that_start_others_start_it(universal, expected, warm, command):
    assert run(*command.split(), universal, *ASK, env=warm).stdout == expected


@direct
def test_python_starts_it_with_a_shell_and_without_one_the_kernel_refuses(universal, expected, warm):
    line = f"'{universal}' " + " ".join(f"'{part}'" for part in ASK)
    done = subprocess.run(line, shell=True, capture_output=True, text=True, env=warm, check=True)
    assert done.stdout == expected
    with pytest.raises(OSError, match="Exec format error"):
        subprocess.run([universal], check=False)
    # The remedy that is documented.
    assert run("sh", universal, *ASK, env=warm).stdout == expected


# ---- paths


def test_any_path_will_do(universal, expected, warm, tmp_path):
    folder = tmp_path / ODD
    folder.mkdir()
    program = link(universal, folder / f"{ODD[:12]} *?é.exe")
    assert run("sh", program, *ASK, env=warm).stdout == expected
    assert run("sh", program.name, *ASK, cwd=folder, env=warm).stdout == expected
    assert run("sh", f"./{program.name}", *ASK, cwd=folder, env=warm).stdout == expected
    assert str(program) in run("sh", program.name, "info", cwd=folder, env=warm).stdout
    home = user(tmp_path / f"{ODD} home")
    assert run("sh", program, *ASK, env=home).stdout == expected
    assert [path.name for path in kept(home)] == ["tealight"]


@direct
def test_it_starts_through_links_and_from_path(universal, expected, warm, tmp_path):
    folder = tmp_path / "bin of mine"
    folder.mkdir()
    (folder / "chat").symlink_to("../again")
    (tmp_path / "again").symlink_to(universal)
    path = warm | {"PATH": f"{folder}:{warm['PATH']}"}
    for command in (["sh", folder / "chat"], ["env", "chat"], ["sh", "-c", 'chat "$@"', "sh"], ["bash", "-c", 'chat "$@"', "bash"]):
        assert run(*command, *ASK, env=path, cwd=tmp_path).stdout == expected
    # The model is told by the file that the links lead to, as with any program.
    assert str(universal) in run("env", "chat", "info", env=path).stdout


def test_the_script_is_one_for_every_shell():
    needs("shellcheck")
    folder = ROOT / "bundler/src/program/universal"
    run("shellcheck", "-s", "sh", folder / "universal.sh")
    whole = "MZtealight='\n" + (folder / "stub.sh").read_text() + 'echo "$MZtealight"\n'
    run("shellcheck", "-s", "sh", "-e", "SC2317", "-", input=whole)


def test_a_script_that_cannot_find_its_file_says_so(universal, warm):
    with universal.open("rb") as file:
        done = run("sh", stdin=file, env=warm, ok=False)
    assert done.returncode == 1 and "start it by its path" in done.stderr, done.stderr


# ---- what goes through


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "busybox sh"])
def test_arguments_arrive_as_they_are(universal, warm, shell):
    needs(shell.split()[0])
    for text in ("two  words", "it's \"quoted\" $HOME `id` \\ *", "a\nb\n\n", "ñandú 蝋燭", "-n", " ", "~"):
        there = run(*shell.split(), universal, "tokenize", "-p", text, "--ids", env=warm)
        assert there.stdout == run(RUNTIME, "tokenize", "-m", SMOLLM2, "-p", text, "--ids").stdout, repr(text)
    assert run(*shell.split(), universal, "-p", "", "-n", "1", env=warm, ok=False).returncode in (0, 1)


def test_exit_codes_and_pipes_go_through(universal, expected, warm):
    assert run("sh", universal, "--version", env=warm).stdout == run(RUNTIME, "--version").stdout
    assert run("sh", universal, "--nonsense", env=warm, ok=False).returncode == 2
    assert run("sh", universal, "--weights", "nothing.gguf", "-p", "x", env=warm, ok=False).returncode == 1
    assert run("sh", universal, "-f", "-", *ASK[2:], input=PROMPT, env=warm).stdout == expected


def test_no_variable_of_the_users_changes(universal, warm):
    names = ("f", "s", "name", "target", "file", "program", "new", "line", "bytes", "block", "IFS")
    given = warm | {name: f"mine: {name}" for name in names}
    server = Server(universal, "-c", 256, prefix=["sh"], env=given, folder=universal.parent / "variables")
    with server:
        have = dict(part.split("=", 1) for part in proc(server.pid, "environ").read_text().split("\0") if "=" in part)
    assert {name: have.get(name) for name in names[:-1]} == {name: given[name] for name in names[:-1]}
    assert not [name for name in have if name.lower().startswith(("tl_", "mz"))]


def test_the_process_is_the_programs_own_and_maps_the_model_from_the_file(universal, answer, warm, tmp_path):
    with Server(universal, "-c", 512, prefix=["sh"], env=warm, folder=tmp_path) as server:
        assert server.chat(QUESTION)["choices"] == answer
        assert Path(os.readlink(proc(server.pid, "exe"))) == kept(warm)[0]
        assert str(universal) in proc(server.pid, "maps").read_text()
        assert server.status("RssAnon") < SMOLLM2.stat().st_size / 2
        page = server.get("/")
        assert page.status == 200 and b"<!doctype html>" in page.body.lower()
    # Leaving it sent Ctrl-C to that process: it ended with 0.


def test_it_is_a_bundle_like_others(universal, copy, warm, start_with, tmp_path):
    run(BUNDLER, "verify", universal)
    run("sh", universal, "verify", env=warm)
    assert "No errors detected" in run("unzip", "-t", universal).stdout
    run(BUNDLER, "set", copy, "--system-prompt", "Answer like a candle. " * 1000, "--name", "Candle")
    server = start_with(copy, warm)
    about = server.get("/props").json()["tealight"]
    assert about["name"] == "Candle" and about["system_prompt"].startswith("Answer like a candle.")
    for name in BEHIND:
        out = run("unzip", "-p", copy, f"runtime/tealight-{name}", text=False).stdout
        run(BUNDLER, "extract", copy, f"runtime/tealight-{name}", "-o", tmp_path / name)
        assert out == (tmp_path / name / "runtime" / f"tealight-{name}").read_bytes()


@pytest.fixture
def start_with(tmp_path):
    running = []

    def start(program, home) -> Server:
        running.append(Server(program, "-c", 256, prefix=["sh"], env=home, folder=tmp_path / "cwd"))
        return running[-1]

    yield start
    for server in running:
        server.stop()


# ---- where the program goes


def test_it_is_written_once_and_compared_from_then_on(universal, expected, fresh):
    first = run("sh", universal, *ASK, env=fresh)
    assert first.stdout == expected and NOTE in first.stderr
    (program,) = kept(fresh)
    assert program.read_bytes() == RUNTIME.read_bytes()
    assert [path.stat().st_mode & 0o777 for path in (program, program.parent, program.parent.parent)] == [0o700] * 3
    before = program.stat()
    again = run("sh", universal, *ASK, env=fresh)
    assert again.stdout == expected and NOTE not in again.stderr
    assert kept(fresh) == [program]
    assert (program.stat().st_ino, program.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_two_at_once_do_not_disturb_each_other(universal, expected, fresh):
    command = ["sh", str(universal), *ASK]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=fresh) for _ in range(3)]
    assert [one.communicate(timeout=60)[0] for one in both] == [expected] * 3
    assert [path.name for path in kept(fresh)] == ["tealight"]


@pytest.mark.parametrize("what", ["other content", "cut off", "a link", "a link to a folder", "a folder", "not executable"])
def test_what_is_not_the_program_is_replaced(universal, expected, fresh, tmp_path, what):
    run("sh", universal, *ASK, env=fresh)
    (program,) = kept(fresh)
    victim = tmp_path / "victim"
    victim.write_text("#!/bin/sh\necho evil\n")
    victim.chmod(0o755)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if what == "other content":
        with program.open("r+b") as file:
            file.seek(1000)
            file.write(b"evil")
    elif what == "cut off":
        os.truncate(program, 1000)
    elif what == "not executable":
        program.chmod(0o600)
    else:
        program.unlink()
        if what == "a folder":
            program.mkdir()
        else:
            program.symlink_to(victim if what == "a link" else elsewhere)
    done = run("sh", universal, *ASK, env=fresh)
    assert done.stdout == expected and NOTE in done.stderr
    assert not program.is_symlink() and program.read_bytes() == RUNTIME.read_bytes()
    assert victim.read_text() == "#!/bin/sh\necho evil\n" and list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("what", ["a link", "others may write", "somebody else's", "a file"])
def test_a_folder_that_somebody_else_could_change_is_not_used(universal, expected, fresh, tmp_path, what):
    base = Path(fresh["HOME"]) / ".cache"
    base.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = base / "tealight"
    if what == "a link":
        folder.symlink_to(elsewhere)
    elif what == "a file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777 if what == "others may write" else 0o700)
        if what == "somebody else's":
            if os.getuid() != 0:
                pytest.skip("only root can give a folder away")
            os.chown(folder, 12345, 12345)
    (tmp_path / "tmp").mkdir()
    done = run("sh", universal, *ASK, env=fresh | {"TMPDIR": str(tmp_path / "tmp")})
    assert done.stdout == expected
    assert NOTE + str(tmp_path / "tmp" / f"tealight-{os.getuid()}") in done.stderr
    assert list(elsewhere.iterdir()) == [] and (what in ("a link", "a file") or list(folder.iterdir()) == [])


def test_a_folder_in_one_that_anybody_may_change_is_not_used(universal, fresh, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "tmp").mkdir()
    done = run("sh", universal, *ASK, env=fresh | {"XDG_CACHE_HOME": str(tmp_path / "open"), "TMPDIR": str(tmp_path / "tmp")})
    assert NOTE + str(tmp_path / "tmp") in done.stderr and list((tmp_path / "open").iterdir()) == []


@pytest.mark.parametrize("home", [None, "", "/nonexistent/home", "relative"])
def test_without_a_home_it_goes_to_the_temporary_folder(public, expected, fresh, home):
    program, temporary = public
    env = {name: value for name, value in fresh.items() if name != "HOME"} | {"TMPDIR": str(temporary)}
    if home is not None:
        env["HOME"] = home
    done = run(*not_root(), "sh", program, *ASK, env=env, cwd=temporary)
    assert done.stdout == expected
    assert NOTE + str(temporary) in done.stderr
    assert [path.name[:9] for path in temporary.iterdir()] == ["tealight-"]


NOBODY = 65534


@pytest.fixture
def public(universal):
    """The file where anybody may read it, and a folder for temporary files, where anybody may write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        temporary.chmod(0o1777)
        yield link(universal, Path(folder) / "chat.exe"), temporary


def not_root() -> list[str]:
    """For root, who may write anywhere, a command that gives up being root."""
    if os.getuid() != 0:
        return []
    needs("setpriv")
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@pytest.fixture
def noexec(tmp_path):
    """A command that starts another where no folder that can be written to lets programs start."""
    needs("unshare")
    places = ["/tmp", "/var/tmp", "/dev/shm", "/run"]
    mounts = "; ".join(f"mount -t tmpfs -o noexec,mode=1777 none {place}" for place in places)
    keep = "mkdir -p /mnt/kept; mount --bind \"$1\" /mnt/kept"
    script = f'set -e; mount -t tmpfs none /mnt; {keep}; {mounts}; shift; cd /mnt/kept; exec "$@"'
    command = ["unshare", *([] if os.getuid() == 0 else ["-r"]), "-m", "sh", "-c", script, "sh"]
    if subprocess.run([*command, str(tmp_path), "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let the test mount anything")
    return command


def test_where_programs_may_be_started_nowhere_memory_is_left(universal, expected, noexec, fresh, tmp_path):
    folder = universal.parent
    env = fresh | {"HOME": "/tmp/home"}
    tools = ["sh", "dd", "head", "cmp", "ls", "id", "uname", "mkdir", "rmdir", "mktemp", "rm", "cksum", "chmod", "mv", "find"]
    ran = 0
    for helper in ("perl", "python3"):
        program = shutil.which(helper) if helper == "perl" else os.path.realpath(sys.executable)
        if not program:
            continue
        ran += 1
        inside = f'mkdir /tmp/bin; for c in {" ".join(tools)}; do ln -s "$(command -v $c)" /tmp/bin/; done; ln -s {program} /tmp/bin/{helper}; PATH=/tmp/bin; '
        inside += 'mkdir /tmp/home; sh chat.exe "$@" && find /tmp /var/tmp /dev/shm -type f >&2'
        done = run(*noexec, folder, "sh", "-c", inside, "sh", *ASK, env=env)
        assert done.stdout == expected, done.stderr
        assert done.stderr == "", "nothing is written or left"
    assert ran
    # And where neither is there, it says what to do.
    inside = f'mkdir /tmp/bin; for c in {" ".join(tools)}; do ln -s "$(command -v $c)" /tmp/bin/; done; PATH=/tmp/bin; mkdir /tmp/home; sh chat.exe "$@"'
    done = run(*noexec, folder, "sh", "-c", inside, "sh", *ASK, env=env, ok=False)
    assert done.returncode == 1 and "noexec" in done.stderr and "XDG_CACHE_HOME=" in done.stderr, done.stderr
    for place in ("/tmp/home/.cache/tealight", f"/tmp/tealight-{os.getuid()}", "/dev/shm", "/var/tmp"):
        assert place in done.stderr, done.stderr


def test_a_read_only_home_is_no_hindrance(public, expected, fresh):
    program, temporary = public
    home = temporary / "home"
    home.mkdir()
    if os.getuid() == 0:
        os.chown(home, NOBODY, NOBODY)
    home.chmod(0o555)
    done = run(*not_root(), "sh", program, *ASK, env=fresh | {"HOME": str(home), "TMPDIR": str(temporary)}, cwd="/")
    assert done.stdout == expected and NOTE + str(temporary) in done.stderr
    assert list(home.iterdir()) == []


# ---- damage


@pytest.mark.parametrize("what", ["a byte", "cut off"])
def test_damage_to_the_program_is_found_before_it_is_started(universal, copy, fresh, what):
    listed = json.loads(run(BUNDLER, "list", "--json", universal).stdout)["entries"]
    entry = next(one for one in listed if one["name"] == "runtime/tealight-linux-x86_64")
    if what == "a byte":
        with copy.open("r+b") as file:
            file.seek(entry["offset"] + entry["bytes"] // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
    else:
        os.truncate(copy, entry["offset"] + entry["bytes"] // 2)
    done = run("sh", copy, *ASK, env=fresh, ok=False)
    assert done.returncode == 1 and "damaged or truncated" in done.stderr and "hint: " in done.stderr, done.stderr
    assert kept(fresh) == []


def test_a_file_whose_model_is_cut_off_is_a_clear_error(copy, warm):
    os.truncate(copy, copy.stat().st_size - 10_000_000)
    done = run("sh", copy, *ASK, env=warm, ok=False)
    assert done.returncode == 1 and "truncated" in done.stderr and str(copy) in done.stderr, done.stderr


def test_a_file_for_the_bundle_flag_must_be_a_bundle(tmp_path):
    for path, why in ((SMOLLM2, "expected a bundle"), (tmp_path / "none", "cannot open")):
        done = run(RUNTIME, "--bundle", path, "-p", "x", ok=False)
        assert done.returncode == 1 and why in done.stderr, done.stderr


# ---- other systems


@pytest.mark.parametrize(
    ("system", "machine", "translated", "target", "cache"),
    [
        ("Darwin", "arm64", "1", "macos-arm64", "Library/Caches"),
        ("Darwin", "x86_64", "1", "macos-arm64", "Library/Caches"),
        ("Darwin", "x86_64", "", "macos-x86_64", "Library/Caches"),
        ("Linux", "aarch64", "", "linux-aarch64", ".cache"),
    ],
)
def test_another_system_gets_its_own_program(universal, dist, fresh, tmp_path, system, machine, translated, target, cache):
    # This system cannot start it and so removes it again; a `rm` that does nothing keeps it to be looked at.
    uname = f'case $1 in -s) echo {system} ;; -m) echo {machine} ;; esac'
    folder = commands(tmp_path / "bin", uname=uname, sysctl=f"echo {translated}", rm=":")
    done = run("sh", universal, *ASK, env=fresh | {"PATH": f"{folder}:{fresh['PATH']}"}, ok=False)
    (program,) = kept(fresh, cache)
    assert program.read_bytes() == (dist / f"tealight-{target}").read_bytes()
    assert program.stat().st_mode & 0o777 == 0o700
    assert done.returncode == 0 or target in done.stderr, done.stderr


@pytest.mark.parametrize(("system", "machine"), [("FreeBSD", "amd64"), ("Linux", "riscv64"), ("SunOS", "i86pc")])
def test_a_system_without_a_program_is_told_which_there_are(universal, fresh, tmp_path, system, machine):
    folder = commands(tmp_path / "bin", uname=f'case $1 in -s) echo {system} ;; -m) echo {machine} ;; esac')
    done = run("sh", universal, *ASK, env=fresh | {"PATH": f"{folder}:{fresh['PATH']}"}, ok=False)
    assert done.returncode == 1 and f"no program for {system} on {machine}" in done.stderr, done.stderr
    assert all(name in done.stderr for name in ("windows-x86_64", *BEHIND))
    assert kept(fresh) == []


def test_a_library_that_is_missing_is_explained(universal, fresh, tmp_path):
    # As on Alpine: the program is there, what would load it is not, and a shell says 127.
    folder = commands(tmp_path / "bin", chmod='/bin/chmod "$@"; printf "#!/nowhere/ld.so\\n" >"$2"')
    done = run("sh", universal, *ASK, env=fresh | {"PATH": f"{folder}:{fresh['PATH']}"}, ok=False)
    assert done.returncode == 1 and "needs glibc" in done.stderr, done.stderr
    assert kept(fresh) == []


@pytest.mark.nightly
def test_windows_starts_it_as_it_is(windows, universal, expected, answer, tmp_path):  # noqa: F811
    folder = tmp_path / "mi carpeta ñandú 蝋燭"
    folder.mkdir()
    program = link(universal, folder / "la vela.exe")
    assert windows.run(program, *ASK).stdout == expected
    assert windows.run(program, "verify").returncode == 0
    with windows.serve(program, folder=tmp_path / "server") as server:
        assert server.chat(QUESTION)["choices"] == answer


@pytest.mark.nightly
def test_on_arm_the_program_takes_the_model_from_the_file(arm, universal, expected, answer, fresh, tmp_path):  # noqa: F811
    folder = commands(tmp_path / "bin", uname='case $1 in -s) echo Linux ;; -m) echo aarch64 ;; esac', rm=":")
    run("sh", universal, *ASK, env=fresh | {"PATH": f"{folder}:{fresh['PATH']}"}, ok=False)
    (program,) = kept(fresh)
    # What the script would do now, but for the emulator.
    assert arm.run(program, "--bundle", universal, *ASK).stdout == expected
    emulated = [*arm.command, program, "--bundle"]
    with Server(universal, "-c", 512, prefix=emulated, within=120, folder=tmp_path / "server") as server:
        assert server.chat(QUESTION)["choices"] == answer
