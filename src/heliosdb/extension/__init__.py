"""What runs inside the server: statements become catalog changes in the caller's transaction.

What always holds: nothing here blocks on anything but the catalog, and nothing is kept between calls.
"""
