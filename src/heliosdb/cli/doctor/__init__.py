"""`heliosdb doctor`: what is in the way of a server or a daemon, and what to do about it.

What always holds: it changes nothing; what it shows holds no password and no key.
"""
