"""Servers whose sessions are forked from a process that has imported the extension's library: it takes each
0.4 s of processor time.

What always holds: it is the library that the server's functions import, from the same place. Where there is no
C compiler, or a Python into which PL/Python could not come later (from 3.12 on), sessions import it themselves.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

from tests.support.places import scratch

_SOURCE = Path(__file__).with_name("warm_server.c")
_IMPORTS = """
import gc, sys
sys.builtin_module_names += ("plpy",)  # PL/Python adds it when a session first needs it
sys.path.insert(0, {library!r})
import importlib.readers  # by which a session reads its first statement
from heliosdb.extension import door
from heliosdb.parts.built import built_parts
built_parts()  # resolves each part's settings, once for a process
gc.collect()
gc.freeze()
"""


def warm_environment(libraries: Path) -> dict[str, str]:
    """What the server's environment has besides. libraries: the server's directory of libraries."""
    shim = _built()
    if shim is None:
        return {}
    return {
        "LD_PRELOAD": str(shim),
        "WARM_PYTHON": str(sysconfig.get_config_var("INSTSONAME")),
        "WARM_IMPORTS": _IMPORTS.format(library=str(libraries / "heliosdb_federated_learning")),
    }


@cache
def _built() -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux" or sys.version_info >= (3, 12):
        return None
    directory = Path(tempfile.mkdtemp(prefix="warm-", dir=scratch()))
    atexit.register(shutil.rmtree, directory)
    directory.chmod(0o755)
    made = directory / "warm_server.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(made), str(_SOURCE)], check=True)
    return made
