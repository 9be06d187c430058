"""The two modules of the Snowflake connector 4 that fakesnow imports and that the connector 5 no longer has."""

import sys
from types import ModuleType


class SnowflakeConverter:
    """Binds on the client's side, which fakesnow does in its patched mode only."""


class SnowflakeFileUtil:
    """Compresses files for a PUT within one process, which a server never sees."""


def provide_connector_modules() -> None:
    """What fakesnow 0.12.1 imports, `snowflake.connector.converter` and `.file_util`, connector 5 is without.

    The modules are attributes of the package too: fakesnow asks for them in both ways.
    """
    import snowflake.connector

    for name, member in (("converter", SnowflakeConverter), ("file_util", SnowflakeFileUtil)):
        module = ModuleType(f"snowflake.connector.{name}")
        setattr(module, member.__name__, member)
        sys.modules.setdefault(module.__name__, module)
        setattr(snowflake.connector, name, module)
