// A row of the front shows its mark in the picture.
function markOf(row) {
  const box = one('[data-fig="front"]');
  if (!box || !box.data || !window.Plotly) return;
  const point = +row.dataset.point;
  const at = box.data.flatMap((trace, curveNumber) => {
    const found = trace.mode === "markers" && trace.hoverinfo === "text" ? [].concat(trace.meta).indexOf(point) : -1;
    return found < 0 ? [] : [{ curveNumber, pointNumber: found }];
  });
  if (at.length) Plotly.Fx.hover(box, at.slice(-1));
}

function pointedAt(target) {
  const row = target.closest && target.closest("#front-table tbody tr[data-point]");
  if (row) markOf(row);
}
