"""Who may send: by address, by AE title, or both; without a list only this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from oncoseg_node.config.settings import Peer

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Peers:
    """The peers that a door lets in."""

    def __init__(self, allowed: Sequence[Peer]) -> None:
        self._allowed = [
            (peer.ae_title, None if peer.address is None else ipaddress.ip_network(peer.address)) for peer in allowed
        ]

    def lets_in(self, address: str, ae_title: str | None = None) -> bool:
        """Whether who calls from an address may; before the title is known, whether any title might."""
        caller = _address(address)
        if caller is None:
            return False
        if not self._allowed:
            return caller.is_loopback
        return any(
            (network is None or caller in network)
            and (title is None or ae_title is None or title.strip() == ae_title.strip())
            for title, network in self._allowed
        )


def _address(text: str) -> _Address | None:
    """An address as it is; one of IPv4 that IPv6 wraps is unwrapped."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
