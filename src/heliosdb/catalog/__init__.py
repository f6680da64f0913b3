"""The only Python that contains SQL: statements in files, rows as typed objects.

What always holds: a catalog function takes a `Connection` first, so that it runs over psycopg in a daemon
and over plpy inside the server alike.
"""
