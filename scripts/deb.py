"""Builds the Debian packages: `python -m scripts.deb DISTRIBUTION` writes two files into dist/.

What always holds: a package is for one distribution, since Python and PostgreSQL are that one's; what it
bundles are wheels of the locks, by their hashes and for that Python, so that installing needs no network and
building no chroot; the same sources and SOURCE_DATE_EPOCH give the same bytes; a shared library from outside
is of a package that it depends on, and one whose package is not known here stops the build.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path
from time import gmtime, strftime

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / "packaging/debian"
EXTENSION = "heliosdb_federated_learning"
PROJECT = "heliosdb-federated-learning"
KINDS = ("coordinator", "node", "proxy", "api")
# The packages of the shared libraries that manylinux wheels may expect of a system. No wheel is taken that
# needs a newer glibc than 2.28.
_GLIBC = (2, 28)
_GLIBC_LIBRARIES = (
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libresolv.so.2",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
)
_PACKAGE_OF = {
    **dict.fromkeys(_GLIBC_LIBRARIES, f"libc6 (>= {_GLIBC[0]}.{_GLIBC[1]})"),
    "libgcc_s.so.1": "libgcc-s1",
    "libstdc++.so.6": "libstdc++6",
    "libz.so.1": "zlib1g",
}


# Processes of the daemons' own import it again, so it does nothing then.
_COMMAND = """\
#!/usr/lib/heliosdb/bin/python3
from heliosdb.cli.entry import main

if __name__ == "__main__":
    main()
"""


@dataclass(frozen=True, slots=True)
class Distribution:
    """What is Debian's own in one release: its number, its Python, its PostgreSQL, where units lie."""

    name: str
    number: int
    python: str
    postgres: int
    units: str


DISTRIBUTIONS = {
    each.name: each
    for each in (
        Distribution("bookworm", 12, "3.11", 15, "lib/systemd/system"),
        Distribution("trixie", 13, "3.13", 17, "usr/lib/systemd/system"),
    )
}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Build:
    """One build: for which distribution and architecture, of which version, made when, by whom, and where."""

    distribution: Distribution
    architecture: str
    upstream: str
    epoch: int
    maintainer: str
    work: Path
    compression: str = "xz"

    @property
    def version(self) -> str:
        """The packages' version: greater for a later Debian, so that upgrading it replaces them."""
        return f"{self.upstream}-1+deb{self.distribution.number}"

    @property
    def words(self) -> Mapping[str, str]:
        """What stands for @NAME@ in the templates."""
        return {
            "VERSION": self.version,
            "ARCHITECTURE": self.architecture,
            "MAINTAINER": self.maintainer,
            "PYTHON": self.distribution.python,
            "POSTGRES": str(self.distribution.postgres),
        }

    def pip_options(self) -> list[str]:
        """What has pip choose wheels for the distribution's Python, whichever Python runs it."""
        machine = _MACHINES[self.architecture]
        minors = range(_GLIBC[1], 4, -1)
        names = [f"manylinux_{_GLIBC[0]}_{minor}_{machine}" for minor in minors]
        names += [f"manylinux{year}_{machine}" for year in ("2014", "2010", "1")]
        platforms = [option for name in names for option in ("--platform", name)]
        python = ["--implementation", "cp", "--python-version", self.distribution.python]
        return ["--only-binary=:all:", *python, *platforms]


def fetch_site(build: Build, site: Path) -> None:
    """Put the locked packages and the project itself into `site`, without what only their developers need."""
    wheels = build.work / "wheels"
    for directory in (site, wheels):
        shutil.rmtree(directory, ignore_errors=True)
    common = ["install", "--no-deps", "--no-compile", "--target", str(site)]
    lock = str(ROOT / "requirements-servers.lock")
    _pip(build, *common, *build.pip_options(), "--require-hashes", "--requirement", lock)
    _pip(build, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT))
    _pip(build, *common, "--no-index", "--find-links", str(wheels), f"{PROJECT}=={build.upstream}")
    # Its programs begin with the path of the Python that ran pip; beside them are manual pages of theirs.
    for name in ("bin", "share"):
        shutil.rmtree(site / name, ignore_errors=True)
    _run("sh", str(ROOT / "docker/daemon/slim.sh"), str(site))


