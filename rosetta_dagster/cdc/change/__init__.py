"""What a change is: positions, schemas, columns, events, what a snapshot sees, and how changes fold into a batch.

Pure values and functions: no connection, no thread, and nothing from above but the error tree.
"""
