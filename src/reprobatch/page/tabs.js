"use strict";

// The parts of the page that are not items: each is drawn when it is first looked at.

reprobatch.section = (title, ...children) =>
  reprobatch.el("section", {}, reprobatch.el("h2", { text: title }), ...children);

reprobatch.quiet = (text) => reprobatch.el("p", { class: "quiet", text });

/** Figures with their names. */
reprobatch.figures = (pairs) => reprobatch.el("dl", { class: "figures" }, ...pairs.map(([name, value]) =>
  reprobatch.el("div", {}, reprobatch.el("dt", { text: name }), reprobatch.el("dd", { text: value }))));

reprobatch.tabs = {};

reprobatch.tabs.run = (panel) => {
  const { facts, quiet, el } = reprobatch;
  if (!facts.runs.length) {
    panel.append(reprobatch.section("Run", quiet("The dataset has no log of its making.")));
    return;
  }
  const last = facts.runs.length - 1;
  const box = el("div");
  const draw = (number) => box.replaceChildren(...reprobatch.run(facts.runs[number]));
  if (last > 0) {
    const choice = el("select", { onchange: () => draw(Number(choice.value)) }, ...facts.runs.map((run, at) =>
      el("option", { value: at, text: `${at + 1} of ${last + 1}: ${reprobatch.count(run.items, "item")}` })));
    choice.value = String(last);
    panel.append(el("label", { class: "choice" }, el("span", { text: "Run" }), choice));
  }
  panel.append(box);
  draw(last);
};

reprobatch.run = (run) => {
  const { section, figures, table, count, number, quiet, seconds } = reprobatch;
  const worst = Math.max(0, ...run.troubles.filter((each) => each.what === "failed").map(() => 1));
  const tries = run.troubles.filter((each) => ["again", "failed"].includes(each.what)).length;
  const words = { again: "tried again", failed: "given up", lost: "worker lost", turned_away: "worker turned away" };
  const parts = [section("Run", figures([["items", run.items.toLocaleString("en")],
    ["time", seconds(run.seconds)], ["items a second", run.seconds ? number(run.items / run.seconds) : "none"],
    ["workers", String(run.workers.length)], ["failed attempts", String(tries)]]),
  run.ended ? null : quiet("The log has no end: the run was ended from outside, or goes on."))];
  if (run.spans.length && run.seconds > 0) {
    parts.push(section("Items a second", reprobatch.rateChart(run)));
  }
  if (run.workers.length) {
    const rows = run.workers.map((each) => [`worker ${each.worker}`, each.host === null ? "unknown" : `host ${each.host}`,
      each.shards, each.items.toLocaleString("en"), seconds(each.busy), number(each.rate), each.failed]);
    parts.push(section("Workers", run.seconds > 0 ? reprobatch.laneChart(run) : null,
      table(["worker", "host", "shards", "items", "computing", "items a second", "failed attempts"], rows,
        { class: "numbers" })));
  }
  const troubles = run.troubles.map((each) => [seconds(each.at), words[each.what] ?? each.what,
    each.shard ?? "", each.worker ?? "", each.why]);
  parts.push(section("Retries", troubles.length ? table(["at", "what", "shard", "worker", "why"], troubles)
    : quiet("No attempt failed and no worker was lost.")));
  if (worst) parts.push(quiet("What was given up is missing until the same command is run again."));
  return parts;
};

reprobatch.tabs.contract = (panel) => {
  const { facts, section, table, quiet, el } = reprobatch;
  const answer = (row) => {
    const text = row.holds === null ? "not measured" : row.holds ? "holds" : "does not hold";
    const bad = row.holds === false && row.kind === "required";
    return el("span", { class: `answer ${row.holds === null ? "unknown" : row.holds ? "yes" : bad ? "no" : "apart"}`, text });
  };
  const rows = facts.contract.map((row) => [row.name, answer(row),
    row.holds === false && row.linf !== null ? reprobatch.number(Number(row.linf)) : "",
    el("span", {}, row.asks, row.why ? el("span", { class: "quiet", text: ` (${row.why})` }) : null,
      row.kind ? el("span", { class: "quiet", text: ` · ${row.kind}` }) : null)]);
  panel.append(section("Contract",
    quiet("What was measured for this job before it was made, in the environment that made it."),
    rows.length ? table(["property", "answer", "L∞", "meaning"], rows) : quiet("No contract is recorded."),
    ...facts.notes.map((note) => quiet(note))));
};

