"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    const sign = direction === "ascending" ? 1 : -1;
    const numeric = head.classList.contains("number");
    const key = row => row.cells[column].dataset.sort;
    const compare = (a, b) => numeric ? a - b : a.localeCompare(b, undefined, {numeric: true});
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => (key(a) === "") - (key(b) === "") || sign * compare(key(a), key(b)));
    table.tBodies[0].append(...rows);
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
  }));
}
for (const cells of document.querySelectorAll(".cells")) {
  const readout = cells.parentElement.previousElementSibling;
  const [row, column] = cells.querySelectorAll(".cross");
  const move = (cross, x, y, width, height) => {
    Object.entries({x, y, width, height}).forEach(([name, value]) => cross.setAttribute(name, value));
    cross.style.visibility = "visible";
  };
  cells.addEventListener("pointerover", event => {
    const cell = event.target.closest(".right, .wrong");
    if (!cell) return;
    const size = Number(cell.getAttribute("width")) + 1, side = cells.width.baseVal.value;
    move(row, 0, cell.getAttribute("y"), side, size);
    move(column, cell.getAttribute("x"), 0, size, cells.height.baseVal.value);
    readout.textContent = cell.querySelector("title").textContent;
  });
}
