"use strict";
(() => {
  // The expression interpreter (ast) lets the page forbid eval.
  const options = {
    mode: "vega-lite", renderer: "svg", ast: true, actions: false,
    defaultStyle: false, tooltip: { disableDefaultStyle: true },
  };
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const embed = async (box, spec) => {
    try {
      await window.vegaEmbed(box, spec, options);
      box.dataset.drawn = "yes";
    } catch (error) {
      box.textContent = "This chart could not be drawn (" + error.message +
        "); its table has the same numbers.";
      box.dataset.drawn = "no";
    }
  };
  document.querySelectorAll("[data-spec]").forEach((box) => embed(box, read(box.dataset.spec)));

  // The chosen cell: its confusion matrix and its labels' scores.
  const percent = (value) => (100 * value).toFixed(1);
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const fillRow = (row, head, values) => {
    const th = row.appendChild(document.createElement("th"));
    th.scope = "row";
    th.textContent = head;
    values.forEach((value) => {
      const td = row.appendChild(document.createElement("td"));
      td.className = "n";
      td.textContent = value;
    });
  };
  const fillBody = (id, rows) => {
    const body = document.querySelector("#" + id + " tbody");
    body.replaceChildren();
    rows.forEach(([head, values]) => fillRow(body.insertRow(), head, values));
  };
  const fillHead = (labels) => {
    const row = document.querySelector("#table-confusion thead tr");
    while (row.cells.length > 1) row.deleteCell(1);
    labels.forEach((label) => {
      const th = row.appendChild(document.createElement("th"));
      th.scope = "col";
      th.className = "n";
      th.textContent = label;
    });
  };
  const scoreLabel = (matrix, i) => {
    const right = matrix[i][i], texts = sum(matrix[i]), named = sum(matrix.map((row) => row[i]));
    const f1 = 2 * right / Math.max(texts + named, 1);
    return [f1, right / Math.max(named, 1), right / Math.max(texts, 1)].map(percent).concat(texts);
  };
  const listPairs = ({ labels, matrix }) => matrix.flatMap((counts, i) => counts.map((texts, j) => (
    { truth: labels[i], predicted: labels[j], texts, share: texts / Math.max(sum(counts), 1) }
  )));
  const showCell = async (cell, name) => {
    fillBody("table-scores", cell.labels.map((label, i) => [label, scoreLabel(cell.matrix, i)]));
    fillHead(cell.labels);
    fillBody("table-confusion", cell.labels.map((label, i) => [label, cell.matrix[i]]));
    const spec = read("spec-confusion");
    spec.datasets[Object.keys(spec.datasets)[0]] = listPairs(cell);
    spec.description = "Confusion matrix of " + name + "; the table has the same numbers.";
    await embed(document.querySelector("[data-spec=spec-confusion]"), spec);
    document.getElementById("cell-status").textContent = "Showing " + name;
  };
  const choice = document.getElementById("cell-choice");
  if (choice) {
    const cells = read("confusions");
    choice.addEventListener("change", () => {
      showCell(cells[choice.value], choice.selectedOptions[0].text);
    });
  }

  // On paper nothing can be unfolded, so unfold everything before printing.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => { folded.forEach((part) => { part.open = false; }); });
})();
