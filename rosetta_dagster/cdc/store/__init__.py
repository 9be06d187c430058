"""The configuration database: which pipelines are wanted, their state, and the lease of each run.

It owns the rows, their secrets and the migrations. It opens no source and no destination.
"""
