"""One run of one pipeline: a worker prepares, copies and streams it, under supervision and a lease.

It chooses the engine and the destinations, and decides how a run ends. It knows nothing of Dagster.

The way from the row to the loop:
1. `supervise` holds the lease and follows the row;
2. `_run_worker` restarts the worker when the tables change;
3. `Worker` owns the thread;
4. `run_pipeline` attempts the run again without a table that broke;
5. `Attempt.run` prepares source and destinations, copies, and opens the stream;
6. `replicate` is the loop.
"""
