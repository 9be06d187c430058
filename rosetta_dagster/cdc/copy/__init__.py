"""How rows that exist already reach a destination: first copies, and copies beside the stream.

It may know sources and destinations by their contracts, and nothing of the stream that follows a copy.
"""
