"""The demo in the circumstances of other machines: private homes, odd paths, strict settings, other Pythons.

`python -m tests.machines` runs all of them and prints a table. Four are tests, in `tests/acceptance/test_machines.py`.
"""
