"""The configuration database: what is to be replicated, and how it goes."""
