"use strict";

// Charts as inline SVG, drawn at the width they have.

reprobatch.svg = (name, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

/** A chart that is drawn again when its width changes; `draw` gives the nodes for a width. */
reprobatch.chart = (height, label, draw) => {
  const box = reprobatch.svg("svg", { class: "chart", role: "img", "aria-label": label, height });
  let last = 0;
  new ResizeObserver(() => {
    const width = Math.round(box.getBoundingClientRect().width);
    if (!width || width === last) return;
    last = width;
    box.setAttribute("viewBox", `0 0 ${width} ${height}`);
    box.replaceChildren(...draw(width));
  }).observe(box);
  return box;
};

/** Round numbers from 0 to at least `most`. */
reprobatch.ticks = (most, count) => {
  if (!(most > 0)) return [0, 1];
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = 0; at < Math.ceil(most / step - 1e-9) + 1; at += 1) found.push(Number((at * step).toPrecision(6)));
  return found;
};

reprobatch.rateChart = (run) => {
  const { svg, ticks } = reprobatch;
  const [left, right, top, bottom, height] = [44, 10, 12, 30, 200];
  const most = Math.max(...run.rate);
  return reprobatch.chart(height, `Items a second over ${reprobatch.seconds(run.seconds)}, at most ${most.toFixed(1)}`, (width) => {
    const rows = ticks(most, 4);
    const y = (value) => height - bottom - (value / rows[rows.length - 1]) * (height - top - bottom);
    const x = (seconds) => left + (seconds / run.seconds) * (width - left - right);
    const nodes = rows.flatMap((value) => [
      svg("line", { class: "rule", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick end", x: left - 8, y: y(value) + 4 }, String(value)),
    ]);
    for (const value of ticks(run.seconds, width > 500 ? 8 : 4).filter((each) => each <= run.seconds)) {
      nodes.push(svg("text", { class: "tick middle", x: x(value), y: height - bottom + 18 }, `${value} s`));
    }
    const wide = (width - left - right) / run.rate.length;
    const steps = run.rate.map((value, at) => `H${left + at * wide}V${y(value)}H${left + (at + 1) * wide}`).join("");
    nodes.push(svg("path", { class: "area", d: `M${left} ${y(0)}${steps}V${y(0)}Z` }));
    return nodes;
  });
};

/** A lane a worker, a bar a shard; crosses where attempts failed. */
reprobatch.laneChart = (run) => {
  const { svg, ticks } = reprobatch;
  const [left, right, lane, bottom] = [78, 10, 26, 30];
  const lanes = run.workers.map((each) => each.worker);
  const height = lanes.length * lane + bottom;
  const label = `When ${reprobatch.count(lanes.length, "worker")} made ${reprobatch.count(run.spans.length, "shard")}`;
  return reprobatch.chart(height, label, (width) => {
    const x = (seconds) => left + (seconds / Math.max(run.seconds, 1e-9)) * (width - left - right);
    const nodes = lanes.flatMap((worker, at) => [
      svg("text", { class: "tick end", x: left - 10, y: at * lane + lane / 2 + 4 }, `worker ${worker}`),
      svg("line", { class: "rule", x1: left, x2: width - right, y1: (at + 1) * lane, y2: (at + 1) * lane }),
    ]);
    for (const span of run.spans) {
      const bar = svg("rect", { class: "bar shard", rx: 2, x: x(span.from), y: lanes.indexOf(span.worker) * lane + 5,
        width: Math.max(2, x(span.to) - x(span.from) - 1), height: lane - 9 });
      bar.append(svg("title", {}, `shard ${span.shard}, ${reprobatch.count(span.items, "item")}, attempt ${span.attempt}`));
      nodes.push(bar);
    }
    for (const trouble of run.troubles.filter((each) => lanes.includes(each.worker))) {
      const [cx, cy] = [x(trouble.at), lanes.indexOf(trouble.worker) * lane + lane / 2];
      const cross = svg("path", { class: "cross", d: `M${cx - 4} ${cy - 4}l8 8m0 -8l-8 8` });
      cross.append(svg("title", {}, trouble.why));
      nodes.push(cross);
    }
    for (const value of ticks(run.seconds, width > 500 ? 8 : 4).filter((each) => each <= run.seconds)) {
      nodes.push(svg("text", { class: "tick middle", x: x(value), y: height - bottom + 20 }, `${value} s`));
    }
    return nodes;
  });
};

/** Named amounts as bars, a line each. */
reprobatch.barChart = (rows, label) => {
  const { svg } = reprobatch;
  const [left, right, line] = [132, 64, 26];
  const most = Math.max(1, ...rows.map(([, value]) => value));
  return reprobatch.chart(rows.length * line, label, (width) => rows.flatMap(([name, value], at) => {
    const long = (value / most) * (width - left - right);
    return [
      svg("text", { class: "tick end", x: left - 10, y: at * line + line / 2 + 4 }, name),
      svg("rect", { class: "bar", rx: 2, x: left, y: at * line + 5, width: Math.max(long, 1), height: line - 10 }),
      svg("text", { class: "tick", x: left + long + 8, y: at * line + line / 2 + 4 }, value.toLocaleString("en")),
    ];
  }));
};
