// The report of an evaluation: success against tokens, and the problems that two systems answer differently.

const STEERED = { none: "neutral", vectors: "helps", "random direction": "random" };

async function start() {
  startTheme();
  const data = await unpack();
  frontier(data.summary);
  flippedProblems(data);
  document.documentElement.dataset.ready = "yes";
}

const systemLines = (system) => [
  system.name,
  `success ${plain(system.success, 3)} (${plain(system.success_low, 3)} to ${plain(system.success_high, 3)})`,
  `tokens ${system.tokens.toFixed(1)} (${system.tokens_low.toFixed(1)} to ${system.tokens_high.toFixed(1)})`,
];

/** The chart, and a box for each system that shows or hides it. */
function frontier(summary) {
  const hidden = new Set();
  const host = byId("frontier-chart");
  const render = () => host.replaceChildren(frontierChart(summary, summary.lines.filter((system) => !hidden.has(system.name))));
  byId("frontier-systems").append(...summary.lines.map((system) => {
    const box = make("input", { type: "checkbox", onchange: () => {
      if (box.checked) hidden.delete(system.name);
      else hidden.add(system.name);
      render();
    } });
    box.checked = true;
    return make("label", { class: system.asked ? null : "baseline" }, box, " ", make("span", { class: `dot ${STEERED[system.steering]}` }), ` ${system.name}`);
  }));
  render();
}

function frontierChart(summary, systems) {
  const all = summary.lines;
  const low = Math.min(...all.map((s) => s.success_low)), high = Math.max(...all.map((s) => s.success_high));
  const most = Math.max(...all.map((s) => s.tokens_high), 1);
  const chart = frame({
    width: 720, height: 380, label: `Success against tokens of ${counted(systems.length, "system")}`,
    x: { from: 0, to: most * 1.05, title: `tokens of an answer (mean, ${percent(summary.level)} interval)` },
    y: { from: Math.max(0, low - 0.05), to: Math.min(1, high + 0.05), title: `success (${percent(summary.level)} interval)` },
  });
  for (const [steering, corners] of Object.entries(summary.frontiers)) {
    if (corners.length < 2) continue;
    const points = corners.map(([x, y]) => `${chart.sx(x).toFixed(1)},${chart.sy(y).toFixed(1)}`);
    chart.layer.append(draw("path", { class: `frontier-line ${STEERED[steering]}`, d: `M${points.join("L")}` }));
  }
  if (summary.chance !== null) {
    chart.layer.append(draw("line", { class: "bound", x1: chart.sx(0), x2: chart.sx(most), y1: chart.sy(summary.chance), y2: chart.sy(summary.chance) }));
  }
  for (const system of [...systems].sort((a, b) => a.asked - b.asked)) {
    const [x, y] = [chart.sx(system.tokens), chart.sy(system.success)];
    const group = draw("g", { class: `point ${STEERED[system.steering]}${system.asked ? "" : " hollow"}` },
      draw("line", { x1: chart.sx(system.tokens_low), x2: chart.sx(system.tokens_high), y1: y, y2: y }),
      draw("line", { x1: x, x2: x, y1: chart.sy(system.success_low), y2: chart.sy(system.success_high) }),
      system.fixed ? draw("rect", { x: x - 4, y: y - 4, width: 8, height: 8 }) : draw("circle", { cx: x, cy: y, r: 5 }));
    chart.layer.append(tipped(group, systemLines(system)));
  }
  return make("figure", {}, chart.svg, make("figcaption", {}, "Blue: steered. Grey: not. Squares: fixed budgets, joined by their frontier. Hollow: baselines. Point at one for its figures."));
}

const solved = (answers) => answers.filter((answer) => answer.success).length;

function flippedProblems(data) {
  const names = data.summary.lines.map((system) => system.name);
  const pair = data.summary.comparisons.find((one) => names.includes(one.line) && names.includes(one.against));
  const choice = (label, chosen) => {
    const select = make("select", { "aria-label": label, onchange: () => render() }, names.map((name) => make("option", { value: name }, name)));
    select.value = chosen;
    return select;
  };
  const first = choice("First system", pair?.against ?? names[0]);
  const second = choice("Second system", pair?.line ?? names[Math.min(1, names.length - 1)]);
  const kind = make("select", { "aria-label": "Which problems", onchange: () => render() },
    [["flipped", "that flipped"], ["won", "won by the second"], ["lost", "lost by the second"], ["all", "all"]].map(([value, label]) => make("option", { value }, label)));
  const status = make("span", { class: "hint", role: "status" });
  byId("flip-filters").replaceChildren(make("label", {}, "From ", first), make("label", {}, "to ", second), make("label", {}, "Show ", kind), status);

  function render() {
    const [a, b] = [names.indexOf(first.value), names.indexOf(second.value)];
    const change = (row) => solved(row.answers[b]) - solved(row.answers[a]);
    const passes = { all: () => true, flipped: (row) => change(row) !== 0, won: (row) => change(row) > 0, lost: (row) => change(row) < 0 };
    const table = sortableTable({
      caption: "Problems and the answers of both systems", first: 4, down: true,
      columns: [
        { title: "problem", cell: (row) => visible(row.id), by: (row) => row.id },
        { title: "reference", class: "wrap", cell: (row) => visible(short(row.reference, 60)), by: (row) => row.reference },
        { title: first.value, class: "wrap", cell: (row) => answersOf(row.answers[a]), by: (row) => solved(row.answers[a]) },
        { title: second.value, class: "wrap", cell: (row) => answersOf(row.answers[b]), by: (row) => solved(row.answers[b]) },
        { title: "change", number: true, cell: (row) => signed(change(row), 0), by: change },
      ],
    });
    const rows = data.problems.filter(passes[kind.value]);
    const won = data.problems.filter(passes.won).length, lost = data.problems.filter(passes.lost).length;
    status.textContent = `${counted(rows.length, "problem")}; ${whole(won)} won, ${whole(lost)} lost by ${second.value}`;
    table.show(rows);
    byId("flip-table").replaceChildren(table.element);
  }
  render();
}

/** The share that is right, and each answer below. */
function answersOf(answers) {
  const lines = answers.map((answer) => make("div", { class: "answer" },
    make("span", { class: answer.success ? "right" : "wrong" }, answer.success ? "✓ " : "✗ "),
    answer.text === null ? make("span", { class: "hint" }, "text not kept for a baseline") : visible(answer.text || "(empty)"),
    make("span", { class: "hint" }, ` ${counted(answer.tokens, "token")}${answer.cut ? ", cut" : ""}`)));
  return make("div", {}, make("b", {}, `${solved(answers)} of ${answers.length}`), lines);
}

start();
