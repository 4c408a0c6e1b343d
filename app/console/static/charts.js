/* Draws each [data-chart] with uPlot: one axis of time (UTC), one of counts, in the page's own colours. Lines differ by
   their dashes, too. Without this file the captions say what there is to say. */
(() => {
  "use strict";
  const DASHES = [[], [6, 4]];

  const draw = (figure) => {
    const { at, series } = JSON.parse(figure.dataset.chart);
    const style = getComputedStyle(figure);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const place = figure.querySelector(".plot");
    place.replaceChildren();
    new uPlot(
      {
        width: place.clientWidth,
        height: 140,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (_plot, _low, high) => [0, Math.max(high || 0, 4)] } },
        axes: [{ ...axis, size: 30, values: (_plot, ticks) => ticks.map((seconds) => new Date(seconds * 1000).toISOString().slice(11, 16)) }, { ...axis, size: 48, values: (_plot, ticks) => ticks.map((tick) => (tick % 1 ? "" : tick.toLocaleString("en"))) }],
        series: [{}, ...series.map((one, number) => ({ label: one.label, stroke: colour(one.is_bad ? "--bad" : number ? "--wait" : "--good"), dash: DASHES[number], width: 2, points: { show: false } }))],
      },
      [at, ...series.map((one) => one.values)],
      place,
    );
  };

  const drawAll = () => document.querySelectorAll("[data-chart]").forEach(draw);
  drawAll();
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.closest(".charts") || event.target.querySelector("[data-chart]")) drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let last = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== last) { // a phone's bars come and go, and change the height alone
      last = innerWidth;
      drawAll();
    }
  });
})();
