"""The journey of a change, from a delivery of the source to a commit: what waits, what is durable, what is reported.

It knows sources and destinations by their contracts, and copies as they are passed in. It never chooses an engine.
"""
