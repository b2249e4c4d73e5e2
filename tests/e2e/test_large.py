"""Weights above 4 and 8 GiB: the file for Linux runs, other programs read it, Windows and macOS get a pair."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile

import pytest
from harness import BUNDLER, RUNTIME, SMOLLM2, run
from sparse_gguf import GIB, needs_holes, spread
from test_targets import windows  # noqa: F401 (a fixture)

PROMPT = ("-p", "The three primary colours are", "-n", "8", "--temp", "0", "-c", "256")
# Summing up gigabytes of zeros takes seconds; on a busy machine more.
PATIENCE = {"timeout": 600}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    needs_holes(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def four(folder):
    """A part of the tensors lies above 4 GiB."""
    return spread(SMOLLM2, folder / "four.gguf", 4 * GIB + 4096)


@pytest.fixture(scope="module")
def eight(folder):
    """A third of the tensors lies above 4 GiB, a third above 8."""
    return spread(SMOLLM2, folder / "eight.gguf", 4 * GIB, 4 * GIB)


@pytest.fixture(scope="module")
def single(eight, folder):
    made = run(BUNDLER, "--weights", eight, "-o", folder / "chat", "--runtime", RUNTIME, **PATIENCE)
    assert "beside" not in made.stderr, "Linux starts files of any length"
    return folder / "chat"


@pytest.fixture(scope="module")
def expected(bundle) -> str:
    return run(bundle, *PROMPT).stdout


def on_disk(path) -> int:
    return path.stat().st_blocks * 512


def test_weights_in_a_file_above_eight_gib_are_used(eight, expected):
    assert eight.stat().st_size > 8 * GIB
    assert on_disk(eight) < 200 << 20, "the test's own file has no holes"
    assert run(RUNTIME, "--weights", eight, *PROMPT).stdout == expected


def test_one_file_above_eight_gib_runs(single, expected):
    assert single.stat().st_size > 8 * GIB
    assert on_disk(single) < 400 << 20, "holes were filled"
    assert run(single, *PROMPT).stdout == expected


def test_other_programs_find_everything_in_it(single, eight):
    with zipfile.ZipFile(single) as archive:
        weights = archive.getinfo("weights/eight.gguf")
        assert weights.file_size == eight.stat().st_size
        with archive.open(weights) as inside:
            assert inside.read(4) == b"GGUF"
        assert json.loads(archive.read("manifest.json"))["entries"][1]["bytes"] == weights.file_size
        page = archive.getinfo("web/index.html")
        assert page.header_offset > 8 * GIB
        assert b"<!doctype html>" in archive.read(page)[:100].lower()
    if shutil.which("unzip"):
        listed = run("unzip", "-l", single)
        assert str(eight.stat().st_size) in listed.stdout and not listed.stderr
        assert run("unzip", "-p", single, "web/index.html", text=False).stdout[:9].lower() == b"<!doctype"
    if shutil.which("7z"):
        # As docs/bundle-format.md says: 7-Zip looks for the start of a zip in the first 8 MiB.
        listed = run("7z", "l", "-tzip:s1g", single, **PATIENCE)
        assert str(eight.stat().st_size) in listed.stdout and "Warnings" not in listed.stdout
        assert "<!doctype" in run("7z", "e", "-so", "-tzip:s1g", single, "web/index.html", **PATIENCE).stdout.lower()


def test_its_settings_change_without_reading_the_weights(single, expected):
    run(BUNDLER, "set", single, "--name", "Large", timeout=20)
    assert run(BUNDLER, "list", "--json", single).stdout.find('"Large"') > 0
    assert run(single, *PROMPT).stdout == expected


def windows_program(folder):
    """What Windows would take for a program, if only by its headers."""
    program = folder / "headers.exe"
    program.write_bytes(b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80) + bytes(64) + b"PE\0\0" + bytes(4096))
    return program


def test_windows_gets_a_pair_and_the_reason(four, folder):
    made = run(
        BUNDLER, "--weights", four, "-o", folder / "w" / "chat", "--runtime", windows_program(folder), ok=False, **PATIENCE
    )
    assert made.returncode == 1 and "the folder" in made.stderr and "does not exist" in made.stderr
    (folder / "w").mkdir()
    made = run(BUNDLER, "--weights", four, "-o", folder / "w" / "chat", "--runtime", windows_program(folder), **PATIENCE)
    assert "Windows does not start an .exe above 4 GiB" in made.stderr
    assert sorted(path.name for path in (folder / "w").iterdir()) == ["chat.exe", "chat.gguf"]
    assert (folder / "w" / "chat.gguf").stat().st_size == four.stat().st_size
    assert (folder / "w" / "chat.exe").stat().st_size < 1 << 20
    run(BUNDLER, "verify", folder / "w" / "chat.exe", **PATIENCE)


@pytest.mark.nightly
def test_the_pair_runs_on_windows(windows, four, folder, expected):  # noqa: F811
    target = folder / "pair"
    target.mkdir()
    # The weights are there already: they are summed up, not copied.
    (four.parent / "pair" / "chat.gguf").hardlink_to(four)
    made = run(
        BUNDLER, "--weights", target / "chat.gguf", "-o", target / "chat.exe", "--runtime", windows.runtime, **PATIENCE
    )
    assert "Windows does not start an .exe above 4 GiB" in made.stderr
    assert windows.run(target / "chat.exe", *PROMPT).stdout == expected
    assert windows.run(windows.runtime, "--weights", windows.path(four), *PROMPT).stdout == expected
