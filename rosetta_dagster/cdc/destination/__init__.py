"""Where changes are applied to: one folder for each kind of database, all with the same contract.

It decides how a batch becomes durable exactly once. It knows no source and no journey.
"""
