"""Decides which environment variables may be named as secrets, and reads them.

Who writes a row or the configuration of a run also decides where Rosetta connects. So these may name only variables that the
operator has set aside for that: a name that begins with `ROSETTA_SECRET_`, or one that `ROSETTA_SECRET_VARIABLES` lists.
Code may name any other variable as well. The variables that Rosetta and Dagster themselves need are never read as a secret.
"""

import os
from collections.abc import Callable
from typing import Final, TypeAlias

from rosetta_dagster.cdc.errors import ConfigurationError

#: Rows and runs may name each variable with this prefix.
PREFIX: Final = "ROSETTA_SECRET_"

#: The variable that lists further ones, separated by commas.
LIST: Final = "ROSETTA_SECRET_VARIABLES"

#: Settings are read in any case, so these names are compared in capitals.
_OWN: Final = frozenset({"CONFIG_DATABASE_URL", "SECRET_KEY", "SECRET_KEY_OLD", "ROSETTA_ALERT_WEBHOOK", LIST})
_OWN_PREFIX: Final = "DAGSTER_"

_OWN_IS_REFUSED: Final = "the variable {} is one of Rosetta's or Dagster's own"
_SEPARATE: Final = "Put the secret into a variable of its own."
_RENAME: Final = "Put the secret into such a variable, for every process of Rosetta."

#: Returns the secret in a variable, of this owner, with this name for a message.
Reader: TypeAlias = Callable[[str, str, str], str]


def read_for_code(variable: str, owner: str, what: str) -> str:
    """Return the secret in a variable that code names. `ConfigurationError` when it may not be named, or is not set."""
    if _is_own(variable):
        raise ConfigurationError(f"The {what} of {owner} is not valid: {_OWN_IS_REFUSED.format(variable)}.", _SEPARATE)
    return _read(variable, owner, what)


def read_for_row(variable: str, owner: str, what: str) -> str:
    """Return the secret in a variable that a row or a run names. `ConfigurationError` when it may not, or is not set."""
    if (refusal := refusal_in_row(variable)) is not None:
        raise ConfigurationError(f"The {what} of {owner} is not valid: {refusal}.", _RENAME)
    return _read(variable, owner, what)


def refusal_in_row(variable: str) -> str | None:
    """Return why a row or a run may not name this variable; None when it may. Whether the variable is set is not said."""
    if _is_own(variable):
        return _OWN_IS_REFUSED.format(variable)
    if variable.startswith(PREFIX) or variable in _listed():
        return None
    return f"rows and runs may not name the variable {variable}, only those that begin with {PREFIX} or that {LIST} lists"


def _is_own(variable: str) -> bool:
    return variable.upper() in _OWN or variable.upper().startswith(_OWN_PREFIX)


def _listed() -> frozenset[str]:
    return frozenset(name.strip() for name in os.environ.get(LIST, "").split(","))


def _read(variable: str, owner: str, what: str) -> str:
    if variable not in os.environ:
        raise ConfigurationError(
            f"The environment variable {variable} is not set, which holds the {what} of {owner}.",
            "Set it for every process of Rosetta.",
        )
    return os.environ[variable]
