"""Design sweeps: points evaluated on an open mesh, budgets held, studies run through Hydra, results kept as parquet."""
