// How steering moves probabilities: the colour of a token, what is said of it, and the chart of choices.

const MOVED = 0.02;   // changes of a probability below this get no colour

/** The strength of a token's colour for a change of its probability, or null for one that is too small. */
const movedStyle = (change) => (Math.abs(change) < MOVED ? null : `--s:${Math.min(1, Math.abs(change) * 1.25).toFixed(2)}`);
const movedWord = (change) => (change > 0 ? "likelier" : "rarer");

/** By how much steering changes the probability of a token of a search's completion. */
const movedBy = (trace, i) => (trace.moved ? (trace.moved.steered[i] - trace.moved.plain[i]) / 1000 : 0);
const isOpened = (trace, i) => trace.moved?.opened[i] === "1";
const openedIn = (trace, from, to) => [...trace.moved.opened.slice(from, to)].filter((one) => one === "1").length;

const movedLine = (trace, i) =>
  `Steered: probability ${plain(trace.moved.plain[i] / 1000)} → ${plain(trace.moved.steered[i] / 1000)}, after the same tokens. The gate was ${isOpened(trace, i) ? "open: the vector acts on what follows" : "closed"}.`;

const MOVED_MARKS = [["likelier", "steering makes it likelier"], ["rarer", "less likely"], ["opened", "the gate was open: the vector acts on what follows"]];

const movedMarks = () => make("p", { class: "legend by-steering", "aria-label": "What the marks of steering mean" },
  MOVED_MARKS.map(([name, label]) => make("span", {}, make("span", { class: `t sample ${name}`, style: "--s:.6" }, "token"), ` ${label}`)));

/** The marks of a completion that is coloured by what steering moves, and at how many tokens the gate was open. */
function movedLegend(trace) {
  const { steering } = trace.problem.run;
  return make("div", { class: "moved-legend" }, movedMarks(), make("p", { class: "hint" },
    `Steered by ${steering.added.join(" and ")}. The gate was open at ${whole(openedIn(trace, 0, trace.count))} of ${counted(trace.count, "token")}. Underlined tokens are those that the search reported.`));
}

/**
 * Probabilities unsteered across and steered up. A point has `from`, `to`, `side` ("better" or "worse"), the
 * `lines` of its tip, and perhaps `go`, what a click does.
 */
function movedChart(points, label) {
  const axis = (title) => ({ from: 0, to: 1, title, at: [0, 0.25, 0.5, 0.75, 1] });
  const chart = frame({ width: 340, height: 320, label, x: axis("probability, unsteered"), y: axis("probability, steered") });
  chart.layer.append(draw("line", { class: "bound", x1: chart.sx(0), y1: chart.sy(0), x2: chart.sx(1), y2: chart.sy(1) }));
  for (const { from, to, side, lines, go } of points) {
    const [x, y] = [chart.sx(from), chart.sy(to)];
    const mark = side === "better"
      ? draw("circle", { class: "point helps", cx: x, cy: y, r: 4 })
      : draw("rect", { class: "point harms hollow", x: x - 3.5, y: y - 3.5, width: 7, height: 7 });
    chart.layer.append(tipped(mark, lines, go));
  }
  return chart.svg;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
