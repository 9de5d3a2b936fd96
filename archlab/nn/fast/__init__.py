"""The decoder as fast as a device runs it, from the same spec and the same rows: what `build(spec, fast=True)` makes.

The readable modules stay the reference. Here some of them have a second way to run: packed weights, no masks where
none is needed, norms and sums fused with the products beside them. A step that this way does not cover (images, a
prefix, tokens in pieces) goes the reference's way, in the same module; `obstacle` says before what a workload lacks.
"""
