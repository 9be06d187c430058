"""Random workloads through whole pipelines, with PostgreSQL as the oracle: the destination has to equal the source.

`values` and `types` draw values, `tables` draws tables, `workloads` what happens to them; `execution` runs a workload,
`comparison` looks at both ends, `reduction` makes a failing workload smaller, and `__main__` is the command.
"""
