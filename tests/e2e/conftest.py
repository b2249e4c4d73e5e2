"""Real things only: the built programs, the real SmolLM2, real sockets, a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from harness import BUNDLER, CONTEXT, RUNTIME, SMOLLM2, Server, bundle_of


def pytest_configure(config):
    missing = [path for path in (RUNTIME, BUNDLER, SMOLLM2) if not path.is_file()]
    if missing and not config.option.help:
        pytest.exit(f"{missing[0]} is not there; `make test` builds and gets everything", returncode=2)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """The real model in one executable file. Not to be changed: see `copy_of_bundle`."""
    path = bundle_of(tmp_path_factory.mktemp("bundle"))
    yield path
    path.unlink()


@pytest.fixture
def copy_of_bundle(bundle, tmp_path):
    """A bundle of a test's own, to change or damage."""
    target = tmp_path / "copy"
    shutil.copy2(bundle, target)
    yield target
    target.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def server(bundle, tmp_path_factory):
    """A server on the bundle, with a small context; it has to have survived all tests of a file."""
    server = Server(bundle, "-c", CONTEXT, folder=tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def start(tmp_path):
    """Starts servers of a test's own, and ends them cleanly."""
    running = []

    def start(program, *arguments, **more) -> Server:
        more = {"folder": tmp_path / f"cwd{len(running)}"} | more
        running.append(Server(program, *arguments, **more))
        return running[-1]

    yield start
    for server in running:
        server.stop()
