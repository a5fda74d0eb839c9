// Charts become interactive, solutions fold, and what is wider than the screen says so.
function markWide() {
  for (const box of document.querySelectorAll(".chart, .output_area")) {
    box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
  }
}
addEventListener("resize", markWide);
addEventListener("load", markWide);
for (const spec of document.querySelectorAll("script.chart-spec")) {
  const place = spec.previousElementSibling;
  const {$schema, ...chart} = JSON.parse(spec.textContent);
  vegaEmbed(place, chart, {mode: "vega-lite", renderer: "svg", actions: false}).then(markWide);
}
for (const solution of document.querySelectorAll(".celltag_solution")) {
  const folded = document.createElement("details");
  folded.innerHTML = "<summary>Solution</summary>";
  folded.append(...solution.childNodes);
  solution.append(folded);
}
