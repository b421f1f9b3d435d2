"""Takes out of an installed environment what no run needs, and checks that nothing is missing.

    python trim.py ENVIRONMENT   tests of packages, C sources, source maps
    python trim.py --check       imports every module of alsflow in this environment

Type stubs stay: lazy_loader reads them when scikit-image is imported. Shared libraries are left
as they came: stripping them saves 2 % and can break them.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import sys
from pathlib import Path

SUFFIXES = {".pxd", ".pyx", ".c", ".cpp", ".h", ".hpp", ".a", ".map"}
KEPT = {"nilearn"}  # its ordinary modules import some of its tests


def trim(environment: Path) -> int:
    """Remove what is not needed; returns the bytes saved."""
    [packages] = environment.glob("lib/python3*/site-packages")
    before = size(packages)
    for folder in sorted(packages.rglob("tests")):
        if folder.is_dir() and folder.relative_to(packages).parts[0] not in KEPT:
            shutil.rmtree(folder)
    for path in packages.rglob("*"):
        if path.suffix in SUFFIXES and path.is_file():
            path.unlink()
    return before - size(packages)


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def check() -> int:
    """Import every module of the program; returns how many there are."""
    os.environ.update(NO_ET="1", MPLBACKEND="Agg", MPLCONFIGDIR="/tmp/trim")
    package = importlib.import_module("alsflow")
    names = [module.name for module in pkgutil.walk_packages(package.__path__, "alsflow.")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    return len(names)


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        print(f"{check()} modules can be imported")
    else:
        print(f"{trim(Path(sys.argv[1])) / 1e6:.0f} MB removed")
