// The overview of a search: effects in order, against probability, and their place in the completion.

function overview(runs) {
  const groups = runs.map((run) => {
    const named = runs.length > 1 ? `${run.name}: ` : "";
    if (!run.events.length) return [make("p", {}, `${named}No candidate entered the confirmation, so there is nothing to draw.`)];
    return [
      figure(`${named}Effects, the largest first`, `Reported ${unitsOf(run)} with their intervals, which allow for the selection. Click a point to read it.`, effectsInOrder(run)),
      figure(`${named}Effect and probability`, `The ${unitsOf(run)} that were tested on fresh completions; hollow: not reported. No effect can be larger than 1 − probability (dashed).`, effectAndProbability(run)),
      figure(`${named}Effect and entropy`, ...entropyFigure(run)),
      figure(`${named}Where in the completion`, `Reported ${unitsOf(run)} by their place, as a share of the completion's length.`, places(run)),
      run.found.some((event) => event.pattern) ? figure(`${named}Patterns by their words`, `Reported ${unitsOf(run)} by the reasoning pattern that ${run.summary.unit === "sentence" ? "their words" : "the words around them"} speak for (the lexicon's). A label for sorting: nothing was tested.`, patterns(run)) : null,
      run.problems.some((p) => p.traces.some((t) => t.fates)) ? figure(`${named}What became of the tokens`, "Most tokens cannot matter, and cost nothing.", fates(run)) : null,
    ].filter(Boolean);
  });
  byId("charts").replaceChildren(...groups.map((figures) => make("div", { class: "charts" }, figures)));
}

function eventLines(event) {
  return [
    `${quoted(short(event.token, 60))} ${signed(event.delta)} (${signed(event.low)} to ${signed(event.high)})`,
    `value ${plain(event.before.value)} → ${plain(event.after.value)}, probability ${plain(event.prob)}` +
      (event.entropy === null ? "" : `, entropy ${plain(event.entropy)}`),
    `${event.trace.problem.id}, token ${event.position}`,
  ];
}

function effectsInOrder(run) {
  const events = run.found;
  const chart = frame({
    width: 300, height: 220, label: `Effects of the ${countedUnits(run, events.length)} with intervals, the largest first`,
    x: { from: 0.5, to: Math.max(1, events.length) + 0.5, title: "rank by size", at: ticks(1, Math.max(1, events.length), Math.min(5, events.length)) },
    y: EFFECT_AXIS,
  });
  const radius = events.length > 150 ? 2 : 3.2;
  events.forEach((event, index) => {
    const x = chart.sx(index + 1), name = effectWord(event.delta);
    const group = draw("g", { class: `point ${name}` },
      draw("line", { x1: x, x2: x, y1: chart.sy(event.low), y2: chart.sy(event.high) }),
      draw("circle", { cx: x, cy: chart.sy(event.delta), r: radius }),
      draw("rect", { x: x - 4, width: 8, y: chart.sy(1), height: chart.sy(-1) - chart.sy(1), class: "target" }));
    chart.layer.append(tipped(group, eventLines(event), () => goTo(eventAddress(event))));
  });
  return chart.svg;
}

const EFFECT_AXIS = { from: -1, to: 1, title: "effect Δ", at: [-1, -0.5, 0, 0.5, 1], format: (v) => (v ? signed(v, 1) : "0") };

/** A point for each event that `x(event)` places; those that were reported are drawn over the others. */
function eventPoints(chart, events, x) {
  for (const event of [...events].sort((a, b) => a.reported - b.reported)) {
    const point = draw("circle", {
      cx: chart.sx(x(event)), cy: chart.sy(event.delta), r: 4,
      class: `point ${effectWord(event.delta)}${event.reported ? "" : " hollow"}`,
    });
    chart.layer.append(tipped(point, eventLines(event), () => goTo(eventAddress(event))));
  }
}

function effectAndProbability(run) {
  const chart = frame({
    width: 300, height: 220, label: "Effect against probability",
    x: { from: 0, to: 1, title: `probability of the ${run.summary.unit === "both" ? "token or sentence" : run.summary.unit}`, at: [0, 0.25, 0.5, 0.75, 1] }, y: EFFECT_AXIS,
  });
  for (const side of [1, -1]) {
    chart.layer.append(draw("line", { x1: chart.sx(0), y1: chart.sy(side), x2: chart.sx(1), y2: chart.sy(0), class: "bound" }));
  }
  eventPoints(chart, run.events, (event) => event.prob);
  return chart.svg;
}

