// Tells of the byte under the pointer or the focus what it is; arrows move the focus.
// Without this script the same words are each byte's title.
const table = document.getElementById("bytes");
const told = document.getElementById("told");
const cells = [...table.querySelectorAll("td")];
const width = table.tHead.rows[0].cells.length - 1;
const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width };
let current = cells[0];

function tell(event) {
  const cell = event.target.closest("td");
  if (cell) told.textContent = cell.title;
}

function move(event) {
  const next = cells[cells.indexOf(current) + steps[event.key]];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

function settle(event) {
  const cell = event.target.closest("td");
  if (!cell) return;
  current.tabIndex = -1;
  cell.tabIndex = 0;
  current = cell;
}

table.setAttribute("role", "grid");
cells.forEach((cell) => { cell.tabIndex = -1; });
current.tabIndex = 0;
table.addEventListener("pointerover", tell);
table.addEventListener("focusin", tell);
table.addEventListener("focusin", settle);
table.addEventListener("keydown", move);
