// Steered beside unsteered, of a search: how the choices that it reported move.

function steeredRun(run) {
  const host = byId("steered-run");
  if (!host) return;
  const { steering } = run;
  const events = run.found.filter((event) => event.moved.length);
  const opened = run.problems.flatMap((problem) => problem.traces).filter((trace) => trace.moved);
  const tokens = opened.reduce((sum, trace) => sum + trace.count, 0);
  const open = opened.reduce((sum, trace) => sum + openedIn(trace, 0, trace.count), 0);
  host.replaceChildren(
    make("p", {}, `${whole(steering.read)} of ${counted(steering.of, "completion")} of the search were read once more, with the vector set ${visible(steering.name)}: ${steering.added.join(" and ")}. ` +
      `Nothing was sampled: each probability is that of the sampler after the same tokens. The gate was open at ${whole(open)} of ${counted(tokens, "token")}. A completion that is coloured by ${COLOURS.steered} shows where.`),
    ...fittedNote(steering, run),
    ...(events.length ? [make("div", { class: "moved" }, movedEvents(events), make("div", {}, ...movedWords(events))),
      make("h3", { class: "after-figure" }, "Findings, unsteered and steered"), movedTable(events)]
      : [make("p", { class: "hint" }, "No finding is in the completions that were read.")]));
}

/** Whether the vector was fitted to what is shown. */
function fittedNote(steering, run) {
  if (!steering.fitted) return [];
  const problems = run.problems.filter((problem) => problem.traces.length).length;
  return [make("p", { class: "warning", role: "note" },
    `The vectors were made of pivots of ${whole(steering.fitted)} of these ${counted(problems, "problem")}. What steering moves there is no evidence for others: the report of the vector set shows pivots that were held out.`)];
}

function movedEvents(events) {
  const points = events.map((event) => ({
    from: event.moved[0].plain, to: event.moved[0].steered, side: event.delta > 0 ? "better" : "worse",
    lines: [...eventLines(event), `Steered: probability ${plain(event.moved[0].plain)} → ${plain(event.moved[0].steered)}`],
    go: () => goTo(eventAddress(event)),
  }));
  return figure("Findings", "Circles: what helps. Squares: what harms. On the dashed line steering moves nothing. Click a point to read it.",
    movedChart(points, `Probability of ${counted(events.length, "finding")}, unsteered and steered`));
}

function movedWords(events) {
  const average = (some, name) => plain(mean(some.map((event) => event.moved[0][name])));
  return [[1, "help"], [-1, "harm"]].map(([sign, what]) => {
    const some = events.filter((event) => sign * event.delta > 0);
    return some.length ? make("p", { class: "lead" },
      `Where the search found that they ${what} (${whole(some.length)}), steering moves the mean probability from ${average(some, "plain")} to ${average(some, "steered")}.`) : "";
  });
}

/** Whether the gate was open at the token before a choice, where the model decides it. */
const openBefore = (event) => event.position > 0 && isOpened(event.trace, event.position - 1);

function movedTable(events) {
  const change = (event) => event.moved[0].steered - event.moved[0].plain;
  const table = sortableTable({
    caption: "Findings, unsteered and steered", first: 4, down: true,
    columns: [
      { title: "token or sentence", cell: (event) => make("a", { href: eventAddress(event) }, quoted(short(event.token, 60))), by: (event) => event.token },
      { title: "effect", number: true, cell: (event) => make("span", { class: `effect ${effectWord(event.delta)}` }, signed(event.delta)), by: (event) => event.delta },
      { title: "unsteered", number: true, note: "Its probability by the model as it is; of a sentence that of all its tokens", cell: (event) => plain(event.moved[0].plain), by: (event) => event.moved[0].plain },
      { title: "steered", number: true, note: "Its probability steered", cell: (event) => plain(event.moved[0].steered), by: (event) => event.moved[0].steered },
      { title: "change", number: true, cell: (event) => signed(change(event)), by: (event) => Math.abs(change(event)) },
      { title: "gate before it", note: "Whether the gate was open at the token before", cell: (event) => (openBefore(event) ? "open" : "closed"), by: openBefore },
      { title: "problem", cell: (event) => visible(event.trace.problem.id), by: (event) => event.trace.problem.id },
    ],
  });
  table.show(events);
  return table.element;
}

/** What steering does to the choice of one event, for its card; null where it was not read. */
function steeredSentence(event) {
  if (!event.moved.length) return null;
  const [{ plain: from, steered: to }] = event.moved;
  const change = event.end === null
    ? `the model takes it with probability ${plain(to)} in place of ${plain(from)}`
    : from ? `the probability of this sentence, word for word, is ${(to / from).toPrecision(2)} times what it was`
      : `the probability of this sentence, word for word, is ${plain(to)} in place of 0`;
  const gate = event.end === null
    ? `The gate was ${openBefore(event) ? "open" : "closed"} at the token before it`
    : `The gate was open at ${whole(openedIn(event.trace, Math.max(0, event.position - 1), event.end - 1))} of the ${counted(event.end - event.position, "token")} that decide it`;
  return make("p", { class: "steered-here" }, make("b", {}, "Steered"), `, ${change}. ${gate}.`);
}
