"""What a change is: positions, schemas, columns, events, what a snapshot contains, and how changes fold into a batch.

Pure values and functions: no connection, no thread, and no import but the error tree and `table_id`.
"""
