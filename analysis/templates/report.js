"use strict";
(() => {
  // The expression interpreter (ast) lets the page forbid eval.
  const options = {
    mode: "vega-lite", renderer: "svg", ast: true, actions: false,
    defaultStyle: false, tooltip: { disableDefaultStyle: true },
  };
  const draw = async (box) => {
    try {
      const spec = JSON.parse(document.getElementById(box.dataset.spec).textContent);
      await window.vegaEmbed(box, spec, options);
      box.dataset.drawn = "yes";
    } catch (error) {
      box.textContent = "This chart could not be drawn (" + error.message +
        "); its table has the same numbers.";
      box.dataset.drawn = "no";
    }
  };
  document.querySelectorAll("[data-spec]").forEach(draw);

  // On paper nothing can be unfolded, so all is.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => { folded.forEach((part) => { part.open = false; }); });
})();
