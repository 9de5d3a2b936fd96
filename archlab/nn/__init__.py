"""The decoders in torch, for reading and for running: same file stems as blocks/, and built from the same rows."""
