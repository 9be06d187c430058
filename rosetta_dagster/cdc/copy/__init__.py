"""How the rows that a table has already reach a destination: first copies, and copies beside the stream.

It knows sources and destinations by their contracts, and nothing of the stream that follows a copy.
"""
