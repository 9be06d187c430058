"""What an operator asks of a pipeline: its health, an inspection, a comparison, a resync, its removal.

It uses runs, stores, sources and destinations; nothing below knows it.
"""
