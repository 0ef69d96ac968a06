"use strict";
(() => {
  const root = document.documentElement;
  root.dataset.errors = "0";
  window.addEventListener("error", () => {
    root.dataset.errors = String(Number(root.dataset.errors) + 1);
  });

  const asked = new URLSearchParams(location.search).get("scheme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = (scheme) => { root.dataset.scheme = scheme; };
  show(asked === "dark" || asked === "light" ? asked : dark.matches ? "dark" : "light");
  if (!asked) dark.addEventListener("change", () => show(dark.matches ? "dark" : "light"));
  document.getElementById("scheme").addEventListener("click", () =>
    show(root.dataset.scheme === "dark" ? "light" : "dark"));

  // A link to a folded section opens it.
  const open = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.firstElementChild.tagName === "DETAILS") {
      target.firstElementChild.open = true;
      target.scrollIntoView();
    }
  };
  window.addEventListener("hashchange", open);
  open();

  const key = (cell) => ("key" in cell.dataset ? Number(cell.dataset.key) : null);
  const compare = (a, b) => {
    const x = key(a), y = key(b);
    if (x !== null && y !== null) return x - y;
    return a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
  };
  const empty = (cell) => key(cell) === null && cell.textContent === "-";
  const sort = (head) => {
    const up = head.getAttribute("aria-sort") === "descending";
    const body = head.closest("table").tBodies[0];
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const column = head.cellIndex;
    const rows = [...body.rows].sort((one, other) => {
      const a = one.cells[column], b = other.cells[column];
      // What is undefined stays last, whichever way.
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      return up ? compare(a, b) : compare(b, a);
    });
    body.append(...rows);
  };
  for (const head of document.querySelectorAll("th")) {
    head.addEventListener("click", () => sort(head));
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(head); }
    });
  }
  root.dataset.ready = "yes";
})();
