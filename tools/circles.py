#!/usr/bin/env python3
"""Finds circles: files that import each other in a loop. Part of `make check`; fails if there is one.

Enters: the Rust files of each crate, and the scripts of the page. Leaves: nothing, or each circle with what ties it.

How it reads. Every path that begins with `crate`, `self` or `super` counts, in a `use` or in the code; so does one that
begins with a module declared in the same file, and one of another crate of this workspace. A path is followed down the
modules as far as they go; where the next name is re-exported there, through that `use`. The file it ends in is imported.
Declaring a module (`mod x;`) and re-exporting from it (`pub use x::Y;`) is no import: that is how a folder shows itself.
Nor is what a file takes from the file of a folder that it lies in (`super::Error`): there stands what all of the folder
share. Tests don't count (modules under `#[cfg(test)]`): they may look at anything. Of JavaScript, `import … from './x.js'` is read.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The crates that this workspace is made of: the name that paths say, and the folder of the sources.
CRATES = {"tealight": ROOT / "src", "tealight_bundle": ROOT / "bundler/src"}
PAGE = ROOT / "web"

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
TEXT = re.compile(r'b?r(#*)".*?"\1|b?"(?:[^"\\]|\\.)*"|b?\'(?:[^\'\\\n]|\\.[^\'\n]*)\'', re.S)
MODULE = re.compile(r"^\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;", re.M)
PLACED = re.compile(r'#\[path = "([^"]+)"\]\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;')
USE = re.compile(r"^\s*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", re.M)
TEST = re.compile(r"#\[cfg\((?:all\()?test\b[^\]]*\]\s*((?:#\[[^\]]*\]\s*)*)(?:pub(?:\([^)]*\))?\s+)?(mod|use|fn|impl|const)\b")
PATH = re.compile(r"(?<![\w:])((?:crate|self|super|[a-z_]\w*)(?:::\w+)+)")
IMPORT = re.compile(r"""^\s*(?:import|export)\b[^'"]*from\s*['"]\./([^'"]+)['"]|^\s*import\s*['"]\./([^'"]+)['"]""", re.M)


@dataclass
class Module:
    """One file of a crate, or a module written within one (which shares its file)."""

    crate: str
    path: tuple[str, ...]
    file: Path
    children: set[str] = field(default_factory=set)
    # Names that stand for another path here, and whether others may use them.
    names: dict[str, tuple[tuple[str, ...], bool]] = field(default_factory=dict)
    globs: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)
    code: str = ""


def main() -> int:
    modules: dict[tuple[str, tuple[str, ...]], Module] = {}
    for crate, folder in CRATES.items():
        for root in ("lib.rs", "main.rs"):
            if (folder / root).is_file():
                # A program's own file is a crate of its own.
                read(modules, crate if root == "lib.rs" else f"{crate} program", (), folder / root, folder)
    arrows: dict[Path, dict[Path, set[str]]] = {}
    for module in modules.values():
        for name, found in imports(modules, module):
            target = found.file
            if target != module.file and not is_under(module, found):
                arrows.setdefault(module.file, {}).setdefault(target, set()).add(name)
    for script in sorted(PAGE.glob("*.js")):
        for found in IMPORT.finditer(COMMENT.sub("", script.read_text())):
            arrows.setdefault(script, {}).setdefault(PAGE / (found[1] or found[2]), set()).add("import")
    circles = loops(arrows)
    for number, circle in enumerate(circles, 1):
        print(f"cycle {number}: {len(circle)} files import each other", file=sys.stderr)
        for source in sorted(circle):
            for target in sorted(arrows[source].keys() & circle):
                names = ", ".join(sorted(arrows[source][target]))
                print(f"  {source.relative_to(ROOT)} -> {target.relative_to(ROOT)}: {names}", file=sys.stderr)
    if circles:
        print("hint: move what both sides need into a third file that imports neither", file=sys.stderr)
    return 1 if circles else 0


def read(modules: dict, crate: str, path: tuple[str, ...], file: Path, folder: Path) -> None:
    """Reads a file and the files of the modules that it declares, which lie in `folder`."""
    code = without_tests(file.read_text())
    module = modules[crate, path] = Module(crate, path, file)
    placed = {name: file.parent / where for where, name in PLACED.findall(code)}
    code = TEXT.sub('""', COMMENT.sub("", code))
    for name in MODULE.findall(code):
        module.children.add(name)
        at = placed.get(name)
        if at is None:
            at = next(at for at in (folder / f"{name}.rs", folder / name / "mod.rs") if at.is_file())
        inner = at.parent if at.name == "mod.rs" else folder / name
        read(modules, crate, (*path, name), at, inner)
    for visible, tree in USE.findall(code):
        for target, name in leaves(tree):
            if name == "*":
                module.globs.append((target, bool(visible)))
            else:
                module.names[name] = (target, bool(visible))
    module.code = USE.sub("", code)


