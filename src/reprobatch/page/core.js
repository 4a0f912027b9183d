"use strict";

// What every part of the page uses. Everything is made of nodes: no text ever becomes markup.

const reprobatch = { facts: null, pages: new Map(), waiting: new Map() };

reprobatch.dataset = (facts) => { reprobatch.facts = facts; };

reprobatch.page = (page) => {
  reprobatch.pages.set(page.number, page);
  const waiting = reprobatch.waiting.get(page.number);
  if (waiting) waiting(page);
};

/** A page's items: loaded by a script element, the one way that works from a file. */
reprobatch.load = (number) => {
  if (reprobatch.pages.has(number)) return Promise.resolve(reprobatch.pages.get(number));
  return new Promise((resolve, reject) => {
    reprobatch.waiting.set(number, resolve);
    const script = document.createElement("script");
    script.src = `data/items-${String(number).padStart(4, "0")}.js`;
    script.onload = () => { if (!reprobatch.pages.has(number)) reject(new Error(`no items in ${script.src}`)); };
    script.onerror = () => reject(new Error(`cannot load ${script.src}`));
    document.head.append(script);
  });
};

/** An element: attributes, `on…` listeners and `text`, then children. */
reprobatch.el = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "text") made.textContent = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

reprobatch.count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

reprobatch.number = (value) => {
  if (value === null || value === undefined) return "none";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e6 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
};

reprobatch.seconds = (value) => (value < 120 ? `${Number(value.toPrecision(3))} s` : `${(value / 60).toFixed(1)} min`);

/** Copy text, and say so; where a browser has no clipboard here, select and copy. */
reprobatch.copy = async (text, source) => {
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const selection = getSelection();
    selection.selectAllChildren(source);
    copied = document.execCommand("copy");
  }
  document.getElementById("said").textContent = copied ? "Copied" : "Select and copy the text";
  return copied;
};

/** A block of code with a button that copies it. */
reprobatch.code = (text, label) => {
  const { el } = reprobatch;
  const code = el("code", { text });
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy ${label}`, text: "Copy" });
  button.addEventListener("click", async () => {
    button.textContent = (await reprobatch.copy(text, code)) ? "Copied" : "Select it";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return el("div", { class: "code" }, el("pre", { tabindex: "0", "aria-label": label }, code), button);
};

reprobatch.table = (heads, rows, attributes = {}) => {
  const { el } = reprobatch;
  const cell = (value) => el("td", {}, value instanceof Node ? value : String(value));
  return el("div", { class: "scroll" }, el("table", attributes,
    heads ? el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col", text: head })))) : null,
    el("tbody", {}, ...rows.map(([first, ...rest]) =>
      el("tr", {}, el("th", { scope: "row" }, first instanceof Node ? first : String(first)), ...rest.map(cell))))));
};
