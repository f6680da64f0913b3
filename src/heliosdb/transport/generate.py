"""Generates the modules of the .proto files here: `python -m heliosdb.transport.generate`.

A developer's tool (needs grpcio-tools, which the product does not); a test holds the committed files current.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

HERE = Path(__file__).parent
PROTOCOLS = ("federation", "inference")
GENERATED = tuple(f"{name}_pb2{suffix}" for name in PROTOCOLS for suffix in (".py", ".pyi"))


def generate(target: Path) -> None:
    """Write the generated files into `target`."""
    from grpc_tools import protoc  # type: ignore[import-untyped]  # it has no stubs

    includes = resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"--proto_path={HERE}",
        f"--proto_path={includes}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        *(f"{name}.proto" for name in PROTOCOLS),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")
    for name in PROTOCOLS:
        stub = target / f"{name}_pb2.pyi"
        stub.write_text("# mypy: ignore-errors\n" + stub.read_text(encoding="utf-8"), encoding="utf-8")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
