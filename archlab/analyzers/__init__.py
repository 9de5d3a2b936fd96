"""One file a question. Each analyzer folds the rows of a ledger and returns a named thing."""
