"use strict";

// Fills the template of plain diffusers' lines for an item.

/** A value as Python spells it; `kind` is that of its column. */
reprobatch.python = (value, kind) => {
  if (value === null) return "None";
  if (kind === "string") return JSON.stringify(value); // a JSON string means the same in Python
  if (kind === "bool") return value ? "True" : "False";
  const text = String(value);
  return kind === "double" && /^-?\d+$/.test(text) ? `${text}.0` : text;
};

/** A list of one value a slot, as short as it goes. */
reprobatch.list = (values, kind) => {
  const spelled = values.map((value) => reprobatch.python(value, kind));
  const same = spelled.every((each) => each === spelled[0]);
  return same && spelled.length > 1 ? `[${spelled[0]}] * ${spelled.length}` : `[${spelled.join(", ")}]`;
};

/** The lines for the item at a position of a page: its slots are copies of it, or its batch's items; null where those
 * are not all on the page. */
reprobatch.lines = (page, at, copies) => {
  const { facts, value } = reprobatch;
  const size = facts.batchSize;
  const slots = copies ? Array(size).fill(at) : reprobatch.batch(page, at, size);
  if (!slots) return null;
  return facts.snippet.parts.map((part) => {
    if (typeof part === "string") return part;
    if (part.seeds) return reprobatch.list(slots.map((slot) => page.seed[slot]), "int64");
    if (part.slot) return String(page.slot[at]);
    const kind = facts.columns[part.argument];
    const values = slots.map((slot) => value(page, part.argument, slot));
    if (!part.many && values[0] === null) return "";
    const given = part.many ? reprobatch.list(values, kind) : reprobatch.python(values[0], kind);
    return `        ${part.argument}=${given},\n`;
  }).join("");
};

/** Positions of an item's batch, filled up with its last one; null where a limit cut it off. */
reprobatch.batch = (page, at, size) => {
  const shard = reprobatch.shardOf(page.start + at);
  const same = (other) => page.batch[other] === page.batch[at] && reprobatch.shardOf(page.start + other) === shard;
  let first = at;
  while (first > 0 && same(first - 1)) first -= 1;
  const slots = [];
  for (let other = first; other < page.state.length && slots.length < size && same(other); other += 1) slots.push(other);
  const stop = page.start + slots[slots.length - 1] + 1;
  const { shown, items } = reprobatch.facts;
  if (page.slot[first] !== 0 || (slots.length < size && stop === shown && shown < items)) return null;
  while (slots.length < size) slots.push(slots[slots.length - 1]);
  return slots;
};

/** An item's value in one of its own columns. */
reprobatch.value = (page, name, at) => page.own[name].values[page.own[name].codes[at]];

/** The shard of an item, by bisection of the shards' first items. */
reprobatch.shardOf = (index) => {
  const { shards } = reprobatch.facts;
  let low = 0;
  let high = shards.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (shards[middle] <= index) low = middle; else high = middle;
  }
  return low;
};
