"""Formulas on columns, fast: they run once on placeholders (`traced`), and what they did becomes a program (`program`)
of numpy passes, each over the axes that it depends on and no more.
"""
