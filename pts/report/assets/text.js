// Elements, numbers and texts: what every part of a report is made with. Texts become nodes, never markup.

/** An element with attributes (`on…` are listeners, `class`, `data-…`) and children: nodes or texts. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A text cut to a length, with a sign where it was. */
const short = (text, most = 90) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

const byId = (id) => document.getElementById(id);
const signed = (value, digits = 2) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
const plain = (value, digits = 2) => (value < 0 ? "−" : "") + Math.abs(value).toFixed(digits);
const percent = (value) => `${Math.round(100 * value)}%`;
const whole = (value) => Math.round(value).toLocaleString("en");
const counted = (number, what) => `${whole(number)} ${what}${number === 1 ? "" : "s"}`;
const effectWord = (delta) => (delta > 0 ? "helps" : "harms");
const small = (p) => (p >= 0.001 ? p.toFixed(3) : p >= 0.0001 ? p.toFixed(4) : p.toExponential(0).replace("-", "−"));

const DIRECTIONS = {
  0x200e: "LRM", 0x200f: "RLM", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0x061c: "ALM", 0xfeff: "BOM", 0x200b: "ZWSP",
};
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** The text with its control characters as visible signs: none may hide or turn the words around it. */
function visible(text) {
  return text.replace(UNSEEN, (character) => {
    const code = character.charCodeAt(0);
    if (DIRECTIONS[code]) return `⟨${DIRECTIONS[code]}⟩`;
    if (code === 0x7f) return "␡";
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : `⟨${code.toString(16)}⟩`;
  });
}

/** A token by itself, between quotation marks, its spaces and line ends visible. */
function quoted(token) {
  return `“${visible(token.replace(/\n/g, "⏎").replace(/\t/g, "⇥"))}”`;
}

/** The report's data, unpacked. */
async function unpack() {
  const letters = atob(byId("data").textContent);
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

/** Shows a text beside the pointer or an element; hides it for null. */
function showTip(lines, x, y) {
  const tip = byId("tip");
  tip.hidden = lines === null;
  if (lines === null) return;
  tip.replaceChildren(...lines.map((line) => make("div", {}, line)));
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, x + 14), document.documentElement.clientWidth - width - 8);
  const below = y + 18 + height < window.innerHeight;
  tip.style.transform = `translate(${left}px, ${below ? y + 18 : Math.max(8, y - height - 12)}px)`;
}

/** Says a text to those who hear the page. */
function say(text) {
  byId("said").textContent = text;
}

/** A button that copies what `text` gives, and says so. */
function copyButton(label, text) {
  const button = make("button", { type: "button", class: "quiet" }, label);
  button.addEventListener("click", async () => {
    await copyText(text());
    button.textContent = "Copied";
    say(`${label}: copied`);
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A page that was opened from a file may not be given the clipboard.
    const area = make("textarea", { "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

const THEMES = ["auto", "light", "dark"];

/** The button for light and dark; the choice lasts as long as the page, and where it can, longer. */
function startTheme() {
  const button = byId("theme");
  const stored = (value) => {
    try {
      if (value) localStorage.setItem("pts-report-theme", value);
      return localStorage.getItem("pts-report-theme");
    } catch {
      return null;
    }
  };
  let chosen = THEMES.includes(stored()) ? stored() : "auto";
  const apply = () => {
    if (chosen === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    button.textContent = { auto: "◐ auto", light: "○ light", dark: "● dark" }[chosen];
    button.setAttribute("aria-label", `Colours: ${chosen === "auto" ? "as the system" : chosen}`);
  };
  button.addEventListener("click", () => {
    chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
    stored(chosen);
    apply();
  });
  apply();
}

/** Whether the reader asked for less movement. */
const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
