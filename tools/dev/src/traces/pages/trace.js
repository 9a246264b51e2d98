// The page of one trace: folds subtrees, and moves between spans with the arrow keys. Without it everything is open and readable.
"use strict";
(() => {
  const rows = [...document.querySelectorAll(".row")];
  const depth = (row) => Number(row.dataset.depth);
  document.documentElement.classList.add("scripted");

  // Those below a row follow it, until one that is no deeper.
  const below = (row) => {
    const found = [];
    for (let at = rows.indexOf(row) + 1; at < rows.length && depth(rows[at]) > depth(row); at++) found.push(rows[at]);
    return found;
  };

  // A row is hidden as long as one above it is folded.
  const refresh = () => {
    let folded = Infinity;
    for (const row of rows) {
      if (depth(row) <= folded) folded = Infinity;
      row.classList.toggle("under", depth(row) > folded);
      if (folded === Infinity && row.classList.contains("folded")) folded = depth(row);
    }
  };

  const fold = (row, closed) => {
    const button = row.querySelector(".fold");
    if (!button) return;
    row.classList.toggle("folded", closed);
    button.setAttribute("aria-expanded", String(!closed));
  };

  // What an address or a link names must be seen, whatever is folded above it.
  const reveal = () => {
    const row = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!row || !row.classList.contains("row")) return;
    for (const other of rows) if (other !== row && below(other).includes(row)) fold(other, false);
    refresh();
    row.querySelector("details").open = true;
    row.scrollIntoView();
    row.querySelector("summary").focus({ preventScroll: true });
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".fold, [data-fold]");
    if (!button) return;
    if (button.dataset.fold) for (const row of rows) fold(row, button.dataset.fold === "all" && depth(row) > 0);
    else fold(button.closest(".row"), button.getAttribute("aria-expanded") === "true");
    refresh();
  });

  document.addEventListener("keydown", (event) => {
    const row = event.target.closest && event.target.closest(".row");
    if (!row || !event.target.matches(".row > details > summary, .fold") || event.ctrlKey || event.metaKey || event.altKey) return;
    const seen = rows.filter((other) => other.offsetParent !== null);
    const next = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (next) {
      const other = seen[seen.indexOf(row) + next];
      if (other) other.querySelector("summary").focus();
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      fold(row, event.key === "ArrowLeft");
      refresh();
    } else {
      return;
    }
    event.preventDefault();
  });

  addEventListener("hashchange", reveal);
  reveal();
})();
