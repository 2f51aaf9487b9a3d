// A completion as text: a span a token, blocks that the browser may leave unpainted, calm stretches folded.

const CALM = 0.05;          // believed effects below this are no event
const FOLD_FROM = 60;       // tokens of a calm stretch from which it is folded
const KEPT_AROUND = 12;     // tokens that stay beside an event
const FOLDED_ABOVE = 300;   // tokens of a completion from which it is folded at first
const BLOCK = 120;          // tokens of a block, at least, before it may end at a line's end
const LONGEST_BLOCK = 400;
const LONG = 1500;          // tokens above which the browser leaves blocks out of sight unpainted

/** Stretches `[start, end)` without a mark and without what `colour` shows, long enough to fold. */
function calmStretches(trace, colour) {
  const stretches = [];
  let start = 0;
  const close = (end) => {
    const [from, to] = [start + KEPT_AROUND, end - KEPT_AROUND];
    if (to - from >= FOLD_FROM) stretches.push([from, to]);
  };
  for (let i = 0; i < trace.count; i++) {
    const seen = colour === "steered" ? movedBy(trace, i) : tint(trace, i, colour);
    if (!["audited", null].includes(mark(trace, i, colour)) || Math.abs(seen) >= CALM || i === trace.thinking) {
      close(i);
      start = i + 1;
    }
  }
  close(trace.count);
  return stretches;
}

/** Colour of a token: sign by hue, size by strength. */
function tinted(delta, kind) {
  const strength = Math.min(1, Math.abs(delta) / 0.6);
  if ((!kind || kind === "audited") && Math.abs(delta) < CALM) return null;
  return `--s:${(kind === "found" ? 0.3 + 0.7 * strength : 0.55 * strength).toFixed(2)}`;
}

/** How a token's colour is set: by the effect of it or of its sentence, or by what steering does to it. */
function coloured(trace, i, kind, colour) {
  if (colour === "steered") {
    const change = movedBy(trace, i), style = movedStyle(change);
    const event = eventOf(trace, i);
    return { style, classes: [...(event ? [effectWord(event.delta)] : []), ...(style ? [movedWord(change)] : []), ...(isOpened(trace, i) ? ["opened"] : [])] };
  }
  const delta = tint(trace, i, colour);
  const style = kind === "open" ? null : tinted(delta, kind);
  return { style, classes: style ? [effectWord(delta)] : [] };
}

/** The elements of a token; `colour` is "both", "token", "sentence" or "steered". */
function tokenSpan(trace, i, colour) {
  const kind = mark(trace, i, colour), text = tokenText(trace, i), event = shownEvent(trace, i, colour);
  const { style, classes: hues } = coloured(trace, i, kind, colour);
  const classes = ["t", ...hues];
  if (kind) classes.push(kind);
  if (event && event.end !== null) classes.push("of-sentence");
  else if (kind === "found" && trace.sentenceEventAt.get(i)?.reported && colour !== "token") classes.push("within");
  if (event && event.position === i) {
    const shown = visible(text) || "∅";
    const lead = shown.match(/^\s*/)[0].length === shown.length ? "" : shown.match(/^\s*/)[0];
    // The space before a word is no part of what is marked.
    return [lead ? make("span", { class: "space", "data-i": i }, lead) : null,
      make("a", { class: classes.join(" "), style, "data-i": i, href: eventAddress(event), tabindex: "-1",
        "aria-label": `${quoted(text)}, ${event.reported ? "reported" : event.audited ? "drawn by the audit" : "confirmed, not reported"}, ${effectWord(event.delta)} ${signed(event.delta)}` },
      shown.slice(lead.length))];
  }
  return [make("span", { class: classes.join(" "), style, "data-i": i }, visible(text))];
}

/** The text as blocks; `folded` says whether calm stretches are buttons, `colour` what the colours show. */
function textBlocks(trace, folded, colour) {
  const parts = [];
  const stretches = folded ? calmStretches(trace, colour) : [];
  const add = (from, to, into) => {
    let block = make("div", { class: "block" }), size = 0;
    for (let i = from; i < to; i++) {
      block.append(...tokenSpan(trace, i, colour).filter(Boolean));
      size += 1;
      const ends = tokenText(trace, i).endsWith("\n");
      if ((ends && size >= BLOCK) || size >= LONGEST_BLOCK) {
        if (!ends) block.classList.add("runs-on");
        into.append(block);
        [block, size] = [make("div", { class: "block" }), 0];
      }
    }
    if (size) into.append(block);
  };
  const section = (name, from, to) => {
    if (from >= to) return;
    const element = make("div", { class: `part ${name}`, role: "group", "aria-label": name });
    if (trace.thinking) element.append(make("span", { class: "part-name", "aria-hidden": "true" }, name));
    let at = from;
    for (const [start, end] of stretches) {
      if (start < from || end > to) continue;
      add(at, start, element);
      element.append(foldButton(trace, start, end, colour));
      at = end;
    }
    add(at, to, element);
    parts.push(element);
  };
  section("thinking", 0, trace.thinking);
  section(trace.thinking ? "answer" : "completion", trace.thinking, trace.count);
  return parts;
}

function foldButton(trace, start, end, colour) {
  const value = trace.values ? `, value ${plain(trace.values[start] / 1000)} to ${plain(trace.values[end - 1] / 1000)}` : "";
  const opened = colour === "steered" ? `, gate open at ${whole(openedIn(trace, start, end))}` : "";
  const label = `${whole(end - start)} calm tokens${value}${opened}`;
  const button = make("button", { type: "button", class: "fold", "data-from": start, "data-to": end, "aria-expanded": "false" }, `⋯ ${label}`);
  button.addEventListener("click", () => unfold(trace, button, colour));
  return button;
}

/** Puts a folded stretch's tokens in the place of its button. */
function unfold(trace, button, colour) {
  const [from, to] = [Number(button.dataset.from), Number(button.dataset.to)];
  const block = make("div", { class: "block runs-on" });
  for (let i = from; i < to; i++) block.append(...tokenSpan(trace, i, colour).filter(Boolean));
  button.replaceWith(block);
}

/** The elements that show a token, its stretch unfolded first. */
function tokenElements(root, trace, i, colour) {
  for (const button of root.querySelectorAll("button.fold")) {
    if (Number(button.dataset.from) <= i && i < Number(button.dataset.to)) unfold(trace, button, colour);
  }
  return [...root.querySelectorAll(`[data-i="${i}"]`)];
}
