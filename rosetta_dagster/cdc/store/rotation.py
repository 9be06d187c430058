"""Replaces the key that secrets are encrypted under: row after row, so that it can be broken off and run again."""

from dataclasses import dataclass

from rosetta_dagster.cdc.errors import SecretUnreadable
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.sealed_rows import SealedRow, locked_destination, locked_source
from rosetta_dagster.cdc.store.secrets import SecretBox, is_encrypted

#: A key that some secret needs stays.
_RETIRE = """
DELETE FROM secret_keys
WHERE id <> %(current)s
  AND NOT EXISTS (SELECT FROM sources WHERE pg_password LIKE 'enc:v2:' || secret_keys.id || ':%%')
  AND NOT EXISTS (SELECT FROM destinations, jsonb_each_text(config) WHERE value LIKE 'enc:v2:' || secret_keys.id || ':%%')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What a rotation did."""

    #: Secrets that were encrypted again.
    count: int
    #: Secrets that could not be read, each with what to do. They stay as they are.
    unreadable: tuple[str, ...]
    #: Keys that no secret needs any longer, and that were deleted.
    retired: int


def rotate(store: Store) -> Rotation:
    """Encrypt every secret under SECRET_KEY. Those that already are stay as they are."""
    box = store.secret_box()
    count, unreadable = 0, []
    with store.connected() as connection:
        sources = [(locked_source, row[0]) for row in connection.execute("SELECT id FROM sources ORDER BY id")]
        others = [(locked_destination, row[0]) for row in connection.execute("SELECT id FROM destinations ORDER BY id")]
        for lock, row_id in [*sources, *others]:
            with connection.transaction():
                for row in lock(connection, row_id):
                    sealed, problems = _sealed(box, row)
                    row.write(connection, sealed)
                    count += len(sealed)
                    unreadable += problems
        retired = connection.execute(_RETIRE, {"current": box.key_id}).rowcount
    return Rotation(count=count, unreadable=tuple(unreadable), retired=retired)


def _sealed(box: SecretBox, row: SealedRow) -> tuple[dict[str, str], list[str]]:
    """Return the secrets of a row under the current key, and what is wrong with the others."""
    sealed: dict[str, str] = {}
    problems: list[str] = []
    for field, text in row.texts.items():
        if box.is_current(text):
            continue
        try:
            clear = box.decrypt(text, row.places[field]) if is_encrypted(text) else text
        except SecretUnreadable as error:
            problems.append(str(error))
        else:
            sealed[field] = box.encrypt(clear, row.places[field])
    return sealed, problems
