// A table that is sorted by its headings and shows the rows that a filter lets through.

const ROWS_SHOWN = 400;

/**
 * Columns have `title`, `cell(row)` (a node or text), `by(row)` to sort by, and perhaps `number` and `note`.
 * Gives the element and `show(rows)`.
 */
function sortableTable({ columns, caption, first = 0, down = false, rowClass = () => null }) {
  let order = first, falling = down, shown = [], all = false;
  const body = make("tbody");
  const foot = make("p", { class: "more" });
  const headings = columns.map((column, index) =>
    make("th", { scope: "col", class: column.number ? "number" : null, title: column.note },
      make("button", { type: "button", onclick: () => sortBy(index) }, column.title)));
  const table = make("table", { class: "rows" }, make("caption", { class: "unseen" }, caption),
    make("thead", {}, make("tr", {}, headings)), body);

  function sortBy(index) {
    falling = index === order ? !falling : Boolean(columns[index].number);
    order = index;
    say(`Sorted by ${columns[index].title}, ${falling ? "falling" : "rising"}`);
    render();
  }

  function compare(a, b) {
    const [x, y] = [columns[order].by(a), columns[order].by(b)];
    if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1;
    const sign = falling ? -1 : 1;
    if (typeof x === "number") return sign * (x - y);
    return sign * String(x).localeCompare(String(y), "en", { numeric: true });
  }

  function render() {
    headings.forEach((heading, index) => {
      if (index === order) heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
    const rows = [...shown].sort(compare);
    const visibleRows = all ? rows : rows.slice(0, ROWS_SHOWN);
    body.replaceChildren(...visibleRows.map((row) =>
      make("tr", { class: rowClass(row) }, columns.map((column) =>
        make("td", { class: column.number ? "number" : column.class ?? null }, column.cell(row))))));
    foot.replaceChildren(...(rows.length > visibleRows.length
      ? [make("button", { type: "button", onclick: () => { all = true; render(); } }, `Show all ${whole(rows.length)} rows`)]
      : []));
  }

  return {
    element: make("div", {}, make("div", { class: "wide scrolls", tabindex: "0", role: "region", "aria-label": caption }, table), foot),
    show(rows) { shown = rows; render(); },
    refresh: render,
  };
}
