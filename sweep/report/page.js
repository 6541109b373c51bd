"use strict";
// Sort a table by the column whose heading is pressed: numbers by size, texts by the numbers in them; empty cells last.
const order = new Intl.Collator("en", { numeric: true });
function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? order.compare(a, b) : x - y;
}
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, table = heading.closest("table"), body = table.tBodies[0];
    const column = heading.cellIndex, down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [row.cells[column].dataset.value, row]);
    const full = rows.filter(([value]) => value !== ""), empty = rows.filter(([value]) => value === "");
    full.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
    body.append(...full.concat(empty).map(([, row]) => row));
  });
}
// Filter: every word must occur in the row; lr=0.1 asks for that column's value.
for (const input of document.querySelectorAll("input[type=search]")) {
  const table = document.getElementById(input.dataset.table), count = document.getElementById(`${input.dataset.table}-count`);
  const columns = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const matches = (word) => {
        const [key, value] = word.split("=", 2), column = columns.indexOf(key);
        if (value === undefined || column < 0) return row.textContent.toLowerCase().includes(word);
        return value === "" || compare(row.cells[column].dataset.value.toLowerCase(), value) === 0;
      };
      row.hidden = !words.every(matches);
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${table.tBodies[0].rows.length}`;
  });
}
// Light or dark: as the system has it until the button is pressed.
const theme = document.getElementById("theme"), system = window.matchMedia("(prefers-color-scheme: dark)");
function show(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  theme.setAttribute("aria-pressed", String(dark));
}
show(system.matches);
system.addEventListener("change", (event) => show(event.matches));
theme.addEventListener("click", () => show(theme.getAttribute("aria-pressed") !== "true"));
