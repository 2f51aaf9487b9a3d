// The table of problems with its filters.

const STATUS = { searched: "searched", out_of_range: "out of range", spent: "cut by the spending limit" };

function problemTable(runs, open) {
  const several = runs.length > 1;
  const ids = [...new Set(runs.flatMap((run) => run.problems.map((problem) => problem.id)))];
  const rows = ids.map((id) => {
    const versions = runs.map((run) => run.byId.get(id) ?? null);
    return { id, versions, any: versions.find(Boolean) };
  });
  const table = sortableTable({ columns: several ? pairColumns(runs) : columns(), caption: "Table of problems",
    first: several ? 4 : 3, down: true,
    rowClass: (row) => (open() === row.id ? "current" : null) });
  const status = make("p", { class: "hint", role: "status" });
  const filters = problemFilters(() => {
    const chosen = rows.filter(filters.passes);
    status.textContent = `${counted(chosen.length, "problem")} of ${whole(rows.length)}`;
    table.show(chosen);
  });
  byId("filters").replaceChildren(...filters.elements, status);
  byId("problem-table").replaceChildren(table.element);
  filters.apply();
  return table;
}

function problemLink(row) {
  const link = make("a", { href: address(row.any) }, visible(row.id));
  return make("span", {}, link, make("span", { class: "query" }, visible(short(row.any.query.replace(/\s+/g, " ")))));
}

function gradeMarks(problem) {
  return problem.traces.map((trace) => (trace.success ? "✓" : "✗")).join(" ") || "–";
}

function effectBar(problem) {
  if (!problem || !problem.found.length) return "–";
  const best = problem.found.reduce((a, b) => (Math.abs(b.delta) > Math.abs(a.delta) ? b : a));
  return make("a", { href: eventAddress(best), class: `effect ${effectWord(best.delta)}` }, signed(best.delta));
}

const valueOf = (problem) => (problem?.value ? problem.value.value : null);
const valueCell = (problem) =>
  problem?.value
    ? make("span", { title: `${plain(problem.value.low)} to ${plain(problem.value.high)}, ${counted(problem.value.n, "rollout")}` }, plain(problem.value.value))
    : "–";

function columns() {
  const only = (row) => row.versions[0];
  return [
    { title: "problem", class: "wrap", cell: problemLink, by: (row) => row.id },
    { title: "value", number: true, note: "Share of completions from the prompt that are right", cell: (row) => valueCell(only(row)), by: (row) => valueOf(only(row)) },
    { title: "completions", cell: (row) => make("span", { class: "marks" }, gradeMarks(only(row))), by: (row) => only(row).traces.length },
    { title: "reported", number: true, note: "Reported tokens or sentences", cell: (row) => String(only(row).found.length), by: (row) => only(row).found.length + only(row).strongest / 10 },
    { title: "help", number: true, cell: (row) => String(only(row).helping), by: (row) => only(row).helping },
    { title: "harm", number: true, cell: (row) => String(only(row).found.length - only(row).helping), by: (row) => only(row).found.length - only(row).helping },
    { title: "strongest", number: true, cell: (row) => effectBar(only(row)), by: (row) => only(row).strongest },
    { title: "tokens", number: true, note: "Generated for this problem", cell: (row) => whole(only(row).tokens), by: (row) => only(row).tokens },
    { title: "status", cell: (row) => STATUS[only(row).status], by: (row) => STATUS[only(row).status] },
  ];
}

function pairColumns(runs) {
  const part = (title, what, by) => runs.map((run, i) => ({
    title: `${title} ${run.name}`, number: true, cell: (row) => what(row.versions[i]), by: (row) => by(row.versions[i]),
  }));
  const difference = (row) => {
    const [a, b] = row.versions.map(valueOf);
    return a === null || b === null ? null : b - a;
  };
  return [
    { title: "problem", class: "wrap", cell: problemLink, by: (row) => row.id },
    ...part("value", valueCell, valueOf),
    { title: "difference", number: true, cell: (row) => (difference(row) === null ? "–" : signed(difference(row))), by: difference },
    ...part("reported", (p) => (p ? String(p.found.length) : "–"), (p) => (p ? p.found.length : null)),
    ...part("strongest", effectBar, (p) => (p ? p.strongest : null)),
  ];
}

function problemFilters(changed) {
  const text = make("input", { type: "search", placeholder: "Text of the problem or a completion", "aria-label": "Text", oninput: () => changed() });
  const shown = make("select", { "aria-label": "Findings", onchange: () => changed() },
    ...[["all", "all problems"], ["found", "with a finding"], ["helps", "with one that helps"], ["harms", "with one that harms"], ["searched", "searched, nothing reported"], ["range", "out of range"]]
      .map(([value, label]) => make("option", { value }, label)));
  const bound = (label, value) => make("input", { type: "number", min: 0, max: 1, step: 0.05, value, "aria-label": label, oninput: () => changed() });
  const [low, high] = [bound("Value at least", 0), bound("Value at most", 1)];
  const kinds = {
    all: () => true,
    found: (p) => p.found.length > 0,
    helps: (p) => p.helping > 0,
    harms: (p) => p.found.length > p.helping,
    searched: (p) => p.status === "searched" && !p.found.length,
    range: (p) => p.status === "out_of_range",
  };
  const holds = (problem, words) => {
    problem.searchable ??= [problem.id, problem.query, problem.answer, ...problem.traces.map((t) => t.text)].join("\n").toLowerCase();
    return problem.searchable.includes(words);
  };
  const within = (problem) => {
    const value = valueOf(problem);
    const [least, most] = [Number(low.value || 0), Number(high.value || 1)];
    return value === null ? least <= 0 && most >= 1 : value >= least && value <= most;
  };
  return {
    elements: [
      make("label", {}, "Find ", text), make("label", {}, "Show ", shown),
      make("span", { class: "between" }, "Value ", low, " to ", high),
    ],
    apply: changed,
    passes: (row) => row.versions.some((p) => p && kinds[shown.value](p) && within(p) && (!text.value || holds(p, text.value.toLowerCase()))),
  };
}
