"""Commands that generate and check the key pair of a Snowflake user. They connect to no database."""

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from rosetta_dagster.cdc.destination.snowflake.keys import KeyPair, alter_user, generate_key, load_key, read_key
from rosetta_dagster.cdc.errors import ConfigurationError

keys = typer.Typer(no_args_is_help=True, help="Key pairs for Snowflake.")

# Every user of the machine can see a process's arguments, so a passphrase comes from a prompt or a variable.
Passphrase = Annotated[
    str,
    typer.Option(envvar="ROSETTA_PASSPHRASE", prompt=True, hide_input=True, help="Prompted for unless the variable is set."),
]
NewPassphrase = Annotated[
    str,
    typer.Option(
        envvar="ROSETTA_PASSPHRASE",
        prompt=True,
        confirmation_prompt=True,
        hide_input=True,
        help="Prompted for unless the variable is set.",
    ),
]
User = Annotated[str, typer.Option(help="The Snowflake user that the key is for.")]
Second = Annotated[bool, typer.Option("--second", help="Register it as the second key, for a rotation.")]


@keys.command(name="generate")
def generate(
    file: Annotated[Path, typer.Argument(help="File for the private key. It must not exist.")] = Path("rsa_key.p8"),
    *,
    passphrase: NewPassphrase,
    user: User = "ROSETTA",
    second: Second = False,
) -> None:
    """Generate a key pair. The private key goes to a file that only you can read."""
    if not passphrase:
        raise ConfigurationError("The passphrase is empty.", "Rosetta uses encrypted keys only: enter a passphrase.")
    pair = generate_key()
    _write(file, pair.pem(SecretStr(passphrase)))
    typer.echo(f"wrote {file}")
    _print(pair, user, second=second)


@keys.command(name="check")
def check(
    file: Annotated[Path, typer.Argument(help="The private key.")] = Path("rsa_key.p8"),
    *,
    passphrase: Passphrase,
    user: User = "ROSETTA",
    second: Second = False,
) -> None:
    """Check a private key. Prints the statement that registers it."""
    _print(load_key(read_key(str(file)), SecretStr(passphrase)), user, second=second)


def _write(file: Path, pem: bytes) -> None:
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(pem)
    except FileExistsError:
        raise ConfigurationError(f"{file} exists already.", "Name another file, or move it away.") from None
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}.", "Name another file.") from None


def _print(pair: KeyPair, user: str, *, second: bool) -> None:
    typer.echo(f"bits         {pair.bits}")
    typer.echo(f"fingerprint  {pair.fingerprint}")
    typer.echo("Register it at Snowflake, as a user who may alter this user:")
    typer.echo(alter_user(user, pair, second=second))
