"""One run of one pipeline: it is prepared, copied and streamed by a worker, under supervision and a lease.

It chooses the engine and the destinations, and decides how a run ends. It knows nothing of Dagster.
"""
