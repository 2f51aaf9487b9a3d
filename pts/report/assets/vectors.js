// The report of a vector set: effects beside those of random directions, calibration, patterns, cosines.

async function start() {
  startTheme();
  const data = await unpack();
  strips(data.patterns);
  heat(data);
  steeredPart(data.patterns);
  patternList(data.patterns);
  cosineTable(data.cosines);
  document.documentElement.dataset.ready = "yes";
}

/** A row for each pattern: its effect with interval, and a mark for each random direction. */
function strips(patterns) {
  const measured = patterns.filter((pattern) => pattern.effect);
  if (!measured.length) {
    byId("strips").append(make("p", {}, "No effect was measured for this set."));
    return;
  }
  const values = measured.flatMap(({ effect }) => [effect.low, effect.high, ...effect.random, 0]);
  const row = 40, left = 190, width = 780, height = measured.length * row + 50;
  const [from, to] = [Math.min(...values) - 0.03, Math.max(...values) + 0.03];
  const sx = scale(from, to, left, width - 20);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": measured.map(({ pattern, effect }) => `${pattern}: ${signed(effect.difference)}, ${signed(effect.low)} to ${signed(effect.high)}`).join(". ") });
  for (const at of ticks(from, to, 7)) {
    svg.append(draw("line", { x1: sx(at), x2: sx(at), y1: 8, y2: height - 40, class: at === 0 ? "zero" : "grid" }),
      draw("text", { x: sx(at), y: height - 24, "text-anchor": "middle" }, at ? signed(at, 2) : "0"));
  }
  svg.append(draw("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, "change in the share of right answers"));
  measured.forEach((pattern, index) => {
    const { effect } = pattern, y = 26 + index * row;
    svg.append(draw("text", { x: left - 14, y: y + 4, "text-anchor": "end", class: "name" }, pattern.pattern));
    effect.random.forEach((value, i) => {
      const control = draw("line", { x1: sx(value), x2: sx(value), y1: y + 3, y2: y + 13, class: "control" });
      svg.append(tipped(control, [`random direction ${i + 1}, calibrated alike: ${signed(value, 3)}`]));
    });
    const point = draw("g", { class: `point ${pattern.claimed ? effectWord(effect.difference) : "neutral"}` },
      draw("line", { x1: sx(effect.low), x2: sx(effect.high), y1: y - 4, y2: y - 4 }),
      draw("circle", { cx: sx(effect.difference), cy: y - 4, r: 5 }));
    svg.append(tipped(point, [
      `${pattern.pattern}: ${signed(effect.difference, 3)} (${signed(effect.low, 3)} to ${signed(effect.high, 3)})`,
      `success ${plain(effect.unsteered, 3)} → ${plain(effect.steered, 3)}, ${whole(effect.problems)} problems × ${whole(effect.samples)}`,
      pattern.verdict,
    ]));
  });
  byId("strips").append(make("figure", { class: "broad", tabindex: "0" }, svg, make("figcaption", {},
    "Points: each pattern's effect on problems on which nothing was chosen, with its interval. Ticks below: random directions that went through the same calibration. Coloured where the effect may be claimed.")));
}

/** Success by layer and strength, for a pattern and a gate. */
function heat(data) {
  const own = data.calibration.filter((setting) => !setting.method.startsWith("random"));
  if (!own.length) {
    byId("heat").append(make("p", {}, "The journal of the calibration is not with this set, so what it tried cannot be drawn. What it chose stands below."));
    return;
  }
  const unique = (name) => [...new Set(own.map((setting) => setting[name]))];
  const choice = (label, name) => make("select", { "aria-label": label, onchange: () => render() }, unique(name).map((value) => make("option", { value }, value)));
  const [pattern, method, gate] = [choice("Pattern", "pattern"), choice("Method", "method"), choice("Gate", "gate")];
  byId("heat-filters").append(make("label", {}, "Pattern ", pattern), make("label", {}, "Method ", method), make("label", {}, "Gate ", gate));

  function render() {
    const shown = own.filter((s) => s.pattern === pattern.value && s.method === method.value && s.gate === gate.value);
    const values = own.map((s) => s.success);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const sorted = (name) => [...new Set(shown.map((s) => s[name]))].sort((a, b) => a - b);
    const [layers, strengths] = [sorted("layer"), sorted("strength")];
    if (!shown.length) {
      byId("heat").replaceChildren(make("p", {}, "Calibration did not try these together."));
      return;
    }
    const cell = (layer, strength) => {
      const setting = shown.find((s) => s.layer === layer && s.strength === strength);
      if (!setting) return make("td", { class: "number" }, "");
      const share = (setting.success - low) / (high - low || 1);
      return make("td", { class: "number heat", style: `--s:${share.toFixed(2)}`, title: `${whole(setting.n)} completions` }, plain(setting.success, 3));
    };
    byId("heat").replaceChildren(make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Success by layer and strength" }, make("table", {},
      make("caption", {}, "Success on the calibration problems, by layer (rows) and strength (columns)"),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "layer"), strengths.map((s) => make("th", { scope: "col", class: "number" }, signed(s))))),
      make("tbody", {}, layers.map((layer) => make("tr", {}, make("th", { scope: "row" }, String(layer)), strengths.map((s) => cell(layer, s))))))));
  }
  render();
}

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "");

