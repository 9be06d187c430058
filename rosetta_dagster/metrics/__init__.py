"""Serves the figures of every pipeline to Prometheus, from the configuration database alone. Needs the extra `metrics`."""
