"""Which Python files the built-in corpus is read from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sysconfig
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pairstill.errors import InputError

MAX_BYTES = 400_000
"""Larger files are generated tables or bundles; they would cost most of the time and give few sentences."""

MAX_PACKAGE_FILES = 400
"""Of a larger installed distribution so many files are read, chosen by hash: parsing takes most of the time, and one
library should not outweigh all others. The standard library is read whole."""

SKIPPED_FOLDERS = {
    "build", "dist", "dist-packages", "ensurepip", "env", "extern", "externals", "fixtures", "idle_test", "idlelib", "lib2to3",
    "node_modules", "site-packages", "test", "testing", "tests", "third_party", "thirdparty", "turtledemo", "vendor",
    "vendored", "venv",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class PythonFile:
    """A module's source.

    Attributes:
        module: Dotted name, such as `pathlib` or `torch.nn.functional`.
        path: Its file.
        package: What it belongs to: `python` for the standard library, the distribution's name, or a folder's name.
    """

    module: str
    path: Path
    package: str


@dataclass(frozen=True)
class Sources:
    """Files to read, sorted by module name, and what they are.

    Attributes:
        files: The files.
        versions: Package -> version; empty for folders of the user.
        skipped_large: Files left out because they have more than `MAX_BYTES`.
        beyond_package_limit: Files left out because their distribution has more than `MAX_PACKAGE_FILES`.
    """

    files: tuple[PythonFile, ...]
    versions: dict[str, str]
    skipped_large: int
    beyond_package_limit: int = 0


def installed_sources() -> Sources:
    """The standard library and the distributions installed in the running environment, without Pairstill itself.

    Tests, vendored copies and private modules are left out, and what a large distribution has beyond its limit.
    """
    import platform

    files: list[PythonFile] = []
    versions = {"python": platform.python_version()}
    large = _collect(files, Path(sysconfig.get_paths()["stdlib"]), "", "python")
    owners = importlib.metadata.packages_distributions()
    folders = dict.fromkeys(Path(sysconfig.get_paths()[key]) for key in ("purelib", "platlib"))
    for top, names in sorted(owners.items()):
        name = sorted(names)[0]
        if top == "pairstill" or _is_skipped(top):
            continue
        for folder in folders:
            before = len(files)
            if (folder / top).is_dir():
                large += _collect(files, folder / top, top, name)
            elif (folder / f"{top}.py").is_file():
                files.append(PythonFile(top, folder / f"{top}.py", name))
            if len(files) > before:
                versions[name] = importlib.metadata.version(name)
    found = sorted(set(files))
    library = [file for file in found if file.package == "python"]
    kept = sorted([*library, *limit_packages([file for file in found if file.package != "python"], MAX_PACKAGE_FILES)])
    return Sources(tuple(kept), versions, large, len(found) - len(kept))


def limit_packages(files: Sequence[PythonFile], limit: int) -> list[PythonFile]:
    """At most `limit` files of each package, those with the lowest hash of the module's name; sorted."""
    by_package: defaultdict[str, list[PythonFile]] = defaultdict(list)
    for file in files:
        by_package[file.package].append(file)
    return sorted(file for group in by_package.values() for file in sorted(group, key=_hash)[:limit])


def _hash(file: PythonFile) -> bytes:
    return hashlib.blake2b(file.module.encode(), digest_size=8).digest()


def folder_sources(roots: Sequence[Path]) -> Sources:
    """The Python files below folders of the user.

    Raises:
        InputError: A folder does not exist, or holds no Python source.
    """
    files: list[PythonFile] = []
    large = 0
    for root in roots:
        if not root.is_dir():
            raise InputError("the folder of Python sources does not exist", file=root)
        before = len(files)
        large += _collect(files, root, "", root.resolve().name)
        if len(files) == before:
            raise InputError(
                "the folder has no Python sources", file=root,
                expected="public modules (*.py); tests, vendored copies, environments and names with a leading underscore "
                "are left out",
            )  # fmt: skip
    return Sources(tuple(sorted(set(files))), {}, large)


def _is_skipped(name: str) -> bool:
    return name.startswith(("_", ".", "test_")) or name in SKIPPED_FOLDERS or name.endswith((".egg-info", "_test"))


def _collect(files: list[PythonFile], root: Path, prefix: str, package: str) -> int:
    """Append the public modules below `root`; returns how many were too large."""
    large = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if not _is_skipped(name) and not Path(folder, name, "pyvenv.cfg").exists()
        )
        parts = Path(folder).relative_to(root).parts
        for name in names:
            stem = name.removesuffix(".py")
            if stem == name or stem == "conftest" or (stem != "__init__" and _is_skipped(stem)):
                continue
            path = Path(folder, name)
            if not path.is_file():  # a link to nowhere
                continue
            if path.stat().st_size > MAX_BYTES:
                large += 1
                continue
            pieces = [*([prefix] if prefix else []), *parts, *([] if stem == "__init__" else [stem])]
            files.append(PythonFile(".".join(pieces) or root.name, path, package))
    return large
