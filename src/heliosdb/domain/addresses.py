"""Which addresses of the Internet are somebody else's: what a webhook may be called at.

What always holds: an address counts as public only if it is one that is routed everywhere, and so does the
IPv4 address that an IPv6 address carries; where a machine's own metadata are served is none.
"""

from __future__ import annotations

import ipaddress

from federated_sql.notify_targets import Address

_SERVED_TO_MACHINES = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public by its number, answered by the host that a virtual machine runs on."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")

_LOCAL_NAMES = ("localhost", "local", "internal", "localdomain", "home.arpa")


def is_public(address: Address) -> bool:
    """Whether an address is routed everywhere: not private, loopback, link-local, shared, multicast or
    reserved."""
    carried = _carried(address)
    if carried is not None:
        return is_public(carried)
    if isinstance(address, ipaddress.IPv6Address) and (address.is_site_local or address.ipv4_mapped):
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and address not in _SERVED_TO_MACHINES
    )


def is_local_name(host: str) -> bool:
    """Whether a name is by its ending one of a network's own, wherever it is looked up."""
    return any(host == name or host.endswith(f".{name}") for name in _LOCAL_NAMES)


def _carried(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address end up at, or could."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or address in _COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
