// Charts as SVG: scales, axes, marks with a tip each. Colours are those of the style sheet, by class.

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element with attributes and children. */
function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat());
  return element;
}

/** A linear scale from a range of values to one of pixels. */
function scale(from, to, start, end) {
  const span = to - from || 1;
  return (value) => start + ((value - from) / span) * (end - start);
}

/** Round values for an axis, about `wanted` of them. */
function ticks(from, to, wanted = 5) {
  const raw = (to - from || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const first = Math.ceil(from / step - 1e-9);
  const count = Math.floor(to / step + 1e-9) - first + 1;
  return Array.from({ length: Math.max(0, count) }, (_, i) => +((first + i) * step).toPrecision(12));
}

/**
 * A frame with axes: `x` and `y` have `from`, `to`, `title` and perhaps `format` and `at` (the ticks).
 * Gives the SVG, the layer to draw in, and both scales.
 */
function frame({ width, height, x, y, label, left = 48, bottom = 38 }) {
  const right = 10, top = 10;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  const sx = scale(x.from, x.to, left, width - right);
  const sy = scale(y.from, y.to, height - bottom, top);
  const axes = draw("g", { class: "axes" });
  for (const at of y.at ?? ticks(y.from, y.to, 5)) {
    axes.append(
      draw("line", { x1: left, x2: width - right, y1: sy(at), y2: sy(at), class: at === 0 ? "zero" : "grid" }),
      draw("text", { x: left - 6, y: sy(at) + 4, "text-anchor": "end" }, (y.format ?? String)(at)),
    );
  }
  for (const at of x.at ?? ticks(x.from, x.to, 5)) {
    axes.append(
      draw("text", { x: sx(at), y: height - bottom + 16, "text-anchor": "middle" }, (x.format ?? String)(at)),
    );
  }
  const middle = (height - bottom + top) / 2;
  axes.append(
    draw("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle", class: "title" }, x.title),
    draw("text", { transform: `translate(12 ${middle}) rotate(-90)`, "text-anchor": "middle", class: "title" }, y.title),
  );
  const layer = draw("g");
  svg.append(axes, layer);
  return { svg, layer, sx, sy };
}

/** Gives a mark a tip of lines under the pointer, and where `go` is given, a click that goes there. */
function tipped(mark, lines, go) {
  mark.addEventListener("pointermove", (event) => showTip(lines, event.clientX, event.clientY));
  mark.addEventListener("pointerleave", () => showTip(null));
  if (go) {
    mark.classList.add("goes");
    mark.addEventListener("click", go);
  }
  return mark;
}

/** A figure with a heading above the drawing (null for none) and a sentence below. */
function figure(title, note, svg) {
  return make("figure", {}, make("h3", {}, title), ...(svg ? [svg] : []), make("figcaption", {}, note));
}

/** Bars of counts; each bin has `from`, `to`, and a count for each class. */
function histogram({ bins, classes, x, label, noun }) {
  const totals = bins.map((bin) => classes.reduce((sum, name) => sum + bin.counts[name], 0));
  const most = Math.max(1, ...totals);
  const chart = frame({
    width: 300, height: 220, label, x,
    y: { from: 0, to: most, title: noun, at: ticks(0, most, Math.min(5, most)), format: whole },
  });
  bins.forEach((bin, index) => {
    let base = 0;
    for (const name of classes) {
      const count = bin.counts[name];
      if (!count) continue;
      const [left, right] = [chart.sx(bin.from) + 1, chart.sx(bin.to) - 1];
      const bar = draw("rect", {
        x: left, width: Math.max(1, right - left), class: `bar ${name}`,
        y: chart.sy(base + count), height: chart.sy(base) - chart.sy(base + count),
      });
      chart.layer.append(tipped(bar, [`${count} ${name === "helps" ? "help" : name === "harms" ? "harm" : name}`, `of ${totals[index]} at ${bin.name}`]));
      base += count;
    }
  });
  return chart.svg;
}