reprobatch.tabs.environment = (panel) => {
  const { facts, section, table, quiet, code } = reprobatch;
  panel.append(section("Dataset", table(null, facts.identity, { class: "facts" })));
  facts.environments.forEach((each, at) => {
    const title = facts.environments.length > 1 ? `Environment ${at + 1}` : "Environment";
    panel.append(section(title, table(null, [["canary", each.canary], ...each.rows], { class: "facts" })));
  });
  if (!facts.environments.length) panel.append(section("Environment", quiet("None is recorded.")));
  panel.append(section("Job", code(facts.job, "job")));
};

reprobatch.tabs.comparison = (panel) => {
  const { section, figures, quiet, number, el } = reprobatch;
  const told = reprobatch.facts.compare;
  const found = told.facts;
  const parts = [el("p", { class: "pair" }, el("b", { text: "A" }), el("code", { text: told.a }), el("b", { text: "B" }),
    el("code", { text: told.b }))];
  if (told.why) {
    parts.push(el("p", { class: "fault", text: `The two could not be compared to their end: ${told.why}` }));
  } else {
    parts.push(figures([["identical", found.identical.toLocaleString("en")], ["within tolerance", found.within.toLocaleString("en")],
      ["different", found.different.toLocaleString("en")], ["missing in A", found.missing.a.toLocaleString("en")],
      ["missing in B", found.missing.b.toLocaleString("en")], ["L∞", number(found.measured.linf)], ["RMS", number(found.measured.rms)]]));
  }
  panel.append(section("Comparison", ...parts));
  if (found.histogram) {
    const rows = [["0", found.histogram.zero],
      ...found.histogram.buckets.map((each) => [`${each.from.toExponential(0)} … ${each.to.toExponential(0)}`, each.items]),
      ["none", found.histogram.none]].filter(([, items]) => items);
    panel.append(section("L∞ of an item", reprobatch.barChart(rows, "Items by their L∞")));
  }
  const lists = [["Jobs", found.job, "here is A, there is B"], ["Environments", found.environment, "recorded is B"]];
  for (const [title, lines, note] of lists) {
    panel.append(section(title, lines.length ? el("ul", { class: "lines" }, ...lines.map((line) => el("li", { text: line })))
      : quiet("No difference."), lines.length ? quiet(note) : null));
  }
  panel.append(section("Differing items", ...reprobatch.beside(told)));
};

/** The furthest items as strips of A, B and their difference, some at a time. */
reprobatch.beside = (told) => {
  const { el, quiet, count } = reprobatch;
  if (!told.shown.length) return [quiet(told.differing ? "None can be shown." : "No item differs.")];
  const list = el("div", { class: "strips" });
  const more = el("button", { type: "button", class: "more" });
  let next = 0;
  const add = () => {
    list.append(...told.shown.slice(next, next + 24).map(reprobatch.strip));
    next += 24;
    more.hidden = next >= told.shown.length;
    more.textContent = `Show ${count(Math.min(24, told.shown.length - next), "item")} more`;
  };
  more.addEventListener("click", add);
  add();
  const left = told.differing - told.shown.length;
  const said = `The furthest first${left > 0 ? `; ${count(left, "item")} that lie nearer are not shown` : ""}.`;
  return [quiet(said), list, more];
};

reprobatch.strip = (item) => {
  const { el } = reprobatch;
  const pictures = item.made.some(Boolean);
  const gain = item.gain === null ? "" : item.of === "pictures" ? `, × ${item.gain}` : " of stored values";
  const names = ["A", "B", item.made[2] ? `difference${gain}` : "no difference to show"];
  const label = `Item ${item.index}: A, B and ${names[2]}`;
  return el("figure", {},
    el("a", { href: `#item-${item.index}`, text: `Item ${item.index}` }),
    pictures ? el("img", { src: `apart/${item.index}.webp`, alt: label, loading: "lazy" }) : el("p", { class: "quiet", text: "No pictures." }),
    el("figcaption", {}, ...names.map((name) => el("span", { text: name }))),
    el("p", { class: "quiet mono", text: `A ${item.checksums[0].slice(0, 12)}…  B ${item.checksums[1].slice(0, 12)}…` }));
};
