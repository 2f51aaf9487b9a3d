// One problem's completions: text, curve and event card, linked by the pointer and by the keyboard.

const LEGEND = [["found helps", "reported, helps"], ["found harms", "reported, harms"], ["confirmed helps", "confirmed, not reported"], ["audited", "drawn by the audit"], ["helps", "believed effect"], ["open", "left open"]];

function legend(runs) {
  const both = runs.some((run) => run.summary.unit === "both");
  return make("p", { class: "legend", "aria-label": "What the marks mean" },
    [...LEGEND, ...(both ? [["found helps within", "a token within a reported sentence"]] : [])].map(([classes, label]) => make("span", {}, make("span", { class: `t sample ${classes}`, style: "--s:.5" }, "token"), ` ${label}`)));
}

/** What the curve shows, in a sentence or two. */
function curveNote(trace) {
  if (!trace.values) return "Points are measured values before and after a token.";
  return "Line and band: the value after each token as the search believed it, and the middle 90% of that belief. " +
    `Points are measured${trace.events.some((event) => !event.reported) ? "; hollow: not reported" : ""}.${trace.thinking ? " Shaded: thinking." : ""}` +
    (trace.moved ? " Bars below: the gate was open." : "");
}

const COLOURS = { both: "effects of tokens and sentences", token: "effects of tokens", sentence: "effects of sentences", steered: "what steering moves" };
const MEASURED = { token: ["token"], sentence: ["both"], both: ["both", "token"] };

/** What the colours of a completion can show: what was measured first. */
const coloursOf = (trace) => [...MEASURED[trace.problem.run.summary.unit],
  ...(trace.values && trace.sentences.length > 1 ? ["sentence"] : []), ...(trace.moved ? ["steered"] : [])];

/**
 * A view of one trace in `host`, at the token `position` (null for none) or the sentence up to `end` from there.
 * `opened(address)` is told of the address of what is shown.
 */
function traceView(host, trace, position, end, opened) {
  const reading = make("div", { class: "reading", tabindex: "0", role: "group",
    "aria-label": "The completion. Arrow keys move from token to token, n and p between marked ones, Enter opens one." });
  const colours = coloursOf(trace);
  const colour = make("select", {}, colours.map((value) => make("option", { value }, COLOURS[value])));
  const fold = make("input", { type: "checkbox" });
  const folds = colours.some((value) => calmStretches(trace, value).length > 0);
  fold.checked = trace.count > FOLDED_ABOVE && folds;
  const curveHost = make("div", { class: "curve-host" });
  const card = make("div", { class: "card" });
  const tools = make("p", { class: "tools" },
    colours.length > 1 ? make("label", {}, "Coloured by ", colour) : null,
    folds ? make("label", {}, fold, " Fold calm stretches") : null,
    make("span", { class: "hint" }, "← → token, n p marked, Enter opens"));
  const moved = trace.moved ? movedLegend(trace) : null;
  host.replaceChildren(tools, ...(moved ? [moved] : []), make("div", { class: `columns${trace.moved ? " steered" : ""}` }, make("div", { class: "left" }, reading, curveHost, make("p", { class: "hint curve-note" }, curveNote(trace))), card));

  let current = null, chosen = null, marked = [];
  reading.classList.toggle("long", trace.count > LONG);
  const fill = () => {
    reading.classList.toggle("by-steering", colour.value === "steered");
    if (moved) moved.hidden = colour.value !== "steered";
    reading.replaceChildren(...textBlocks(trace, fold.checked, colour.value));
    if (chosen !== null) markChosen(false);
  };
  fill();
  const curveView = valueCurve(curveHost, trace, (i, event) => point(i, event), (i) => choose(i));

  function point(i, event, reveal = false) {
    if (i === current && !event) return;
    for (const element of marked) element.classList.remove("here");
    current = i;
    // A folded token stays folded under the pointer: only a key or a click opens its stretch.
    marked = i === null ? [] : reveal ? tokenElements(reading, trace, i, colour.value) : [...reading.querySelectorAll(`[data-i="${i}"]`)];
    for (const element of marked) element.classList.add("here");
    curveView.point(i);
    showTip(i === null || !event ? null : tokenLines(trace, i), event?.clientX, event?.clientY);
  }

  function choose(i, event = shownEvent(trace, i, colour.value) ?? eventOf(trace, i)) {
    card.replaceChildren(event ? eventCard(event) : tokenCard(trace, i));
    chosen = i;
    markChosen(true);
    opened(event && event.end !== null ? eventAddress(event) : address(trace.problem, trace, i));
  }

  function markChosen(scroll) {
    for (const element of reading.querySelectorAll(".chosen")) element.classList.remove("chosen");
    const elements = tokenElements(reading, trace, chosen, colour.value);
    for (const element of elements) element.classList.add("chosen");
    if (scroll) elements.at(-1)?.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
  }

  function step(to) {
    const i = Math.min(trace.count - 1, Math.max(0, to));
    point(i, null, true);
    marked.at(-1)?.scrollIntoView({ block: "nearest" });
    say(tokenLines(trace, i).join(". "));
  }

  function nextMarked(direction) {
    const places = trace.events.map((event) => event.position);
    const ahead = direction > 0 ? places.find((p) => p > (current ?? -1)) : places.findLast((p) => p < (current ?? trace.count));
    if (ahead !== undefined) step(ahead);
    else say("No further marked token");
  }

  const keys = {
    ArrowRight: () => step((current ?? -1) + 1), ArrowLeft: () => step((current ?? 1) - 1),
    Home: () => step(0), End: () => step(trace.count - 1), n: () => nextMarked(1), p: () => nextMarked(-1),
    Enter: () => current !== null && choose(current), Escape: () => point(null),
  };
  reading.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key] || event.target.closest("button")) return;
    event.preventDefault();
    keys[event.key]();
  });
  reading.addEventListener("pointermove", (event) => {
    const i = event.target.closest("[data-i]")?.dataset.i;
    point(i === undefined ? null : Number(i), event);
  });
  reading.addEventListener("pointerleave", () => point(null));
  reading.addEventListener("click", (event) => {
    const element = event.target.closest("[data-i]");
    if (!element) return;
    event.preventDefault();
    choose(Number(element.dataset.i));
  });
  fold.addEventListener("change", fill);
  colour.addEventListener("change", fill);

  const sentence = end === null ? undefined : trace.events.find((event) => event.position === position && event.end === end);
  if (position !== null) choose(position, sentence);
  else card.replaceChildren(make("p", { class: "hint" }, trace.events.length
    ? "Choose a marked token to see its alternatives, intervals and example continuations."
    : "No token of this completion entered the confirmation."));
  return { stop: () => curveView.stop() };
}
