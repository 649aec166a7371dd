"""Sizes of an installation of noisekiln and of each extra, from the files that are installed here.

    python tools/install_sizes.py        # prints the rows of the table in docs/install.md

Dependencies are included; torch and what it needs are counted apart, as its builds differ by gigabytes. Compiled Python
(.pyc) is left out. A package that is not installed is named.
"""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

APART = "torch"


def main() -> None:
    """Print the table."""
    extras = metadata.metadata("noisekiln").get_all("Provides-Extra") or []
    torch, core = needed(APART), needed("noisekiln") | {"noisekiln"}
    print(row("torch", torch))
    print(row("noisekiln", core - torch))
    for extra in extras:
        print(row(f"noisekiln[{extra}], in addition", needed("noisekiln", extra) - core))


def row(name: str, packages: set[str]) -> str:
    """A row of the table: MB, and the largest packages."""
    sizes = {package: size_of(package) for package in packages}
    largest = sorted((package for package in sizes if sizes[package]), key=lambda package: -sizes[package])[:4]
    parts = ", ".join(f"{package} {sizes[package] / 1e6:.0f}" for package in largest)
    missing = ", ".join(sorted(package for package in sizes if not sizes[package] and not is_installed(package)))
    return (
        f"| {name} | {sum(sizes.values()) / 1e6:.0f} MB | {parts}{f'; not installed: {missing}' if missing else ''} |"
    )


def needed(package: str, extra: str = "") -> set[str]:
    """A package's dependencies, theirs included; the package itself too, unless it is noisekiln."""
    found: set[str] = set()
    waiting = [Requirement(f"{package}[{extra}]" if extra else package)]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonical(requirement.name), tuple(sorted(requirement.extras)))
        if key in seen:
            continue
        seen.add(key)
        found.add(key[0])
        if is_installed(key[0]):
            extras = ["", *requirement.extras]
            each = map(Requirement, metadata.requires(key[0]) or [])
            waiting += [
                one for one in each if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in extras)
            ]
    return found - {"noisekiln"}


def size_of(package: str) -> int:
    """Bytes of a package's installed files."""
    if not is_installed(package):
        return 0
    files = [file for file in metadata.files(package) or [] if file.suffix != ".pyc"]
    places = [Path(str(file.locate())) for file in files]
    return sum(place.stat().st_size for place in places if place.is_file())


def is_installed(package: str) -> bool:
    """Whether a package is installed."""
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def canonical(name: str) -> str:
    """The name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
