"""What the sessions of an account share: users, roles, warehouses, the storage engine, and the locks of tables."""

import threading

from rosetta_dagster.embedded.snowflake.emulator.authentication import KeyPairAuthentication
from rosetta_dagster.embedded.snowflake.emulator.credentials import Credentials
from rosetta_dagster.embedded.snowflake.emulator.doubts import CommitTimes
from rosetta_dagster.embedded.snowflake.emulator.locks import TableLocks
from rosetta_dagster.embedded.snowflake.emulator.storage import Storage
from rosetta_dagster.embedded.snowflake.setup import AccountSetup


class Account:
    """One account. Owns the storage until `close`."""

    def __init__(self, setup: AccountSetup) -> None:
        self.name = setup.account.upper().replace(".", "-")
        self.authentication = KeyPairAuthentication(setup.account)
        for user, keys in setup.users.items():
            self.authentication.register(user, keys)
        self.credentials = Credentials(setup.tokens, setup.oauth_clients)
        self.roles = {role.upper() for role in setup.roles}
        #: The warehouses; True for those that run.
        self.warehouses = {name.upper(): True for name in setup.warehouses}
        #: Parameters that ALTER ACCOUNT has set: the defaults of all sessions.
        self.parameters: dict[str, str] = {}
        #: Roles, each with a database, of which CREATE SCHEMA was revoked. Every other privilege is granted.
        self.without_create_schema: set[tuple[str, str]] = set()
        self.storage = Storage(setup.directory, setup.databases)
        self.locks = TableLocks(setup.detached_timeout)
        self.commits = CommitTimes()
        self.mutex = threading.Lock()

    def close(self) -> None:
        self.storage.close()
