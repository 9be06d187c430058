"""Decides which hosts are meant, and which of them are this machine, so that nothing said to them passes a network."""

from ipaddress import ip_address


def hosts_of(host: str) -> list[str]:
    """Return the hosts of a setting that may name several, as libpq's does.

    >>> hosts_of("db-1,db-2")
    ['db-1', 'db-2']
    """
    return host.split(",")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name: a loopback address, or a directory of sockets. Of several, each is.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "/run/postgresql", "10.0.0.1", "127.example.com")]
    [True, True, True, True, False, False]
    >>> [is_loopback(hosts) for hosts in ("127.0.0.1,127.0.0.2", "/run/postgresql,db.example.com")]
    [True, False]
    """
    return all(map(_is_loopback, hosts_of(host)))


def _is_loopback(host: str) -> bool:
    if host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
