"""temporary"""
from dataclasses import dataclass
from typing import Any
from psycopg.conninfo import make_conninfo
from enum import StrEnum
class Status(StrEnum):
    START="START"; PAUSE="PAUSE"; REFRESH="REFRESH"
@dataclass
class PostgresConnection:
    host: str; port: int; database: str; username: str; password: Any = None; sslmode: str = "prefer"
    def conninfo(self, **k):
        return make_conninfo(host=self.host, port=self.port, dbname=self.database, user=self.username, client_encoding="UTF8", **k)
    def describe(self): return "x"
@dataclass
class SourceConfig:
    name: str; connection: PostgresConnection
@dataclass
class DestinationConfig: ...
@dataclass
class TableConfig: ...
@dataclass
class PipelineConfig: ...
