// One event: a token against its alternatives, what was measured before and after it, and how it went on.

function eventCard(event) {
  const { problem } = event.trace;
  const name = effectWord(event.delta);
  const id = `event-title${problem.run.at || ""}`;
  const where = event.end === null ? `token ${event.position}` : `tokens ${event.position} to ${event.end - 1}`;
  return make("article", { class: "event", "aria-labelledby": id },
    make("h3", { id }, make("span", { class: `token ${name}` }, quoted(short(event.token, 160))), ` ${name} `,
      make("span", { class: `effect ${name}` }, signed(event.delta))),
    make("p", {}, eventSentence(event)),
    valueRows(event),
    steeredSentence(event),
    alternatives(event),
    continuations(event),
    laterSentences(event),
    itsSentence(event),
    make("p", { class: "buttons" },
      event.pairs.length ? copyButton("Copy as preference pair", () => preferencePairs(event)) : null,
      copyButton("Copy link", () => location.href.split("#")[0] + eventAddress(event)),
      copyButton("Copy as JSON", () => JSON.stringify(eventRecord(event), null, 1))),
    make("p", { class: "hint" }, `${problem.id}, completion ${event.trace.index + 1}, ${where}`,
      event.pairs.length || event.end !== null ? "" : ". No alternative was confirmed to differ, so there is no preference pair."));
}

function eventSentence(event) {
  const level = event.reported ? "" : " (95%, without allowance for selection)";
  const verdict = event.reported
    ? `Reported, q-value ${small(event.q_value)}.`
    : event.audited
      ? "The screen had dropped it, and the audit drew it at random: from such tokens the recall is estimated."
      : `Confirmed and not reported: p ${small(event.p_value)}.`;
  const verb = event.end === null ? "takes it" : "writes this sentence";
  return `The model ${verb} with probability ${event.prob < 0.005 ? "below 0.01" : plain(event.prob)}${event.entropy === null ? "" : ` (entropy of the choice: ${plain(event.entropy)} nats)`}. Its effect on the probability of a right answer lies between ${signed(event.low)} and ${signed(event.high)}${level}. ${verdict}`;
}

/** Before, after and instead, each as a point with its interval on one scale. */
function valueRows(event) {
  const rows = [["before", event.before], ["after", event.after], [event.end === null ? "with another token" : "without it", event.instead]];
  const width = 330, left = 118, right = width - 46;
  const sx = scale(0, 1, left, right);
  const svg = draw("svg", { viewBox: `0 0 ${width} 104`, width, height: 104, role: "img",
    "aria-label": rows.map(([n, r]) => `Value ${n}: ${plain(r.value)}, ${plain(r.low)} to ${plain(r.high)}`).join(". ") });
  for (const at of [0, 0.5, 1]) {
    svg.append(draw("line", { x1: sx(at), x2: sx(at), y1: 6, y2: 82, class: "grid" }),
      draw("text", { x: sx(at), y: 98, "text-anchor": "middle" }, String(at)));
  }
  rows.forEach(([label, rate], index) => {
    const y = 20 + 26 * index;
    const point = draw("g", { class: `point ${index === 1 ? effectWord(event.delta) : "neutral"}` },
      draw("line", { x1: sx(rate.low), x2: sx(rate.high), y1: y, y2: y }), draw("circle", { cx: sx(rate.value), cy: y, r: 4.5 }));
    svg.append(draw("text", { x: left - 10, y: y + 4, "text-anchor": "end", class: "name" }, label),
      tipped(point, [`${plain(rate.value)} (${plain(rate.low)} to ${plain(rate.high)})`, counted(rate.n, "rollout")]),
      draw("text", { x: right + 10, y: y + 4, class: "name" }, plain(rate.value)));
  });
  return make("div", { class: "values" }, svg);
}

function alternatives(event) {
  if (event.end !== null) return null;
  const taken = { token: event.token, prob: event.prob, rate: event.after, taken: true };
  const rows = [taken, ...event.others].map((row, at) => ({ ...row, moved: event.moved[at] })).sort((a, b) => b.prob - a.prob);
  const steered = event.moved.length > 0;
  const titles = ["token", "prob.", ...(steered ? ["steered"] : []), "value", "interval", "draws"];
  const cell = (row) => make("tr", { class: row.taken ? "taken" : null },
    make("th", { scope: "row" }, quoted(row.token), row.taken ? make("span", { class: "hint" }, " taken") : null),
    make("td", { class: "number" }, plain(row.prob)),
    steered ? make("td", { class: "number" }, steeredProbability(row.moved)) : null,
    make("td", { class: "number" }, row.rate.n ? plain(row.rate.value) : "–"),
    make("td", {}, row.rate.n ? intervalBar(row.rate, row.taken ? effectWord(event.delta) : "neutral", steered ? 60 : 80) : ""),
    make("td", { class: "number" }, whole(row.rate.n)));
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "The token against its alternatives" },
    make("table", { class: `alternatives${steered ? " steered" : ""}` },
      make("caption", {}, "The token against its alternatives"),
      make("thead", {}, make("tr", {}, titles.map((title, i) =>
        make("th", { scope: "col", class: i && title !== "interval" ? "number" : null }, title)))),
      make("tbody", {}, rows.map(cell))));
}

