"""Where changes are applied to: one folder for each kind of database, all with the same contract."""
