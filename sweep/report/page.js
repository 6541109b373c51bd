"use strict";
// Sort a table by the column whose heading is pressed, the best first where one is: numbers by size, texts by the numbers
// in them; empty cells last.
const order = new Intl.Collator("en", { numeric: true });
function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? order.compare(a, b) : x - y;
}
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, table = heading.closest("table"), body = table.tBodies[0];
    const column = heading.cellIndex, sorted = heading.getAttribute("aria-sort");
    const down = sorted ? sorted === "ascending" : heading.dataset.best === "highest";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [row.cells[column].dataset.value, row]);
    const full = rows.filter(([value]) => value !== ""), empty = rows.filter(([value]) => value === "");
    full.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
    body.append(...full.concat(empty).map(([, row]) => row));
  });
}
// Filter: every word must occur in the row; lr=0.1 or lr>=0.05 asks for that column's value.
const relations = {
  ">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b,
};
// The columns that a name stands for: the one that is called so, else those whose names have it in them.
function named(columns, key) {
  const places = [...columns.keys()];
  const exact = places.filter((place) => columns[place] === key);
  return exact.length ? exact : places.filter((place) => columns[place].includes(key));
}
// Whether a row fits a word, as a function; what is wrong with the word, as a text.
function condition(word, columns, rows) {
  const [, key, relation, value] = word.match(/^([^=<>!]+)(>=|<=|!=|=|>|<)(.*)$/) ?? [];
  if (!relation) return (row) => row.textContent.toLowerCase().includes(word);
  const places = named(columns, key), [place] = places;
  if (places.length === 0) return `there is no column ${key}`;
  if (places.length > 1) return `${key} may be ${places.map((each) => columns[each]).join(" or ")}`;
  if (value === "") return () => true;
  const text = (row) => row.cells[place].dataset.value.toLowerCase();
  const equal = (row) => row.cells[place].textContent.toLowerCase() === value || compare(text(row), value) === 0;
  if (relation === "=") return equal;
  if (relation === "!=") return (row) => !equal(row);
  if (rows.some((row) => Number.isNaN(Number(text(row))))) return `${columns[place]} has no numbers to compare: use =`;
  if (Number.isNaN(Number(value))) return `${value} is no number`;
  return (row) => text(row) !== "" && relations[relation](Number(text(row)), Number(value));
}
for (const input of document.querySelectorAll("input[type=search]")) {
  const table = document.getElementById(input.dataset.table), count = document.getElementById(`${input.dataset.table}-count`);
  const columns = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.toLowerCase());
  input.addEventListener("input", () => {
    const rows = [...table.tBodies[0].rows];
    const plain = input.value.toLowerCase().replace(/≥|=>/g, ">=").replace(/≤|=</g, "<=").replace(/==/g, "=");
    const words = plain.replace(/\s*(>=|<=|!=|=|>|<)\s*/g, "$1").split(/\s+/).filter(Boolean);
    const found = words.map((word) => condition(word, columns, rows));
    const wrong = found.filter((each) => typeof each === "string"), asked = found.filter((each) => typeof each !== "string");
    for (const row of rows) row.hidden = !asked.every((fits) => fits(row));
    count.textContent = [`${rows.filter((row) => !row.hidden).length} of ${rows.length}`, ...wrong].join("; ");
  });
}
// A picture that is pressed opens large; Escape or its button closes it.
const dialog = document.querySelector("dialog"), enlarged = dialog.querySelector("div");
for (const button of document.querySelectorAll("figure button")) {
  button.addEventListener("click", () => {
    const image = button.firstElementChild.cloneNode(), width = button.firstElementChild.naturalWidth;
    image.style.width = `${Math.max(width, Math.min(2 * width, window.innerWidth - 64))}px`;
    dialog.className = button.closest("figure").className;
    enlarged.replaceChildren(image);
    dialog.showModal();
  });
}
dialog.addEventListener("close", () => enlarged.replaceChildren());
// Light or dark: as the system has it until the button is pressed.
const theme = document.getElementById("theme"), system = window.matchMedia("(prefers-color-scheme: dark)");
function show(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  theme.setAttribute("aria-pressed", String(dark));
}
show(system.matches);
system.addEventListener("change", (event) => show(event.matches));
theme.addEventListener("click", () => show(theme.getAttribute("aria-pressed") !== "true"));
