"""Spreads a model over gigabytes that take no room on disk: what it computes stays the same.

Enters: a version 3 GGUF file, and where its tensors should come to lie. Leaves: a file whose tensors have holes between
them; the format lets a tensor begin at any aligned place. Knows nothing of what they mean.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from split_gguf import after_metadata, after_string, aligned

GIB = 1 << 30


def spread(source: Path, target: Path, *gaps: int) -> Path:
    """Puts the first share of the tensors where it was, and each further share behind one more of the gaps."""
    data = source.read_bytes()
    n_tensors, n_keys = struct.unpack_from("<QQ", data, 8)
    at = after_metadata(data, 24, n_keys)
    places = []  # where a tensor's offset is written, and what it is
    for _ in range(n_tensors):
        at = after_string(data, at)
        at += 4 + 8 * struct.unpack_from("<I", data, at)[0] + 4
        places.append((at, struct.unpack_from("<Q", data, at)[0]))
        at += 8
    start = aligned(at)
    header = bytearray(data[:start])
    ends = sorted(offset for _, offset in places)[1:] + [len(data) - start]
    with target.open("wb") as file:
        for number, ((field, offset), end) in enumerate(zip(sorted(places, key=lambda place: place[1]), ends)):
            share = number * (len(gaps) + 1) // n_tensors
            moved = offset + aligned(sum(gaps[:share]))
            struct.pack_into("<Q", header, field, moved)
            file.seek(start + moved)
            file.write(data[start + offset : start + end])
        file.seek(0)
        file.write(header)
    return target


def needs_holes(folder: Path) -> None:
    """Skips where the file system would write every zero."""
    probe = folder / "probe"
    with probe.open("wb") as file:
        file.truncate(64 << 20)
    used = getattr(probe.stat(), "st_blocks", 1 << 30) * 512
    probe.unlink()
    if used > 1 << 20:
        pytest.skip(f"{folder}: this file system keeps no holes, and the test would fill the disk")
