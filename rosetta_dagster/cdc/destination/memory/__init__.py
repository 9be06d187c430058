"""A destination in memory, for tests. It keeps the whole contract, and is the shortest example of a kind."""
