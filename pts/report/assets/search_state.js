// A search's data, completed by what is counted from it, and the address of what is shown.

const FATES = {
  e: "excluded: its probability leaves no room for an effect",
  v: "excluded: the values around it leave no room for an effect",
  s: "dropped by the screen",
  u: "left open: the spending limit came first",
  o: "outside the region that was searched",
  d: "searched on an earlier completion of the problem",
  c: "tested, and not reported",
};

/** Adds to each problem and trace what the page asks of it often. */
function complete(runs) {
  runs.forEach((run, at) => {
    run.at = at;
    run.byId = new Map(run.problems.map((problem) => [problem.id, problem]));
    for (const problem of run.problems) {
      problem.run = run;
      problem.traces.forEach((trace, index) => completeTrace(trace, problem, index));
      problem.events = problem.traces.flatMap((trace) => trace.events);
      problem.found = problem.events.filter((event) => event.reported);
      problem.helping = problem.found.filter((event) => event.delta > 0).length;
      problem.strongest = problem.found.reduce((best, event) => Math.max(best, Math.abs(event.delta)), 0);
    }
    run.events = run.problems.flatMap((problem) => problem.events);
    run.found = run.events.filter((event) => event.reported).sort((a, b) => Math.abs(b.delta) - Math.abs(a.delta));
  });
}

function completeTrace(trace, problem, index) {
  trace.problem = problem;
  trace.index = index;
  trace.starts = new Array(trace.lengths.length);
  let start = 0;
  trace.lengths.forEach((length, i) => { trace.starts[i] = start; start += length; });
  const single = trace.events.filter((event) => event.end === null);
  trace.eventAt = new Map(single.map((event) => [event.position, event]));
  // The sentence event that each token is in: the reported one first.
  trace.sentenceEventAt = new Map();
  for (const event of [...trace.events].sort((a, b) => a.reported - b.reported)) {
    for (let i = event.position; i < (event.end ?? 0); i++) trace.sentenceEventAt.set(i, event);
  }
  for (const event of trace.events) event.trace = trace;
  trace.count = trace.lengths.length;
}

const tokenText = (trace, i) => trace.text.slice(trace.starts[i], trace.starts[i] + trace.lengths[i]);

/** The event of a token, or of the sentence that it is in. */
const eventOf = (trace, i) => trace.eventAt.get(i) ?? trace.sentenceEventAt.get(i);

/** The event that a token's mark and colour are of, where these show tokens alone, sentences alone, or both. */
function shownEvent(trace, i, colour) {
  if (colour === "token") return trace.eventAt.get(i);
  if (colour === "sentence") return trace.sentenceEventAt.get(i);
  return eventOf(trace, i);
}

/** What a run reports, in a word: tokens, sentences, or both. */
const UNITS = { token: "tokens", sentence: "sentences", both: "tokens and sentences" };
const unitsOf = (run) => UNITS[run.summary.unit];
const countedUnits = (run, number) => (run.summary.unit === "both" ? `${whole(number)} tokens and sentences` : counted(number, `reported ${run.summary.unit}`));

/** The sentence around a token, `[start, end)`. */
function sentenceOf(trace, i) {
  let at = trace.sentences.findLastIndex((start) => start <= i);
  at = Math.max(0, at);
  return [trace.sentences[at] ?? 0, trace.sentences[at + 1] ?? trace.count];
}

/** The believed value before and after a token, or null where the run does not say. */
function believed(trace, i) {
  if (!trace.values) return null;
  const before = i ? trace.values[i - 1] / 1000 : trace.problem.value ? trace.problem.value.value : trace.values[0] / 1000;
  return { before, after: trace.values[i] / 1000, low: trace.lows[i] / 1000, high: trace.highs[i] / 1000 };
}

/** The effect that a token is tinted by: the measured one, else what the search believed of it or its sentence. */
function tint(trace, i, colour) {
  const event = shownEvent(trace, i, colour);
  if (event) return event.delta;
  if (colour === "sentence" && trace.values) {
    const [start, end] = sentenceOf(trace, i);
    return trace.values[end - 1] / 1000 - believed(trace, start).before;
  }
  const value = believed(trace, i);
  return value ? value.after - value.before : 0;
}

/** How a token is marked: reported, confirmed but not reported, drawn by the audit, left open, or not at all. */
function mark(trace, i, colour) {
  const event = shownEvent(trace, i, colour);
  if (event) return event.reported ? "found" : event.audited ? "audited" : "confirmed";
  return trace.fates && trace.fates[i] === "u" ? "open" : null;
}

/** `#problem/trace/position` and, of a second run, `/2`. Parts that are not given are left out. A sentence's
 * position is `first-end`, `end` one after its last token. */
function address(problem, trace, position) {
  const parts = [encodeURIComponent(problem.id), trace ? trace.index : 0];
  if (position !== undefined || problem.run.at) parts.push(position ?? "");
  if (problem.run.at) parts.push(problem.run.at + 1);
  return "#" + parts.join("/");
}

/** What an address names, or null: `{problem, trace, position}`. */
function parseAddress(hash, runs) {
  const [id, trace, position, run] = hash.replace(/^#/, "").split("/");
  if (trace === undefined) return null;
  let name;
  try { name = decodeURIComponent(id); } catch { return null; }
  const problem = runs[run ? Number(run) - 1 : 0]?.byId.get(name);
  const found = problem?.traces[Number(trace)];
  if (!problem) return null;
  const [first, end] = (position || "").split("-");
  const at = first ? Number(first) : null;
  const inside = found && at !== null && at >= 0 && at < found.count;
  return { problem, trace: found ?? null, position: inside ? at : null, end: inside && end ? Number(end) : null };
}

const eventAddress = (event) => address(event.trace.problem, event.trace, event.end === null ? event.position : `${event.position}-${event.end}`);
const goTo = (hash) => { location.hash = hash; };

/** The lines of a token's tip. */
function tokenLines(trace, i) {
  const event = eventOf(trace, i);
  const lines = [`${quoted(tokenText(trace, i))} · token ${i} · probability ${(trace.probs[i] / 1000).toFixed(2)}`];
  const value = believed(trace, i);
  if (event) {
    if (event.end !== null) lines.push(`In the sentence of tokens ${event.position} to ${event.end - 1}`);
    lines.push(`${event.reported ? "Reported" : event.audited ? "Drawn by the audit" : "Confirmed, not reported"}: ${signed(event.delta)} (${signed(event.low)} to ${signed(event.high)})`);
    lines.push(`Measured value ${plain(event.before.value)} → ${plain(event.after.value)}`);
  } else if (value) {
    lines.push(`Believed value ${plain(value.before)} → ${plain(value.after)} (${plain(value.low)} to ${plain(value.high)})`);
  }
  if (!event && trace.fates) lines.push(FATES[trace.fates[i]] ?? "");
  if (trace.moved) lines.push(movedLine(trace, i));
  return lines;
}
