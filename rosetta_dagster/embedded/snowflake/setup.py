"""The initial contents of an emulated account, as a value that is passed to the emulator's process."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Self

ROLES = ("ACCOUNTADMIN", "SYSADMIN", "PUBLIC")


@dataclass(frozen=True, kw_only=True)
class AccountSetup:
    """The account's name, users, warehouses, roles and databases, its port and its directory."""

    #: As `organization-account`, without a region.
    account: str
    #: The public keys of each user, as PEM: RSA_PUBLIC_KEY, and RSA_PUBLIC_KEY_2 if there are two.
    users: Mapping[str, Sequence[str]]
    #: Programmatic access tokens, and tokens of an OpenID provider: each with its user.
    tokens: Mapping[str, str] = field(repr=False)
    #: Clients of OAuth: each with its secret and the user that its tokens are for.
    oauth_clients: Mapping[str, tuple[str, str]] = field(repr=False)
    databases: Sequence[str]
    warehouses: Sequence[str]
    roles: Sequence[str]
    port: int
    #: A directory that exists; None: the data is in memory.
    directory: str | None
    #: Seconds that a transaction may be idle before another one that waits for its lock ends it.
    detached_timeout: float
    #: The bearer token of control requests.
    control_token: str = field(repr=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))
