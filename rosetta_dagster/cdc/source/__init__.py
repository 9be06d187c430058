"""Where changes come from: a PostgreSQL database, its slot, its catalog, and the engines that read its stream."""