function patternList(patterns) {
  const figures = [["pairs", (p) => (p.pairs === null ? "–" : whole(p.pairs))], ["held-out shift", (p) => (p.shift === null ? "–" : signed(p.shift))],
    ["AUC", (p) => (p.auc === null ? "–" : plain(p.auc))], ["halves' cosine", (p) => (p.halves_cosine === null ? "–" : signed(p.halves_cosine))]];
  byId("pattern-list").replaceChildren(...patterns.map((pattern) => make("article", { class: "pattern" },
    make("h3", {}, pattern.pattern),
    make("p", { class: "hint" }, `${pattern.method}, ${pattern.norm === null ? "layers" : "layer"} ${pattern.layer}, strength ${pattern.strength}${pattern.norm === null ? "" : ` (norm ${pattern.norm.toFixed(1)})`}, gate ${pattern.gate}; `,
      figures.map(([name, of]) => `${name} ${of(pattern)}`).join(", ")),
    pattern.effect ? make("p", {}, `Success ${plain(pattern.effect.unsteered, 3)} → ${plain(pattern.effect.steered, 3)}: ${signed(pattern.effect.difference, 3)} (${signed(pattern.effect.low, 3)} to ${signed(pattern.effect.high, 3)}). ${sentence(pattern.verdict)}`) : null,
    pattern.pivots.length ? make("details", {}, make("summary", {}, `Pivots with the largest effect (${pattern.pivots.length})`),
      pattern.pivots.map((pivot) => make("blockquote", {}, `…${visible(pivot.context)}`,
        make("b", { class: `t found ${effectWord(pivot.delta)}`, style: "--s:.6" }, visible(pivot.token)), make("span", { class: "hint" }, ` ${signed(pivot.delta)}`)))) : null)));
}

function cosineTable(cosines) {
  const layers = [...new Set(cosines.map((one) => one.layer))];
  const names = [...new Set(cosines.map((one) => one.first))];
  const layer = make("select", { "aria-label": "Layer", onchange: () => render() }, layers.map((value) => make("option", { value }, String(value))));
  byId("cosine-filters").append(make("label", {}, "Layer ", layer));
  function render() {
    const at = new Map(cosines.filter((one) => one.layer === Number(layer.value)).map((one) => [`${one.first}\n${one.second}`, one.cosine]));
    const cell = (a, b) => {
      const value = at.get(`${a}\n${b}`);
      if (value === undefined) return make("td", {}, "");
      return make("td", { class: `number t ${effectWord(value)}`, style: `--s:${(0.8 * Math.abs(value)).toFixed(2)}` }, signed(value));
    };
    byId("cosine-table").replaceChildren(make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Cosines" }, make("table", { class: "cosines" },
      make("caption", { class: "unseen" }, "Cosines between the patterns' directions"),
      make("thead", {}, make("tr", {}, make("td"), names.map((name) => make("th", { scope: "col", class: "number" }, name)))),
      make("tbody", {}, names.map((a) => make("tr", {}, make("th", { scope: "row" }, a), names.map((b) => cell(a, b))))))));
  }
  render();
}

start();
