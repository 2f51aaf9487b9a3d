// Steered beside unsteered: where a gate opened along a completion, and how the choice at pivots moved.

const MOVED = 0.02;   // changes of a probability below this get no colour

function steeredPart(patterns) {
  const shown = patterns.filter((pattern) => pattern.examples);
  const host = byId("steered-examples");
  if (!shown.length) {
    host.append(make("p", {}, "This set has no examples of steered completions. pts extract-vectors writes them; pts vectors measure SET --examples adds them to a set that is there."));
    return;
  }
  const choice = make("select", { "aria-label": "Pattern of the examples", onchange: () => render() },
    shown.map((pattern) => make("option", { value: pattern.pattern }, pattern.pattern)));
  byId("steered-filters").append(make("label", {}, "Pattern ", choice));
  const render = () => {
    const pattern = shown.find((one) => one.pattern === choice.value);
    host.replaceChildren(movedPivots(pattern.examples.pivots), steeredLegend(pattern),
      ...pattern.examples.completions.map(steeredCompletion));
  };
  render();
}

/** The choice at pivots to which the vector was not fitted: unsteered across, steered up. */
function movedPivots(pivots) {
  if (!pivots.length) return make("p", { class: "hint" }, "No pivots were read both ways for this pattern: it had none that were held out, or the set is of an earlier version.");
  const mean = (name) => pivots.reduce((sum, pivot) => sum + pivot[name], 0) / pivots.length;
  const words = `At ${counted(pivots.length, "pivot")} to which the vector was not fitted, steering moves the better token's mean probability from ${plain(mean("better_plain"))} to ${plain(mean("better_steered"))}, and the worse one's from ${plain(mean("worse_plain"))} to ${plain(mean("worse_steered"))}.`;
  const axis = (title) => ({ from: 0, to: 1, title, at: [0, 0.25, 0.5, 0.75, 1] });
  const chart = frame({ width: 340, height: 320, label: words, x: axis("probability, unsteered"), y: axis("probability, steered") });
  chart.layer.append(draw("line", { class: "bound", x1: chart.sx(0), y1: chart.sy(0), x2: chart.sx(1), y2: chart.sy(1) }));
  for (const [side, name] of [["worse", "harms"], ["better", "helps"]]) {
    for (const pivot of pivots) {
      const [from, to] = [pivot[`${side}_plain`], pivot[`${side}_steered`]];
      const [x, y] = [chart.sx(from), chart.sy(to)];
      const attributes = { class: `point ${name}${side === "worse" ? " hollow" : ""}` };
      const mark = side === "better"
        ? draw("circle", { ...attributes, cx: x, cy: y, r: 4 })
        : draw("rect", { ...attributes, x: x - 3.5, y: y - 3.5, width: 7, height: 7 });
      chart.layer.append(tipped(mark, [
        `${quoted(short(pivot[side], 60))}, the ${side} token (value ${plain(pivot[`${side}_value`])}): ${plain(from)} → ${plain(to)}`,
        `…${short(pivot.context.slice(-80).replace(/\s+/g, " "), 80)}`,
      ]));
    }
  }
  return make("div", { class: "moved" }, figure("The choice at pivots",
    "Circles: the better token. Squares: the worse one. On the dashed line steering moves nothing. Probabilities are the sampler's.", chart.svg),
    make("p", { class: "lead" }, words));
}

function steeredLegend(pattern) {
  return make("div", {},
    make("p", { class: "hint" }, `Problems of the test, the first ones, with the same random numbers unsteered and steered by ${pattern.pattern} (layer ${pattern.layer}, strength ${pattern.strength}, gate ${pattern.gate}).`),
    make("p", { class: "legend", "aria-label": "What the marks mean" },
      [["helps", "steering made it likelier"], ["harms", "less likely"], ["opened", "the gate was open: the vector acts on what follows"]].map(([name, label]) =>
        make("span", {}, make("span", { class: `t sample ${name}`, style: "--s:.6" }, "token"), ` ${label}`))));
}

const graded = (success) => make("span", { class: success ? "right" : "wrong" }, success ? "right ✓" : "wrong ✗");

function steeredCompletion(one) {
  const count = one.tokens.length;
  const text = make("div", { class: "answer-text", role: "group", "aria-label": `Steered completion of ${one.problem}` });
  const opened = new Set(one.opened);
  one.tokens.forEach((token, i) => text.append(...movedToken(one, token, i, opened.has(i))));
  text.addEventListener("pointermove", (event) => {
    const i = event.target.closest("[data-i]")?.dataset.i;
    showTip(i === undefined ? null : movedLines(one, Number(i), opened), event.clientX, event.clientY);
  });
  text.addEventListener("pointerleave", () => showTip(null));
  return make("article", { class: "pattern" },
    make("h3", {}, `Problem ${one.problem}`),
    make("p", { class: "question" }, visible(one.query)),
    make("p", { class: "hint" }, `Reference answer: ${visible(one.answer)}. The gate was open at ${whole(one.opened.length)} of ${counted(count, "token")}.`),
    make("div", { class: "beside" },
      make("div", {}, make("h4", {}, "Unsteered, ", graded(one.unsteered_success)), make("div", { class: "answer-text" }, visible(one.unsteered))),
      make("div", {}, make("h4", {}, "Steered, ", graded(one.success)), text)));
}

/** A token, coloured by what steering did to its probability; the space before it is not marked. */
function movedToken(one, token, i, opened) {
  const change = one.steered[i] - one.plain[i];
  const classes = ["t"];
  if (Math.abs(change) >= MOVED) classes.push(effectWord(change));
  if (opened) classes.push("opened");
  const shown = visible(token), lead = shown.match(/^\s*/)[0];
  return [lead, make("span", { class: classes.join(" "), style: `--s:${Math.min(1, Math.abs(change) * 1.25).toFixed(2)}`, "data-i": i }, shown.slice(lead.length))];
}

function movedLines(one, i, opened) {
  return [
    `${quoted(one.tokens[i])} · token ${i}`,
    `Probability ${plain(one.plain[i])} unsteered, ${plain(one.steered[i])} steered, after the same tokens`,
    opened.has(i) ? "The gate was open here: the vector acts on what follows." : "The gate was closed here.",
  ];
}
