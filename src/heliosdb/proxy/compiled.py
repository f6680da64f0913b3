"""Whether what the proxy does with each read runs compiled, or as Python.

What always holds: both do the same. `make compiled` compiles, and runs the proxy's tests on what came out.
"""

from __future__ import annotations

from heliosdb.proxy import session


def is_compiled() -> bool:
    """Whether this process runs the compiled modules, of which the session's is one."""
    return not session.__file__.endswith(".py")
