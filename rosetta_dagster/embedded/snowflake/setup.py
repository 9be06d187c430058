"""What an emulated account holds from the start, as a value that travels to the emulator's process."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Self

ROLES = ("ACCOUNTADMIN", "SYSADMIN", "PUBLIC")


@dataclass(frozen=True, kw_only=True)
class AccountSetup:
    """The account's name, users, warehouses, roles and databases, and where it is served and kept."""

    #: As `organization-account`, without a region.
    account: str
    #: The public keys of each user, as PEM: RSA_PUBLIC_KEY, and RSA_PUBLIC_KEY_2 when there are two.
    users: Mapping[str, Sequence[str]]
    databases: Sequence[str]
    warehouses: Sequence[str]
    roles: Sequence[str]
    port: int
    #: A directory that exists; in memory when there is none.
    directory: str | None
    #: What a transaction may idle, in seconds, before one that waits for its lock ends it.
    detached_timeout: float
    #: Who knows it may control the emulator.
    control_token: str = field(repr=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))
