"""Compares source and destination row by row while the stream runs, and repairs rows that differ.

It writes only rows that differ, and only when a repair is requested.
"""
