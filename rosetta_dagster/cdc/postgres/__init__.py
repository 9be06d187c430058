"""What every session with a PostgreSQL server needs: connecting, its settings, waiting, and what its errors mean.

It knows the configuration of a connection and the error tree; it knows neither sources nor destinations.
"""
