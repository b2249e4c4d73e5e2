#!/usr/bin/env python3
"""Says what keeps an executable from being published.

Enters: the name of a target, executables for it, and paths that may not be found in them. Leaves: nothing, or one line
for each fault. It asks that an executable is small, is for that target, wants no library but the system's, and runs on
old systems: glibc 2.17 (CentOS 7), Windows' own DLLs, macOS 11 and 10.12 with a signature that verifies. Reads the
formats itself, since the three systems have three different programs for that.

    python3 tools/dist/check.py linux-x86_64 dist/tealight-linux-x86_64 --without "$PWD" --without "$HOME"
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

BYTES_MAX = 20_000_000
GLIBC_MAX = (2, 17)

# The machine as the format numbers it, and for macOS the oldest version that has to be able to start it.
ELF_MACHINES = {"linux-x86_64": 62, "linux-aarch64": 183}
PE_MACHINES = {"windows-x86_64": 0x8664, "windows-arm64": 0xAA64}
MACH_O_MACHINES = {"macos-x86_64": (0x0100_0007, (10, 12)), "macos-arm64": (0x0100_000C, (11, 0))}
TARGETS = [*ELF_MACHINES, *PE_MACHINES, *MACH_O_MACHINES]

# The parts of glibc. Not libgcc_s, which small systems lack.
ELF_LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
ELF_LIBRARIES |= {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
# What every Windows since 10 has in System32; `api-ms-win-…` are names for parts of these.
PE_LIBRARIES = {"advapi32", "bcrypt", "bcryptprimitives", "kernel32", "msvcrt", "ntdll", "ole32", "oleaut32", "psapi"}
PE_LIBRARIES |= {"secur32", "shell32", "shlwapi", "ucrtbase", "user32", "userenv", "ws2_32", "pdh", "powrprof"}
MACH_O_LIBRARIES = ("/usr/lib/", "/System/Library/")


class Fault(Exception):
    """Something that keeps an executable from being published."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("executables", type=Path, nargs="+")
    parser.add_argument("--without", action="append", default=[], help="a path of this machine that may not be in it")
    args = parser.parse_args()
    found = 0
    for path in args.executables:
        try:
            faults = check(args.target, path.read_bytes(), args.without)
        except OSError as error:
            faults = [str(error)]
        found += len(faults)
        for fault in faults:
            print(f"error: {path}: {fault}", file=sys.stderr)
    return 1 if found else 0


def check(target: str, data: bytes, without: list[str] = ()) -> list[str]:
    """All faults of an executable."""
    faults = []
    if len(data) > BYTES_MAX:
        faults.append(f"found {len(data):,} bytes, expected at most {BYTES_MAX:,}")
    faults += [f"contains a path of this machine: {path}" for path in without if path.encode() in data]
    reader = elf if target in ELF_MACHINES else pe if target in PE_MACHINES else mach_o
    try:
        faults += reader(target, data)
    except Fault as fault:
        faults.append(str(fault))
    except (struct.error, IndexError, ValueError, UnicodeDecodeError) as error:
        faults.append(f"not readable as an executable for {target} ({error})")
    return faults


def text(data: bytes, at: int) -> str:
    """The text up to the next zero byte."""
    return data[at : data.index(b"\0", at)].decode()


# ---- ELF: Linux


def elf(target: str, data: bytes) -> list[str]:
    if data[:6] != b"\x7fELF\x02\x01":
        raise Fault("not a 64-bit little-endian ELF file")
    machine = struct.unpack_from("<H", data, 18)[0]
    if machine != ELF_MACHINES[target]:
        raise Fault(f"found machine {machine}, expected {ELF_MACHINES[target]}")
    table, size, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQ", data, table + size * n) for n in range(count)]

    def offset(address: int) -> int:
        for kind, _, start, virtual, _, length in segments:
            if kind == 1 and virtual <= address < virtual + length:
                return start + address - virtual
        raise Fault(f"address {address:#x} is in no segment")

    entries: dict[int, list[int]] = {}
    for kind, _, start, _, _, length in segments:
        if kind == 2:
            for tag, value in struct.iter_unpack("<QQ", data[start : start + length]):
                entries.setdefault(tag, []).append(value)
    if 5 not in entries:
        return []  # nothing dynamic: nothing wanted
    names = offset(entries[5][0])
    wanted = [text(data, names + value) for value in entries.get(1, [])]
    faults = [f"wants {name}, which is not a part of glibc" for name in wanted if name not in ELF_LIBRARIES]
    for tag, what in ((15, "RPATH"), (29, "RUNPATH")):
        faults += [f"has a {what}: {text(data, names + value)}" for value in entries.get(tag, [])]
    # Versions of symbols: a list of libraries, each with a list of versions.
    too_new = set()
    at = offset(entries[0x6FFFFFFE][0]) if 0x6FFFFFFE in entries else None
    while at is not None:
        _, count, _, first, following = struct.unpack_from("<HHIII", data, at)
        version = at + first
        for _ in range(count):
            name, after = struct.unpack_from("<II", data, version + 8)
            label = text(data, names + name)
            if label.startswith("GLIBC_") and tuple(map(int, label[6:].split("."))) > GLIBC_MAX:
                too_new.add(label)
            version += after
        at = at + following if following else None
    if too_new:
        faults.append(f"wants {', '.join(sorted(too_new))}; at most GLIBC_{'.'.join(map(str, GLIBC_MAX))} expected")
    return faults


