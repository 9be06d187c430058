"""What any session with a PostgreSQL server needs: connecting, waiting, and what its errors mean.

It knows the configuration of a connection and the error tree; it knows neither sources nor destinations.
"""
