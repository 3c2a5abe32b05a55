"""Where a request comes from, when proxies of ours stand in between."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """
    Return the caller's address: of the connection, or with TRUSTED_PROXIES = n what the n-th proxy
    from us has seen.

    Each proxy adds at the right of X-Forwarded-For whom it talks to, so that all further left is
    the caller's own invention. A proxy must drop headers with an underscore in their name, as nginx
    does: WSGI cannot tell X_Forwarded_For from the real one (docs/running.md).
    """
    peer = str(request.META.get("REMOTE_ADDR", ""))
    hops = settings.TRUSTED_PROXIES
    if not hops:
        return _plain(peer)
    seen = [each.strip() for each in request.headers.get("X-Forwarded-For", "").split(",")]
    # Fewer than there are proxies: it came around them. Then the connection itself is all we know.
    return _plain(seen[-hops]) if len(seen) >= hops and _plain(seen[-hops]) else _plain(peer)


def network_of(address: str) -> str:
    """
    Return what counts as one caller: an IPv4 address, or the /64 of an IPv6 one.

    A single customer of a provider has all addresses of such a network; empty stays empty.
    """
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False))


def _plain(text: str) -> str:
    """Return the address in its one spelling; empty for what is none."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
