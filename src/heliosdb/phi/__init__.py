"""Whether columns look like the identifiers of 45 CFR 164.514(b)(2), by their names, types and values.

What always holds: nothing here does I/O, raises on a value or keeps one; what is said of values is a kind and
one of three shares.
"""
