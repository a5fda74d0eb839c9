// Charts become interactive, and solutions fold.
for (const spec of document.querySelectorAll("script.chart-spec")) {
  const place = spec.previousElementSibling;
  const {$schema, ...chart} = JSON.parse(spec.textContent);
  vegaEmbed(place, chart, {mode: "vega-lite", renderer: "svg", actions: false});
}
for (const solution of document.querySelectorAll(".celltag_solution")) {
  const folded = document.createElement("details");
  folded.innerHTML = "<summary>Solution</summary>";
  folded.append(...solution.childNodes);
  solution.append(folded);
}