def install_extension(build: Build, tree: Path, *options: str) -> None:
    """Have the extension's own Makefile install it into `tree`, for the server of the distribution."""
    release = build.distribution.postgres
    stub = build.work / "pg_config"
    build.work.mkdir(parents=True, exist_ok=True)
    stub.write_text(
        "#!/bin/sh\n# Answers for a server that need not be installed here.\n"
        'for option; do case "$option" in\n'
        f'    --version) echo "PostgreSQL {release}" ;;\n'
        f"    --pkglibdir) echo /usr/lib/postgresql/{release}/lib ;;\n"
        f"    --sharedir) echo /usr/share/postgresql/{release} ;;\n"
        "esac; done\n"
    )
    stub.chmod(0o755)
    shutil.rmtree(tree, ignore_errors=True)
    pip = " ".join(build.pip_options())
    variables = [
        f"PG_CONFIG={stub}",
        f"PYTHON={sys.executable}",
        f"BUILD={build.work / 'extension'}",
        f"PIP_OPTIONS={pip}",
    ]
    _run(
        "make",
        "--no-print-directory",
        "-C",
        str(ROOT / "extension"),
        "install",
        *variables,
        f"DESTDIR={tree}",
        *options,
    )


def package_daemons(build: Build, site: Path, target: Path) -> Path:
    """Make the package `heliosdb` of the packages in `site`; returns its file in `target`."""
    name, tree = "heliosdb", build.work / "heliosdb"
    shutil.rmtree(tree, ignore_errors=True)
    _lay_environment(build, site, tree / "usr/lib/heliosdb")
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/heliosdb").symlink_to("../lib/heliosdb/bin/heliosdb")
    for unit in sorted((ROOT / "packaging").glob("heliosdb-*")):
        # Their first line says where whoever copies them by hand puts them.
        _copy(unit, tree / build.distribution.units / unit.name)
    for kind in KINDS:
        _copy(ROOT / f"packaging/settings/{kind}.toml", tree / f"etc/heliosdb/examples/{kind}.toml")
    return _pack(build, name, tree, target)


def package_extension(build: Build, tree: Path, target: Path) -> Path:
    """Make the server's package of what the Makefile installed into `tree`; returns its file in `target`."""
    for cache in [*tree.rglob("__pycache__")]:
        shutil.rmtree(cache)
    name = f"postgresql-{build.distribution.postgres}-heliosdb-federated-learning"
    return _pack(build, name, tree, target, "extension")


def _lay_environment(build: Build, site: Path, place: Path) -> None:
    """A virtual environment as `python3 -m venv` makes it, by hand: its Python need not be installed here."""
    python = build.distribution.python
    packages = place / f"lib/python{python}/site-packages"
    packages.parent.mkdir(parents=True)
    shutil.copytree(site, packages, symlinks=True)
    (place / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
    )
    (place / "bin").mkdir()
    (place / "bin/python3").symlink_to(f"../../../bin/python{python}")
    command = place / "bin/heliosdb"
    command.write_text(_COMMAND)
    command.chmod(0o755)


def _pack(build: Build, name: str, tree: Path, target: Path, template: str = "heliosdb") -> Path:
    """Add what every package has, by the templates of one, and make the file of it all."""
    _write_documents(build, name, tree)
    overrides = tree / "usr/share/lintian/overrides" / name
    overrides.parent.mkdir(parents=True)
    overrides.write_text(_fill(build, (TEMPLATES / template / "lintian-overrides").read_text()))
    _settle_modes(tree)
    _write_control(build, tree, TEMPLATES / template)
    _settle_times(tree, build.epoch)
    target.mkdir(parents=True, exist_ok=True)
    made = target / f"{name}_{build.version}_{build.architecture}.deb"
    # Of xz the quickest level: a tenth larger, and a build takes seconds where it would take minutes.
    options = ("--root-owner-group", f"-Z{build.compression}", "-z1")
    _run("dpkg-deb", *options, "--build", str(tree), str(made), SOURCE_DATE_EPOCH=str(build.epoch))
    return made