/** A token's probability steered, with a sign of where it moved. */
function steeredProbability({ plain: from, steered: to }) {
  const change = to - from;
  return Math.abs(change) < MOVED ? plain(to) : make("b", { class: change > 0 ? "right" : "wrong", title: `${plain(from)} → ${plain(to)}` }, `${change > 0 ? "↑" : "↓"} ${plain(to)}`);
}

function intervalBar(rate, name, width) {
  const sx = scale(0, 1, 4, width - 4);
  return draw("svg", { viewBox: `0 0 ${width} 14`, width, height: 14, role: "img", "aria-label": `${plain(rate.low)} to ${plain(rate.high)}` },
    draw("line", { x1: 4, x2: width - 4, y1: 7, y2: 7, class: "grid" }),
    draw("g", { class: `point ${name}` },
      draw("line", { x1: sx(rate.low), x2: sx(rate.high), y1: 7, y2: 7 }), draw("circle", { cx: sx(rate.value), cy: 7, r: 3.5 })));
}

function continuations(event) {
  if (!event.examples.length) return null;
  const groups = [[true, true, "With it, right"], [true, false, "With it, wrong"], [false, true, "Without it, right"], [false, false, "Without it, wrong"]];
  return make("div", { class: "examples" }, make("h4", {}, "Example continuations"),
    groups.map(([taken, success, label]) => {
      const some = event.examples.filter((one) => one.taken === taken && one.success === success);
      if (!some.length) return null;
      return make("details", {}, make("summary", {}, make("span", { class: success ? "right" : "wrong" }, success ? "✓" : "✗"), ` ${label}`),
        some.map((one) => make("blockquote", {}, make("b", {}, visible(one.first)), visible(one.rest),
          one.cut ? make("span", { class: "hint" }, " (cut by the budget)") : null)));
    }));
}

/** The later sentences that this one makes more or less likely, each a link to where it stands. */
function laterSentences(event) {
  if (!event.links.length) return null;
  const { problem } = event.trace;
  return make("div", { class: "links" }, make("h4", {}, "Later sentences that it changes"),
    make("ul", {}, event.links.map((link) => make("li", {},
      make("a", { href: address(problem, event.trace, link.position) }, quoted(short(link.text.trim(), 90))),
      ` written by ${percent(link.written)} of the completions with it and by ${percent(link.written_without)} without: `,
      make("b", {}, signed(link.written - link.written_without)), ` (${signed(link.low)} to ${signed(link.high)})`))));
}

/** A link from a token to its sentence, where that was tested too. */
function itsSentence(event) {
  const sentence = event.end === null ? event.trace.sentenceEventAt.get(event.position) : null;
  return sentence ? make("p", {}, "Its sentence: ", make("a", { href: eventAddress(sentence) }, quoted(short(sentence.token.trim(), 60))), " ",
    make("span", { class: `effect ${effectWord(sentence.delta)}` }, signed(sentence.delta))) : null;
}

const promptOf = (event) => event.trace.problem.prompt + event.trace.text.slice(0, event.trace.starts[event.position]);

/** The confirmed pairs, one JSON object a line: prompt, chosen, rejected. */
function preferencePairs(event) {
  return event.pairs.map((pair) => JSON.stringify({ prompt: promptOf(event), chosen: pair.chosen, rejected: pair.rejected })).join("\n");
}

function eventRecord(event) {
  const { problem, index } = event.trace;
  return {
    problem: problem.id, trace: index, position: event.position, token: event.token, token_prob: event.prob, entropy: event.entropy,
    prob_before: event.before.value, prob_after: event.after.value, prob_delta: event.delta,
    ci_low: event.low, ci_high: event.high, p_value: event.p_value, q_value: event.q_value,
    alternatives: event.others.map((other, at) => ({ token: other.token, prob: other.prob, value: other.rate.value, n: other.rate.n,
      ...(event.moved.length ? { steered_prob: event.moved[at + 1].steered } : {}) })),
    ...(event.moved.length ? { steered_prob: event.moved[0].steered } : {}),
  };
}

/** What is known of a token that did not enter the confirmation. */
function tokenCard(trace, i) {
  const [, ...lines] = tokenLines(trace, i);
  return make("article", { class: "event" },
    make("h3", {}, quoted(tokenText(trace, i))),
    make("p", {}, `Token ${i}, taken with probability ${(trace.probs[i] / 1000).toFixed(2)}.`),
    lines.map((line) => make("p", {}, line)),
    make("p", { class: "hint" }, "Believed values direct the search. They are no measurement."));
}
