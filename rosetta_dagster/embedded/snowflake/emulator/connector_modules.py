"""Stand-ins for two modules of the Snowflake connector 4 that fakesnow imports and connector 5 no longer has."""

import sys
from types import ModuleType


class SnowflakeConverter:
    """Binds values at the client, which fakesnow does in its patched mode only."""


class SnowflakeFileUtil:
    """Compresses files for a PUT at the client, which a server never does."""


def provide_connector_modules() -> None:
    """Add `snowflake.connector.converter` and `.file_util`, which fakesnow 0.12.1 imports.

    They become attributes of the package too: fakesnow uses both ways.
    """
    import snowflake.connector

    for name, member in (("converter", SnowflakeConverter), ("file_util", SnowflakeFileUtil)):
        module = ModuleType(f"snowflake.connector.{name}")
        setattr(module, member.__name__, member)
        sys.modules.setdefault(module.__name__, module)
        setattr(snowflake.connector, name, module)