/** What is below the heading: a note and the chart, or why there is none. */
function entropyFigure(run) {
  const events = run.events.filter((event) => event.entropy !== null);
  if (!events.length) {
    const sentences = run.events.every((event) => event.end !== null);
    return [sentences ? "Entropy is a token's, and this run searched sentences." : "This run has no entropies: a search by this version writes them down.", null];
  }
  const chart = frame({
    width: 300, height: 220, label: "Effect against the entropy before the token",
    x: { from: 0, to: 1.05 * Math.max(0.5, ...events.map((event) => event.entropy)), title: "entropy of the choice (nats)" }, y: EFFECT_AXIS,
  });
  eventPoints(chart, events, (event) => event.entropy);
  return ["How open the choice was, by the sampler's own distribution. Only tested tokens are drawn: how many open choices decide nothing is not seen here.", chart.svg];
}

function places(run) {
  const bins = Array.from({ length: 10 }, (_, i) => ({
    from: i / 10, to: (i + 1) / 10, name: `${i * 10}–${i * 10 + 10}% of the length`, counts: { helps: 0, harms: 0 },
  }));
  for (const event of run.found) {
    bins[Math.min(9, Math.floor((10 * event.position) / event.trace.count))].counts[effectWord(event.delta)] += 1;
  }
  return histogram({
    bins, classes: ["helps", "harms"], noun: `reported ${unitsOf(run)}`, label: `Where in the completion the reported ${unitsOf(run)} are`,
    x: { from: 0, to: 1, title: "place in the completion", at: [0, 0.25, 0.5, 0.75, 1], format: percent },
  });
}

const FATE_NAMES = [
  ["e", "excluded by probability"], ["v", "excluded by value"], ["s", "dropped by the screen"], ["d", "on an earlier completion"],
  ["o", "outside the region"], ["u", "left open"], ["c", "tested, not reported"], ["r", "reported"],
];

function fates(run) {
  const counts = Object.fromEntries(FATE_NAMES.map(([letter]) => [letter, 0]));
  for (const trace of run.problems.flatMap((problem) => problem.traces)) {
    for (const letter of trace.fates ?? "") counts[letter] += 1;
  }
  counts.r = foundTokens(run);
  counts.c -= counts.r;
  const total = Object.values(counts).reduce((a, b) => a + b, 0) || 1;
  const rows = FATE_NAMES.filter(([letter]) => counts[letter] || "evscr".includes(letter));
  return bars("What became of the tokens", rows.map(([letter, name]) =>
    ({ name, count: counts[letter], text: `${whole(counts[letter])} (${percent(counts[letter] / total)})`, classes: `bar fate-${letter}` })));
}

/** How many tokens were reported, each by itself; those of reported sentences where only sentences were searched. */
function foundTokens(run) {
  const found = run.summary.unit === "both" ? run.found.filter((event) => event.end === null) : run.found;
  return found.reduce((sum, event) => sum + (event.end ?? event.position + 1) - event.position, 0);
}

/** How many of the findings each pattern has, the most first. */
function patterns(run) {
  const counts = new Map();
  for (const event of run.found) counts.set(event.pattern, (counts.get(event.pattern) ?? 0) + 1);
  const rows = [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
  return bars(`Reported ${unitsOf(run)} by pattern`, rows.map(([pattern, count]) =>
    ({ name: pattern.replaceAll("_", " "), count, text: whole(count), classes: "bar fate-e" })));
}

/** A horizontal bar for each row, with its name before it and its text after it. */
function bars(label, rows) {
  const height = 20 + 26 * rows.length;
  const svg = draw("svg", { viewBox: `0 0 300 ${height}`, width: 300, height, role: "img",
    "aria-label": `${label}: ` + rows.map(({ name, count }) => `${name} ${whole(count)}`).join(", ") });
  const most = Math.max(...rows.map(({ count }) => count));
  rows.forEach(({ name, count, text, classes }, index) => {
    const y = 10 + index * 26, width = 78 * (count / most);
    svg.append(
      draw("text", { x: 138, y: y + 13, "text-anchor": "end", class: "name" }, name),
      draw("rect", { x: 145, y, height: 17, width: Math.max(1, width), class: classes }),
      draw("text", { x: 150 + width, y: y + 13, class: "name" }, text));
  });
  return svg;
}
