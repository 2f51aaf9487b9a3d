// The value along a completion as a curve with its band: what the search believed after each token.

const CURVE_HEIGHT = 150;
const CURVE_LEFT = 40;

/**
 * Draws the curve of `trace` into `host`, as wide as that is. `hover(i)` is told of the token under the pointer
 * (null where there is none), `choose(i)` of one that was clicked. Gives `point(i)`, which moves the cursor.
 */
function valueCurve(host, trace, hover, choose) {
  const cursor = make("div", { class: "cursor", hidden: true });
  let sx = null, width = 0;

  function render() {
    width = Math.max(240, host.clientWidth);
    host.replaceChildren(curve(trace, width), cursor);
    sx = scale(0, Math.max(1, trace.count), CURVE_LEFT, width - 10);
  }

  const at = (event) => {
    const x = event.clientX - host.getBoundingClientRect().left;
    const i = Math.floor(((x - CURVE_LEFT) / (width - 10 - CURVE_LEFT)) * trace.count);
    return i >= 0 && i < trace.count ? i : null;
  };
  host.addEventListener("pointermove", (event) => hover(at(event), event));
  host.addEventListener("pointerleave", () => hover(null));
  host.addEventListener("click", (event) => {
    const i = nearestEvent(trace, at(event), (8 / (width - 50)) * trace.count);
    if (i !== null) choose(i);
  });
  const watcher = new ResizeObserver(() => {
    if (Math.abs(host.clientWidth - width) > 1) render();
  });
  render();
  watcher.observe(host);
  return {
    point(i) {
      cursor.hidden = i === null;
      if (i !== null) cursor.style.transform = `translateX(${sx(i + 0.5)}px)`;
    },
    stop() { watcher.disconnect(); },
  };
}

/** A marked token within reach of a place, else the place itself. */
function nearestEvent(trace, i, reach) {
  if (i === null) return null;
  const near = trace.events.filter((event) => Math.abs(event.position - i) <= reach);
  if (!near.length) return i;
  return near.reduce((a, b) => (Math.abs(b.position - i) < Math.abs(a.position - i) ? b : a)).position;
}

function curve(trace, width) {
  const chart = frame({
    width, height: CURVE_HEIGHT, left: CURVE_LEFT, label: curveLabel(trace),
    x: { from: 0, to: Math.max(1, trace.count), title: "token" },
    y: { from: 0, to: 1, title: "value", at: [0, 0.5, 1] },
  });
  if (trace.thinking) {
    chart.layer.append(draw("rect", { class: "thought", x: chart.sx(0), width: chart.sx(trace.thinking) - chart.sx(0), y: chart.sy(1), height: chart.sy(0) - chart.sy(1) }));
  }
  if (trace.values) {
    const columns = columnsOf(trace, width - CURVE_LEFT - 10);
    chart.layer.append(
      draw("path", { class: "band", d: bandPath(columns, chart) }),
      draw("path", { class: "curve", d: curvePath(trace, columns, chart) }));
  }
  if (trace.moved) chart.layer.append(draw("path", { class: "gates", d: gatePath(trace, chart) }));
  for (const event of trace.events) {
    const [from, x] = event.end === null
      ? [chart.sx(event.position + 0.5), chart.sx(event.position + 0.5)]
      : [chart.sx(event.position), chart.sx(event.end)];
    const name = `point ${effectWord(event.delta)}${event.reported ? "" : " hollow"}`;
    chart.layer.append(
      draw("g", { class: name },
        draw("line", { x1: from, x2: x, y1: chart.sy(event.before.value), y2: chart.sy(event.after.value) }),
        draw("circle", { cx: x, cy: chart.sy(event.after.value), r: 4 })));
  }
  return chart.svg;
}

/** A bar below the axis for each run of tokens at which the gate was open. */
function gatePath(trace, { sx, sy }) {
  const y = (sy(0) + 3).toFixed(1);
  return [...trace.moved.opened.matchAll(/1+/g)].map(({ 0: run, index }) =>
    `M${sx(index).toFixed(1)},${y}H${sx(index + run.length).toFixed(1)}`).join("");
}

function curveLabel(trace) {
  const found = trace.events.filter((event) => event.reported);
  return `Value along ${counted(trace.count, "token")}, ${countedUnits(trace.problem.run, found.length)}` +
    (trace.values ? `, from ${plain(believed(trace, 0).before)} to ${plain(trace.values[trace.count - 1] / 1000)}` : "");
}

/** One entry a pixel column at most: where it begins, the lowest and highest value and the band. */
function columnsOf(trace, pixels) {
  const each = Math.max(1, trace.count / Math.max(1, pixels));
  const columns = [];
  for (let start = 0; start < trace.count; start += each) {
    const [from, to] = [Math.floor(start), Math.min(trace.count, Math.max(Math.floor(start) + 1, Math.floor(start + each)))];
    const values = trace.values.slice(from, to);
    columns.push({
      from, to, low: Math.min(...trace.lows.slice(from, to)) / 1000, high: Math.max(...trace.highs.slice(from, to)) / 1000,
      least: Math.min(...values) / 1000, most: Math.max(...values) / 1000, last: values[values.length - 1] / 1000,
    });
  }
  return columns;
}

function bandPath(columns, { sx, sy }) {
  const over = columns.flatMap((c) => [`${sx(c.from).toFixed(1)},${sy(c.high).toFixed(1)}`, `${sx(c.to).toFixed(1)},${sy(c.high).toFixed(1)}`]);
  const under = columns.flatMap((c) => [`${sx(c.to).toFixed(1)},${sy(c.low).toFixed(1)}`, `${sx(c.from).toFixed(1)},${sy(c.low).toFixed(1)}`].reverse().reverse());
  const back = [];
  for (let i = under.length - 2; i >= 0; i -= 2) back.push(under[i], under[i + 1]);
  return `M${over.join("L")}L${back.join("L")}Z`;
}

function curvePath(trace, columns, { sx, sy }) {
  const start = believed(trace, 0).before;
  const steps = [`M${sx(0).toFixed(1)},${sy(start).toFixed(1)}`];
  for (const c of columns) {
    const x = sx((c.from + c.to) / 2).toFixed(1);
    if (c.most > c.least) steps.push(`L${x},${sy(c.least).toFixed(1)}L${x},${sy(c.most).toFixed(1)}L${x},${sy(c.last).toFixed(1)}`);
    else steps.push(`H${x}V${sy(c.last).toFixed(1)}`);
  }
  steps.push(`H${sx(trace.count).toFixed(1)}`);
  return steps.join("");
}