# ---- PE: Windows


def pe(target: str, data: bytes) -> list[str]:
    header = struct.unpack_from("<I", data, 0x3C)[0]
    if data[:2] != b"MZ" or data[header : header + 4] != b"PE\0\0":
        raise Fault("not a PE file")
    machine, count = struct.unpack_from("<HH", data, header + 4)
    if machine != PE_MACHINES[target]:
        raise Fault(f"found machine {machine:#x}, expected {PE_MACHINES[target]:#x}")
    optional = header + 24
    if struct.unpack_from("<H", data, optional)[0] != 0x20B:
        raise Fault("not a 64-bit PE file")
    table = optional + struct.unpack_from("<H", data, header + 20)[0]
    sections = [struct.unpack_from("<IIII", data, table + 40 * n + 8) for n in range(count)]

    def offset(address: int) -> int:
        for _, virtual, length, start in sections:
            if virtual <= address < virtual + length:
                return start + address - virtual
        raise Fault(f"address {address:#x} is in no section")

    wanted = []
    # Imports are directory 1, imports at first use are directory 13: rows of 20 and 32 bytes, a zero row last.
    for directory, row, name in ((1, 20, 12), (13, 32, 4)):
        address = struct.unpack_from("<I", data, optional + 112 + 8 * directory)[0]
        at = offset(address) if address else None
        while at is not None and any(data[at : at + row]):
            wanted.append(text(data, offset(struct.unpack_from("<I", data, at + name)[0])).lower())
            at += row
    own = [name for name in wanted if name.startswith("api-ms-win-") or name.removesuffix(".dll") in PE_LIBRARIES]
    return [f"wants {name}, which is not a part of Windows" for name in wanted if name not in own]


# ---- Mach-O: macOS


@dataclass
class Signature:
    """A code directory: what of the file is signed, and how."""

    start: int
    code_bytes: int
    page_bytes: int
    hashes: list[bytes]


def mach_o(target: str, data: bytes) -> list[str]:
    if data[:4] != b"\xcf\xfa\xed\xfe":
        raise Fault("not a 64-bit Mach-O file")
    expected, oldest = MACH_O_MACHINES[target]
    machine, _, _, count = struct.unpack_from("<IIII", data, 4)
    if machine != expected:
        raise Fault(f"found machine {machine:#x}, expected {expected:#x}")
    faults, signed, at = [], False, 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", data, at)
        if command in (0xC, 0x8000_0018, 0x8000_001F, 0x20):  # libraries: needed, weak, re-exported, at first use
            name = text(data, at + struct.unpack_from("<I", data, at + 8)[0])
            if not name.startswith(MACH_O_LIBRARIES):
                faults.append(f"wants {name}, which is not a part of macOS")
        elif command in (0x24, 0x32):  # the oldest version: LC_VERSION_MIN_MACOSX, LC_BUILD_VERSION
            packed = struct.unpack_from("<I", data, at + (8 if command == 0x24 else 12))[0]
            version = (packed >> 16, packed >> 8 & 0xFF)
            if version > oldest:
                faults.append(f"wants macOS {version[0]}.{version[1]}; at most {oldest[0]}.{oldest[1]} expected")
        elif command == 0x1D:  # LC_CODE_SIGNATURE
            signed = True
            faults += broken_pages(data, code_directory(data, *struct.unpack_from("<II", data, at + 8)))
        at += size
    if not signed and target == "macos-arm64":
        faults.append("no signature; Apple silicon does not run unsigned programs")
    return faults


def code_directory(data: bytes, start: int, length: int) -> Signature:
    blob = data[start : start + length]
    magic, _, count = struct.unpack_from(">III", blob)
    if magic != 0xFADE_0CC0:
        raise Fault("the signature is not a super blob")
    for n in range(count):
        kind, at = struct.unpack_from(">II", blob, 12 + 8 * n)
        if kind == 0:
            hashes, slots, code_bytes = (struct.unpack_from(">I", blob, at + place)[0] for place in (16, 28, 32))
            size, algorithm, page = blob[at + 36], blob[at + 37], blob[at + 39]
            if (size, algorithm) != (32, 2):
                raise Fault(f"the signature has hashes of type {algorithm}, expected SHA-256 (2)")
            first = at + hashes
            found = [blob[first + 32 * n : first + 32 * (n + 1)] for n in range(slots)]
            return Signature(start, code_bytes, 1 << page, found)
    raise Fault("no code directory in the signature")


def broken_pages(data: bytes, signature: Signature) -> list[str]:
    if signature.code_bytes != signature.start:
        return [f"the signature covers {signature.code_bytes} bytes, expected the {signature.start} before it"]
    pages = range(0, signature.code_bytes, signature.page_bytes)
    if len(pages) != len(signature.hashes):
        return [f"the signature has {len(signature.hashes)} pages, expected {len(pages)}"]
    for at, expected in zip(pages, signature.hashes):
        page = data[at : min(at + signature.page_bytes, signature.code_bytes)]
        if hashlib.sha256(page).digest() != expected:
            return [f"the page at {at:#x} does not match its signature"]
    return []


if __name__ == "__main__":
    sys.exit(main())
