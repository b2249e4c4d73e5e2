"""A stick: one folder with a program for each system, run from a medium that cannot be written to."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from harness import BUNDLER, CLEAN, RUNTIME, SMOLLM2, link, missing, needs, run

PROMPT = ("-p", "The three primary colours are", "-n", "8", "--temp", "0", "-c", "256")
NATIVE = {"x86_64": "linux-x86_64", "aarch64": "linux-aarch64"}.get(platform.machine())
# Less than half of SmolLM2: it becomes three files, as a model above 8 GiB does on FAT32.
PART = 45_000_000

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or NATIVE is None, reason="the stick is started on Linux here"
)


@pytest.fixture(scope="module")
def stick(tmp_path_factory):
    dist = tmp_path_factory.mktemp("dist")
    link(RUNTIME, dist / f"tealight-{NATIVE}")
    folder = tmp_path_factory.mktemp("medium") / "STICK"
    made = run(
        BUNDLER, "usb", folder, "--weights", SMOLLM2, "--dist", dist, "--filesystem", "fat32", "--part-bytes", PART,
        "--name", "Vela", "--system-prompt", "You are a candle.",
    )  # fmt: skip
    assert "no runtime for windows-x86_64" in made.stderr
    yield folder
    shutil.rmtree(folder.parent)


@pytest.fixture(scope="module")
def expected(bundle) -> str:
    return run(bundle, *PROMPT).stdout


def lock(folder: Path, *, execute: bool) -> None:
    """What a medium that is mounted read-only looks like; FAT may be mounted without permission to execute, too."""
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o555 if path.is_dir() or execute else 0o444)


@pytest.fixture
def read_only(stick, tmp_path):
    """A copy that cannot be written to, as on a stick mounted read-only; a real FAT where that is permitted."""
    copy = tmp_path / "MY STICK é"
    copy.mkdir()
    for path in stick.iterdir():
        link(path, copy / path.name)
        # Hard links share their permissions, so what changes them needs files of its own.
        if path.suffix != ".gguf":
            (copy / path.name).unlink()
            shutil.copy2(path, copy / path.name)
    yield copy
    copy.chmod(0o755)


def start(folder: Path, *arguments, **more):
    # No home, and no place for temporary files that exists.
    env = {name: value for name, value in CLEAN.items() if name not in ("HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")}
    env |= {"TMPDIR": "/nonexistent", "HOME": "/nonexistent"}
    return run("sh", folder / "start-chat-linux.sh", *arguments, **{"env": env, "cwd": "/"} | more)


def test_the_weights_are_divided_and_give_the_same_text(stick, expected):
    parts = sorted(stick.glob("*.gguf"))
    assert [part.name[-20:] for part in parts] == [f"-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert all(part.stat().st_size <= PART for part in parts)
    assert run(RUNTIME, "--weights", parts[1], *PROMPT).stdout == expected
    run(BUNDLER, "verify", stick / f"tealight-{NATIVE}")
    run("sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS", cwd=stick)


@pytest.mark.nightly
def test_llama_cpp_reads_the_parts(stick):
    try:
        import llama_cpp
    except ImportError:
        missing("llama.cpp's Python package is not installed")
    model = llama_cpp.Llama(str(sorted(stick.glob("*.gguf"))[0]), n_ctx=64, verbose=False)
    assert model.n_vocab() == 49152
    assert len(model("The three primary colours are", max_tokens=4, temperature=0)["choices"][0]["text"]) > 2


def test_the_script_starts_the_program_from_a_read_only_medium(read_only, expected):
    lock(read_only, execute=True)
    assert start(read_only, *PROMPT).stdout == expected
    config = start(read_only, "--print-config").stdout
    assert "You are a candle." in config


def test_without_permission_to_execute_the_systems_loader_starts_it(read_only, expected):
    lock(read_only, execute=False)
    if os.access(read_only / f"tealight-{NATIVE}", os.X_OK):
        pytest.skip("here everything may be executed")
    assert start(read_only, *PROMPT).stdout == expected
    assert "You are a candle." in start(read_only, "--print-config").stdout


def test_where_nothing_may_be_executed_the_script_says_what_to_do(read_only):
    program = read_only / f"tealight-{NATIVE}"
    # What the loader cannot start stands for a mount with noexec.
    program.write_bytes(b"\x7fELF" + bytes(100))
    program.chmod(0o444)
    done = start(read_only, *PROMPT, ok=False)
    assert done.returncode == 126
    assert "noexec" in done.stderr and f"cp '{program}'" in done.stderr and "--bundle" in done.stderr


def test_the_macos_script_starts_the_program_for_the_processor(read_only, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    source = Path(__file__).parents[2] / "bundler/src/program/usb/start-macos.sh"
    script = shutil.copy2(source, read_only / "Start chat (macOS).command")
    for name in ("macos-arm64", "macos-x86_64"):
        program = read_only / f"tealight-{name}"
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)
    for machine, translated, started in (
        ("arm64", "1", "macos-arm64"),
        ("x86_64", "1", "macos-arm64"),  # a terminal for Intel on Apple's processor
        ("x86_64", "", "macos-x86_64"),
    ):
        for tool, says in (("uname", machine), ("sysctl", translated)):
            (tools / tool).write_text(f"#!/bin/sh\necho {says}\n")
            (tools / tool).chmod(0o755)
        env = CLEAN | {"PATH": f"{tools}:{CLEAN['PATH']}"}
        assert run("sh", script, "--port", "1 2", env=env).stdout == f"{started} --port 1 2\n"


def test_a_real_fat_image_holds_it_and_starts_it(stick, tmp_path, expected):
    if os.geteuid() != 0:
        pytest.skip("a FAT image can be mounted by root only")
    needs("mkfs.vfat")
    image, mount = tmp_path / "image", tmp_path / "STICK"
    with image.open("wb") as file:
        file.truncate(600 << 20)
    run("mkfs.vfat", "-F", "32", image)
    mount.mkdir()
    mounted = subprocess.run(
        ["mount", "-o", "loop,showexec,utf8", str(image), str(mount)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"this machine mounts no image: {mounted.stderr.strip()}")
    try:
        dist = tmp_path / "dist"
        dist.mkdir()
        link(RUNTIME, dist / f"tealight-{NATIVE}")
        # Without --filesystem: what the folder is on.
        run(BUNDLER, "usb", mount / "chat", "--weights", SMOLLM2, "--dist", dist, timeout=300)
        run("mount", "-o", "remount,ro", mount)
        mode = stat.S_IMODE((mount / "chat" / f"tealight-{NATIVE}").stat().st_mode)
        assert not mode & 0o111, "showexec gives the permission to .exe only"
        assert start(mount / "chat", *PROMPT).stdout == expected
    finally:
        run("umount", mount)


def test_the_read_me_speaks_of_what_is_there(stick):
    text = (stick / "README.txt").read_bytes().decode()
    assert text.startswith("Vela\r\n") and text.count("\r\n") == text.count("\n")
    assert text.count("sh start-chat-linux.sh") == 2, "once in each language"
    assert not re.search(r"SmartScreen|Gatekeeper|\{\{", text)
