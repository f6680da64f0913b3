"""`make demo`: the quick start typed into psql, on real databases, with real patients."""

from heliosdb.cli.demo.story import run

__all__ = ["run"]
