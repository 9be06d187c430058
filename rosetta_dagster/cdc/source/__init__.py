"""Where changes come from: a PostgreSQL database, its slot, its catalog, and the engines that read its stream.

It decides what the source must provide and what each engine reads. It knows no destination and no journey.
"""
