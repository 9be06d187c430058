"""`python -m rosetta_dagster`."""

from rosetta_dagster.cli.main import main

main()
