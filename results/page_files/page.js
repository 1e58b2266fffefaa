"use strict";
const comparisons = {
  ">=": (a, b) => a >= b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, "<": (a, b) => a < b, "=": (a, b) => a === b,
};

// What a field asks of a cell: a number to compare with, or a text that it holds. null: it cannot be read.
function condition(text, isNumber) {
  const asked = text.trim().toLowerCase();
  if (!asked) return () => true;
  if (!isNumber) return (key) => key.toLowerCase().includes(asked);
  const found = asked.match(/^(>=|<=|>|<|=)?\s*(-?\d+(?:\.\d+)?)$/);
  if (!found) return null;
  const compare = comparisons[found[1] || "="], limit = Number(found[2]);
  return (key) => key !== "" && compare(Number(key), limit);
}

function table(board) {
  const heads = [...board.querySelectorAll("thead th")], fields = [...board.querySelectorAll(".filters input")];
  const body = board.tBodies[0];
  const rows = [...body.querySelectorAll(".row")].map((row) => ({
    row, more: row.nextElementSibling, keys: [...row.cells].map((cell) => cell.dataset.key),
  }));
  const isNumber = (place) => heads[place].classList.contains("number");
  const count = board.closest("section").querySelector(".count");

  function filter() {
    const asked = fields.map((field, place) => condition(field.value, isNumber(place)));
    fields.forEach((field, place) => field.classList.toggle("wrong", asked[place] === null));
    let shown = 0;
    for (const { row, more, keys } of rows) {
      const fits = asked.every((fit, place) => fit === null || fit(keys[place]));
      row.hidden = !fits;
      if (!fits) more.hidden = true;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} rows.`;
  }

  function sort(place) {
    const head = heads[place];
    const down = head.getAttribute("aria-sort") === (isNumber(place) ? "none" : "ascending") ||
      (isNumber(place) && head.getAttribute("aria-sort") === "ascending");
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.sort((a, b) => {
      const [x, y] = [a.keys[place], b.keys[place]];
      if (x === "" || y === "") return (x === "") - (y === ""); // what is not known comes last, either way
      const order = isNumber(place) ? Number(x) - Number(y) : x.localeCompare(y);
      return down ? -order : order;
    });
    for (const { row, more } of rows) body.append(row, more);
  }

  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => sort(place)));
  fields.forEach((field) => field.addEventListener("input", filter));
  rows.forEach(({ row, more }) => {
    row.addEventListener("click", () => { more.hidden = !more.hidden; });
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") more.hidden = !more.hidden; });
  });
  filter();
}

document.querySelectorAll(".board").forEach(table);
for (const [place, spec] of Object.entries(JSON.parse(document.getElementById("specs").textContent))) {
  vegaEmbed(`#${place}`, spec, { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } });
}