def _write_control(build: Build, tree: Path, templates: Path) -> None:
    values = {
        "SIZE": str(sum(-(-path.lstat().st_size // 1024) for path in _files(tree))),
        "LIBRARIES": ", ".join(needed_packages(tree)),
    }
    sums = "".join(_md5_lines(tree))
    place = tree / "DEBIAN"
    place.mkdir(mode=0o755)
    (place / "md5sums").write_text(sums)
    (place / "md5sums").chmod(0o644)
    for name in ("control", "conffiles", "postinst", "prerm", "postrm"):
        if (source := templates / name).exists():
            (place / name).write_text(_fill(build, source.read_text(), values))
            (place / name).chmod(0o755 if source.read_text().startswith("#!") else 0o644)


def needed_packages(tree: Path) -> list[str]:
    """The Debian packages of the shared libraries that those in `tree` need and that are not in it."""
    libraries = [path for path in _files(tree) if ".so" in path.suffixes and not path.is_symlink()]
    if not libraries:
        return ["libc6"]
    shown = subprocess.run(
        ["readelf", "--dynamic", "--wide", *map(str, libraries)], check=True, capture_output=True, text=True
    ).stdout
    needed = {line.partition("[")[2].rstrip("]") for line in shown.splitlines() if "(NEEDED)" in line}
    outside = needed - {path.name for path in libraries}
    if unknown := sorted(outside - _PACKAGE_OF.keys()):
        raise SystemExit(f"deb: no package is known for {', '.join(unknown)}: add it to scripts/deb.py")
    return sorted({_PACKAGE_OF[library] for library in outside})


def _write_documents(build: Build, name: str, tree: Path) -> None:
    place = tree / "usr/share/doc" / name
    _copy(TEMPLATES / "copyright", place / "copyright")
    (place / "bundled").write_text("".join(_bundled(tree)))
    entry = (
        f"{name} ({build.version}) {build.distribution.name}; urgency=medium\n\n"
        f"  * Release {build.upstream}: see changelog.gz.\n\n"
        f" -- {build.maintainer}  {strftime('%a, %d %b %Y %H:%M:%S +0000', gmtime(build.epoch))}\n"
    )
    for file, data in (
        ("changelog.Debian.gz", entry.encode()),
        ("changelog.gz", (ROOT / "CHANGELOG.md").read_bytes()),
    ):
        (place / file).write_bytes(gzip.compress(data, mtime=build.epoch))


def _bundled(tree: Path) -> Iterator[str]:
    """A line for each package of the Python Package Index in `tree`: name, version, licence."""
    for path in sorted(tree.rglob("*.dist-info/METADATA")):
        about = message_from_string(path.read_text(encoding="utf-8"))
        classified = [
            each.rpartition(" :: ")[2]
            for each in about.get_all("Classifier", [])
            if each.startswith("License")
        ]
        spoken = (
            about["License-Expression"]
            or ", ".join(classified)
            or str(about["License"] or "").partition("\n")[0]
        )
        yield f"{about['Name']} {about['Version']}: {spoken or 'see its dist-info'}\n"


def _fill(build: Build, text: str, more: Mapping[str, str] | None = None) -> str:
    for word, value in {**build.words, **(more or {})}.items():
        text = text.replace(f"@{word}@", value)
    return text


def _settle_modes(tree: Path) -> None:
    """What is in a directory `bin` is a program, and nothing else: some wheels have every file executable."""
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)


def _settle_times(tree: Path, epoch: int) -> None:
    for path in (*tree.rglob("*"), tree):
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _files(tree: Path) -> list[Path]:
    return sorted(path for path in tree.rglob("*") if path.is_symlink() or path.is_file())


def _md5_lines(tree: Path) -> Iterator[str]:
    for path in _files(tree):
        if not path.is_symlink():
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            yield f"{digest}  {path.relative_to(tree)}\n"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _pip(build: Build, *arguments: str) -> None:
    _run(
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        *arguments,
        SOURCE_DATE_EPOCH=str(build.epoch),
    )


def _run(*command: str, **environment: str) -> None:
    subprocess.run(command, check=True, env={**os.environ, "LC_ALL": "C.UTF-8", **environment})


def _ask(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def plan(name: str) -> Build:
    """The build that Debian's own variables describe: SOURCE_DATE_EPOCH, DEBFULLNAME, DEBEMAIL."""
    if name not in DISTRIBUTIONS:
        raise SystemExit(f"deb: no distribution {name!r} is known; there are: {', '.join(DISTRIBUTIONS)}")
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or _ask("git", "log", "-1", "--format=%ct")
    who = (
        os.environ.get("DEBFULLNAME", "HeliosDB federated learning"),
        os.environ.get("DEBEMAIL", "heliosdb@localhost"),
    )
    return Build(
        DISTRIBUTIONS[name],
        _ask("dpkg", "--print-architecture"),
        version(),
        int(epoch),
        f"{who[0]} <{who[1]}>",
        ROOT / "build/deb" / name,
    )


def version() -> str:
    """The project's version, as pyproject.toml has it."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def main() -> None:
    """Build both packages for the distribution that is named."""
    build = plan(sys.argv[1] if len(sys.argv) > 1 else "bookworm")
    site, tree = build.work / "site", build.work / "extension-tree"
    fetch_site(build, site)
    install_extension(build, tree)
    for made in (package_daemons(build, site, ROOT / "dist"), package_extension(build, tree, ROOT / "dist")):
        print(made.relative_to(ROOT))


if __name__ == "__main__":
    main()
