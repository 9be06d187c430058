"""What a pipeline is configured with: sources, destinations, tables, options and thresholds, as frozen values.

It may know the error tree and the values of `change`, and nothing that connects anywhere.
"""
