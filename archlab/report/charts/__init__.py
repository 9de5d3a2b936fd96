"""One file a picture: a function from the points of a run to a card, or to nothing where the run has no data for it."""
