"""Decides which hosts are this machine, so that nothing that is said to them passes a network."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name: a loopback address, or a directory of sockets.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "/run/postgresql", "10.0.0.1", "127.example.com")]
    [True, True, True, True, False, False]
    """
    if host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
