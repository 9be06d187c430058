"""How the rows that a table has already reach a destination: first copies, and copies beside the stream.

It reads a PostgreSQL source directly, knows destinations by their contract, and nothing of the stream that follows a copy.
"""
