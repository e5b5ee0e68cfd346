"use strict";
(() => {
  const table = document.querySelector("table");
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const collator = new Intl.Collator("en", { numeric: true });

  // Sorting: a button in each head, so that a keyboard and a screen reader have it, too. Verdicts begin with the worst.
  const compare = (column) => (a, b) => {
    const [x, y] = [a.cells[column], b.cells[column]];
    return "rank" in x.dataset
      ? y.dataset.rank - x.dataset.rank
      : collator.compare(x.textContent, y.textContent);
  };
  const sort = (header, column) => {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    headers.forEach((each) => each.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const rows = [...body.rows].sort(compare(column));
    body.append(...(ascending ? rows : rows.reverse()));
  };
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(header, column));
    header.append(button);
    header.setAttribute("aria-sort", "none");
  });

  // The filter: every word must be in the row, and the address keeps the words. A permalink shows what was filtered out.
  const query = document.getElementById("q");
  const count = document.getElementById("count");
  const filter = () => {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const section = document.getElementById(row.dataset.name);
      const text = row.textContent.toLowerCase();
      row.hidden = section.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${body.rows.length}` : "";
  };
  const remember = () => {
    const address = new URL(location.href);
    if (query.value) address.searchParams.set("q", query.value);
    else address.searchParams.delete("q");
    try { history.replaceState(null, "", address); } catch { /* some browsers refuse it for a file */ }
  };
  const target = () => {
    const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!place || !place.matches("section, article")) return;
    place.closest("section").hidden = false;
    const details = place.querySelector(":scope > details");
    if (details) details.open = true;
    place.scrollIntoView();
  };
  query.value = new URLSearchParams(location.search).get("q") || "";
  query.addEventListener("input", () => { filter(); remember(); });
  query.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { query.value = ""; filter(); remember(); }
  });
  addEventListener("hashchange", target);
  filter();
  target();

  document.getElementById("save").addEventListener("click", () => {
    const blob = new Blob([document.getElementById("data").textContent], { type: "application/json" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "bowout-check.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.querySelector(".tools").hidden = false;
})();
