"""Foreign code that a page carries: plotly.js 4.1.1, the cartesian bundle, MIT (LICENSE-plotly.txt)."""
