"""The files of internal stages: the address for a PUT, and LIST and REMOVE."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.transforms import stage
from fakesnow.transforms.options import parse_options
from sqlglot import Expr

from rosetta_dagster.embedded.snowflake.emulator.errors import SnowflakeError

UPLOAD_PATH = "/stage/"

# The connector sends these headers with a file only if the address declares them as signed.
_SIGNED_HEADERS = (
    "host", "content-type", "x-goog-if-generation-match", "x-goog-meta-sfc-digest", "x-goog-meta-encryptiondata",
    "x-goog-meta-matdesc",
)  # fmt: skip


def upload(put: Expr, located: Mapping[str, Any], stage_name: str, host: str) -> dict[str, Any]:
    """Return how the client sends a file: by HTTP to a signed address of this server, as to Google's storage.

    fakesnow 0.12.1 omits the region and the signed headers that connector 5 requires, and ignores OVERWRITE.
    """
    options = parse_options(put.args.get("properties") or [])
    directory = located["stageInfo"]["location"]
    name = os.path.basename(located["src_locations"][0])  # noqa: PTH119 - it may be a URL's
    path = quote(os.path.relpath(os.path.join(directory, name), stage.LOCAL_BUCKET_PATH))  # noqa: PTH118
    return {
        **located,
        "overwrite": bool(options.get("OVERWRITE", False)),
        "parallel": int(str(options.get("PARALLEL", 4))),
        "sourceCompression": str(options.get("SOURCE_COMPRESSION", "auto_detect")).lower(),
        "stageInfo": {
            "locationType": "GCS",
            "location": f"{stage_name}/",
            "creds": {},
            "region": "US-CENTRAL1",
            "storageAccount": None,
            "endPoint": None,
            "isClientSideEncrypted": False,
            "useRegionalUrl": False,
            "presignedUrl": f"http://{host}{UPLOAD_PATH}{path}?X-Goog-SignedHeaders={'%3B'.join(_SIGNED_HEADERS)}",
        },
    }


def upload_target(path: str) -> Path | None:
    """Return the file for the path of an upload; None for a path outside of the stages."""
    root = Path(stage.LOCAL_BUCKET_PATH).resolve()
    target = (root / path).resolve()
    return target if target.is_relative_to(root) and target != root else None


def staged(reference: str, connection: FakeSnowflakeConnection) -> list[Path]:
    """Return the files whose path begins with `@stage/path`.

    Raises:
        SnowflakeError: 002003 when the stage does not exist.

    """
    name, _, prefix = reference.strip("'").removeprefix("@").partition("/")
    directory = _directory(name, connection)
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(file for file in files if str(file.relative_to(directory)).startswith(prefix))


def shown(file: Path) -> list[str | None]:
    """Return one row of LIST: name, size, md5, last_modified."""
    content = file.read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return [stage.internal_file_name(str(file)), str(len(content)), digest, str(file.stat().st_mtime)]


def _directory(name: str, connection: FakeSnowflakeConnection) -> Path:
    parts = stage.parts_from_var(name, connection.database, connection.schema)
    sql = stage.stage_lookup_sql(*parts, connection.table_stages)
    found = connection._duck_conn.cursor().execute(sql).fetchone()
    if found is None:
        error = stage.not_found_error(".".join(parts))
        raise SnowflakeError(2003, str(error.msg), "02000")
    return Path(stage.internal_dir(found[0]))