def without_tests(code: str) -> str:
    """The code without what is compiled for tests only."""
    while found := TEST.search(code):
        end = code.find(";", found.end())
        begin = code.find("{", found.end())
        if begin != -1 and (begin < end or end == -1) and found[2] != "use":
            end, depth = begin, 0
            for end in range(begin, len(code)):
                depth += {"{": 1, "}": -1}.get(code[end], 0)
                if not depth:
                    break
        code = code[: found.start()] + code[end + 1 :]
    return code


def leaves(tree: str, before: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    """Each path of a `use`, and the name that it gets."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    if brace:
        base = (*before, *(part for part in head.strip().split("::") if part))
        found, depth, start = [], 0, 0
        inner = rest.rpartition("}")[0] + ","
        for at, sign in enumerate(inner):
            depth += {"{": 1, "}": -1}.get(sign, 0)
            if sign == "," and not depth:
                part = inner[start:at].strip()
                start = at + 1
                if part:
                    found += leaves(part, base)
        return found
    path, _, name = tree.partition(" as ")
    parts = (*before, *path.strip().split("::"))
    if parts[-1] == "self":
        parts = parts[:-1]
    if parts[-1] == "*":
        return [(parts[:-1], "*")]
    return [(parts, name.strip() or parts[-1])]


def imports(modules: dict, module: Module):
    """What a module takes from which file."""
    for target, visible in [*module.names.values(), *module.globs]:
        found = resolve(modules, module, target)
        if found and not (visible and is_under(found, module)):
            yield target[-1], found
    for path in PATH.findall(module.code):
        found = resolve(modules, module, tuple(path.split("::")))
        if found:
            yield path.rpartition("::")[2], found


def is_under(found: Module, module: Module) -> bool:
    return found.crate == module.crate and found.path[: len(module.path)] == module.path


def resolve(modules: dict, module: Module, path: tuple[str, ...], seen: frozenset = frozenset()) -> Module | None:
    """The module in whose file the last name of a path is defined; `None`: it is of another crate, or a name within this file."""
    first, *rest = path
    at = module
    if first in ("crate", "self", "super"):
        if first == "crate":
            at = modules[module.crate, ()]
        elif first == "super":
            at = modules[module.crate, module.path[:-1]]
        while rest and rest[0] == "super":
            at = modules[at.crate, at.path[:-1]]
            rest = rest[1:]
    elif first in CRATES and module.crate != first:
        at = modules[first, ()]
    elif first in module.children:
        rest = [first, *rest]
    elif first in module.names and (module.path, first) not in seen:
        target = module.names[first][0]
        if target[0] == first:
            return None
        return resolve(modules, module, (*target, *rest), seen | {(module.path, first)})
    else:
        return None
    for index, name in enumerate(rest):
        if name in at.children:
            at = modules[at.crate, (*at.path, name)]
            continue
        key = (at.path, name)
        if name in at.names and key not in seen:
            target = at.names[name][0]
            return resolve(modules, at, (*target, *rest[index + 1 :]), seen | {key}) or at
        for target, _ in at.globs:
            inner = resolve(modules, at, target, seen | {key})
            if inner and key not in seen and re.search(rf"\b(?:fn|struct|enum|trait|type|const|static|mod|union)\s+{name}\b", inner.code):
                return inner
        break
    return at


def loops(arrows: dict[Path, dict[Path, set[str]]]) -> list[set[Path]]:
    """The circles: sets of files each of which reaches all others (Tarjan's strongly connected components)."""
    order: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    found: list[set[Path]] = []

    def visit(at: Path) -> None:
        order[at] = low[at] = len(order)
        stack.append(at)
        for other in arrows.get(at, {}):
            if other not in order:
                visit(other)
                low[at] = min(low[at], low[other])
            elif other in stack:
                low[at] = min(low[at], order[other])
        if low[at] == order[at]:
            circle = set()
            while at not in circle:
                circle.add(stack.pop())
            if len(circle) > 1:
                found.append(circle)

    for at in list(arrows):
        if at not in order:
            visit(at)
    return found


if __name__ == "__main__":
    sys.exit(main())
