"""Compares source and destination row by row while the stream runs, and repairs what differs.

It reads through the contracts of sources and destinations, and writes the rows that a repair was asked for, no others.
"""
