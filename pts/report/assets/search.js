// The report of a search, put together: overview, problems, and the completion that the address names.

async function start() {
  startTheme();
  const { runs } = await unpack();
  complete(runs);
  overview(runs);
  if (runs[0].steering) steeredRun(runs[0]);
  let shown = null;
  const table = problemTable(runs, () => shown?.problem.id ?? null);
  let views = [];

  function follow() {
    const named = parseAddress(location.hash, runs);
    if (!named) return;
    show(named, true);
  }

  function show(named, scroll) {
    for (const view of views) view.stop();
    shown = named;
    table.refresh();
    showTip(null);
    const { problem } = named;
    byId("trace-title").textContent = `Problem ${problem.id}`;
    const versions = runs.map((run) => run.byId.get(problem.id)).filter(Boolean);
    const body = byId("trace-body");
    body.replaceChildren(problemHead(problem, runs), legend(runs));
    views = versions.flatMap((version) => {
      const trace = version === problem ? named.trace ?? version.traces[0] : version.traces[Math.min(named.trace?.index ?? 0, version.traces.length - 1)];
      const host = make("div", { class: "trace" });
      body.append(versionHead(version, trace, runs), host);
      if (!trace) {
        host.append(make("p", {}, version.status === "out_of_range" ? "Out of range: no completion of this problem was searched." : "No completion of this problem was searched."));
        return [];
      }
      const [position, end] = version === problem && trace === named.trace ? [named.position, named.end] : [null, null];
      return [traceView(host, trace, position, end, (shown) => history.replaceState(null, "", shown))];
    });
    if (scroll) byId(named.position === null ? "trace" : "trace-body").scrollIntoView({ behavior: calm() ? "auto" : "smooth" });
  }

  window.addEventListener("hashchange", follow);
  follow();
  if (!shown) {
    const first = runs[0].found[0]?.trace ?? runs[0].problems.find((problem) => problem.traces.length)?.traces[0];
    if (first) show({ problem: first.problem, trace: first, position: runs[0].found[0]?.position ?? null, end: runs[0].found[0]?.end ?? null }, false);
    else byId("trace-body").append(make("p", {}, "No completion was searched."));
  }
  document.documentElement.dataset.ready = "yes";
}

/** The problem's texts, and the links to its neighbours in the table. */
function problemHead(problem, runs) {
  const { problems } = problem.run;
  const at = problems.indexOf(problem);
  const neighbour = (step, label) => {
    const other = problems[at + step];
    return other ? make("a", { href: address(other), rel: step > 0 ? "next" : "prev" }, label) : null;
  };
  const value = problem.value;
  return make("div", { class: "problem" },
    make("p", { class: "question" }, visible(problem.query)),
    make("p", { class: "hint" }, `Reference answer: ${visible(problem.answer)}. `,
      value && runs.length === 1 ? `Right in ${percent(value.value)} of ${counted(value.n, "completion")} (${percent(value.low)} to ${percent(value.high)}).` : ""),
    make("details", {}, make("summary", {}, "The prompt as the model reads it"), make("pre", {}, visible(problem.prompt))),
    make("p", { class: "neighbours" }, neighbour(-1, "← previous problem"), neighbour(1, "next problem →")));
}

/** The choice between a problem's completions; with two runs, which run this is. */
function versionHead(problem, shown, runs) {
  const value = problem.value ? `, right in ${percent(problem.value.value)} of ${counted(problem.value.n, "completion")}` : "";
  return make("div", { class: "choices" },
    runs.length > 1 ? make("h3", {}, `${problem.run.name}${value}`) : null,
    problem.traces.map((trace) => {
      const label = `Completion ${trace.index + 1}: ${trace.success ? "right ✓" : trace.cut ? "cut ✗" : "wrong ✗"}, ${counted(trace.count, "token")}`;
      return make("a", { class: "choice", href: address(problem, trace), "aria-current": trace === shown ? "true" : null }, label);
    }));
}

start();
