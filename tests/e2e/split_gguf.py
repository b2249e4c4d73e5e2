"""Splits a GGUF file the way llama.cpp's `gguf-split` does: `name-00001-of-0000N.gguf`.

Enters: a version 3 GGUF file. Leaves: N files; the first has all the metadata, each has `split.no`, `split.count`,
`split.tensors.count` and its share of the tensors. Knows nothing of what they mean.
"""

from __future__ import annotations

import struct
from pathlib import Path

UINT16, UINT32, INT32, STRING, ARRAY = 2, 4, 5, 8, 9
WIDTH = {0: 1, 1: 1, UINT16: 2, 3: 2, UINT32: 4, INT32: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes by value type
ALIGNMENT = 32


def split(source: Path, folder: Path, count: int, stem: str = "split") -> list[Path]:
    data = source.read_bytes()
    magic, version, n_tensors, n_keys = struct.unpack_from("<4sIQQ", data)
    assert (magic, version) == (b"GGUF", 3)
    metadata_end = after_metadata(data, 24, n_keys)
    infos, at = [], metadata_end  # (name and shape and type as bytes, offset of the data)
    for _ in range(n_tensors):
        begin = at
        at = after_string(data, at)
        at += 4 + 8 * struct.unpack_from("<I", data, at)[0] + 4
        infos.append((data[begin:at], struct.unpack_from("<Q", data, at)[0]))
        at += 8
    start = aligned(at)
    offsets = sorted(offset for _, offset in infos)
    ends = dict(zip(offsets, [*offsets[1:], len(data) - start]))
    paths = []
    for number in range(count):
        share = infos[number * n_tensors // count : (number + 1) * n_tensors // count]
        keys = key("split.no", UINT16, number) + key("split.count", UINT16, count)
        keys += key("split.tensors.count", INT32, n_tensors)
        if number == 0:
            keys = data[24:metadata_end] + keys
        header = struct.pack("<4sIQQ", b"GGUF", 3, len(share), 3 + (n_keys if number == 0 else 0)) + keys
        body = b""
        for info, offset in share:
            header += info + struct.pack("<Q", len(body))
            tensor = data[start + offset : start + ends[offset]]
            body += tensor + b"\0" * (aligned(len(tensor)) - len(tensor))
        path = folder / f"{stem}-{number + 1:05}-of-{count:05}.gguf"
        path.write_bytes(header + b"\0" * (aligned(len(header)) - len(header)) + body)
        paths.append(path)
    return paths


def key(name: str, kind: int, value: int) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value.to_bytes(WIDTH[kind], "little")


def aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def after_string(data: bytes, at: int) -> int:
    return at + 8 + struct.unpack_from("<Q", data, at)[0]


def after_metadata(data: bytes, at: int, n_keys: int) -> int:
    for _ in range(n_keys):
        at = after_string(data, at)
        at = after_value(data, at + 4, struct.unpack_from("<I", data, at)[0])
    return at


def after_value(data: bytes, at: int, kind: int) -> int:
    if kind == STRING:
        return after_string(data, at)
    if kind != ARRAY:
        return at + WIDTH[kind]
    element, length = struct.unpack_from("<IQ", data, at)
    at += 12
    if element in WIDTH:
        return at + WIDTH[element] * length
    for _ in range(length):
        at = after_value(data, at, element)
    return at
