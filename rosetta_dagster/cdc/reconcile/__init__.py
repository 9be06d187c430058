"""Compares source and destination row by row while the stream runs, and mends what differs."""
