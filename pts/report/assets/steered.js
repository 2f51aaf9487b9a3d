// Steered beside unsteered: where a gate opened along a completion, and how the choice at pivots moved.

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
  const average = (name) => mean(pivots.map((pivot) => pivot[name]));
  const words = `At ${counted(pivots.length, "pivot")} to which the vector was not fitted, steering moves the better token's mean probability from ${plain(average("better_plain"))} to ${plain(average("better_steered"))}, and the worse one's from ${plain(average("worse_plain"))} to ${plain(average("worse_steered"))}.`;
  const points = ["worse", "better"].flatMap((side) => pivots.map((pivot) => {
    const [from, to] = [pivot[`${side}_plain`], pivot[`${side}_steered`]];
    return { from, to, side, lines: [
      `${quoted(short(pivot[side], 60))}, the ${side} token (value ${plain(pivot[`${side}_value`])}): ${plain(from)} → ${plain(to)}`,
      `…${short(pivot.context.slice(-80).replace(/\s+/g, " "), 80)}`,
    ] };
  }));
  return make("div", { class: "moved" }, figure("The choice at pivots",
    "Circles: the better token. Squares: the worse one. On the dashed line steering moves nothing. Probabilities are the sampler's.", movedChart(points, words)),
    make("p", { class: "lead" }, words));
}

function steeredLegend(pattern) {
  return make("div", {},
    make("p", { class: "hint" }, `Problems of the test, the first ones, with the same random numbers unsteered and steered by ${pattern.pattern} (${pattern.norm === null ? "layers" : "layer"} ${pattern.layer}, strength ${pattern.strength}, gate ${pattern.gate}).`),
    movedMarks());
}

const graded = (success) => make("span", { class: success ? "right" : "wrong" }, success ? "right ✓" : "wrong ✗");

function steeredCompletion(one) {
  const count = one.tokens.length;
  const text = make("div", { class: "answer-text by-steering", role: "group", "aria-label": `Steered completion of ${one.problem}` });
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
  const style = movedStyle(change);
  if (style) classes.push(movedWord(change));
  if (opened) classes.push("opened");
  const shown = visible(token), lead = shown.match(/^\s*/)[0];
  return [lead, make("span", { class: classes.join(" "), style, "data-i": i }, shown.slice(lead.length))];
}

function movedLines(one, i, opened) {
  return [
    `${quoted(one.tokens[i])} · token ${i}`,
    `Probability ${plain(one.plain[i])} unsteered, ${plain(one.steered[i])} steered, after the same tokens`,
    opened.has(i) ? "The gate was open here: the vector acts on what follows." : "The gate was closed here.",
  ];
}
