"""The configuration database: which pipelines are wanted, how they are doing, and who runs them.

It owns the rows, their secrets and the migrations. It opens no source and no destination.
"""
