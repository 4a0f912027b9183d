"use strict";

// The items of a page: searched, filtered and sorted, and only those tiles in the document that can be seen.

reprobatch.states = [
  ["", "Any state"],
  ["sound", "Sound"],
  ["faulty", "Not sound"],
  ["checksum", "Bytes differ"],
  ["missing", "Missing"],
  ["unreadable", "Unreadable"],
  ["tried", "Failed attempts"],
  ["apart", "Differs from B"],
];

reprobatch.stateOf = (page, at) => ["sound", "checksum", "missing", "unreadable"][Number(page.state[at])];
reprobatch.badges = { checksum: "bytes differ", missing: "missing", unreadable: "unreadable" };

/** What an item is called: its prompt, or whatever its first text is. */
reprobatch.title = (page, at) => {
  const columns = Object.keys(reprobatch.facts.columns);
  const name = columns.includes("prompt") ? "prompt" : columns[0];
  const value = name === undefined ? null : reprobatch.value(page, name, at);
  return value === null ? "" : String(value);
};

reprobatch.label = (page, at) => {
  const badge = reprobatch.badges[reprobatch.stateOf(page, at)];
  return [`Item ${page.start + at}`, reprobatch.title(page, at), badge].filter(Boolean).join(", ");
};

/** An item's thumbnail: its cell of a sheet, which loads when the element is shown. */
reprobatch.thumb = (page, at) => {
  const { facts, el } = reprobatch;
  const number = Math.floor(at / facts.perSheet);
  const sheet = page.sheets[number];
  const plain = !sheet || page.pictured[at] === "0";
  const box = el("span", { class: plain ? "thumb plain" : "thumb", "aria-hidden": "true" });
  if (plain) {
    box.textContent = String(page.start + at);
    return box;
  }
  const [width, height, rows] = sheet;
  const cell = at % facts.perSheet;
  const columns = facts.sheetColumns;
  const share = (place, count) => (count > 1 ? (100 * place) / (count - 1) : 0);
  const image = el("span", { class: Math.max(width, height) <= 64 ? "cell pixels" : "cell" });
  const name = [page.number, number].map((each) => String(each).padStart(4, "0")).join("-");
  image.style.backgroundImage = `url("sheets/${name}.webp")`;
  image.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
  image.style.backgroundPosition =
    `${share(cell % columns, columns)}% ${share(Math.floor(cell / columns), rows)}%`;
  image.style.width = `${Math.min(1, width / height) * 100}%`;
  image.style.height = `${Math.min(1, height / width) * 100}%`;
  box.append(image);
  return box;
};

reprobatch.Grid = class {
  constructor(page, onOpen) {
    Object.assign(this, { page, onOpen, matches: [], active: 0, shown: new Map() });
    this.box = document.getElementById("grid");
    this.tiles = document.getElementById("tiles");
    this.box.addEventListener("scroll", () => this.soon());
    new ResizeObserver(() => this.measure()).observe(this.box);
    this.tiles.addEventListener("focusin", (event) => {
      const tile = event.target.closest("[data-at]");
      if (tile) this.activate(Number(tile.dataset.at));
    });
  }

  /** Show what matches, in its order. */
  show({ query, shard, state, sort, descending }) {
    const { page } = this;
    const wanted = query.trim().toLowerCase();
    const texts = Object.entries(page.own).map(([, own]) => [own.codes,
      own.values.map((value) => value !== null && String(value).toLowerCase().includes(wanted))]);
    const exact = wanted.replace(/^#/, "");
    const found = (at) => !wanted || String(page.start + at) === exact || String(page.seed[at]) === exact ||
      texts.some(([codes, hits]) => hits[codes[at]]);
    const inShard = (at) => shard === "" || reprobatch.shardOf(page.start + at) === Number(shard);
    const matches = [];
    for (let at = 0; at < page.state.length; at += 1) {
      if (inShard(at) && this.inState(at, state) && found(at)) matches.push(at);
    }
    const key = this.key(sort);
    matches.sort((a, b) => key(a) - key(b) || a - b);
    if (descending) matches.reverse();
    Object.assign(this, { matches, active: 0 });
    this.clear();
    document.getElementById("empty").hidden = matches.length > 0;
    this.box.scrollTop = 0;
    this.measure();
  }

  inState(at, state) {
    if (state === "") return true;
    if (state === "apart") return this.page.verdict !== undefined && "23".includes(this.page.verdict[at]);
    if (state === "tried") return String(reprobatch.shardOf(this.page.start + at)) in reprobatch.facts.attempts;
    const found = reprobatch.stateOf(this.page, at);
    return state === "faulty" ? found !== "sound" : found === state;
  }

  /** A number to sort by; what has none comes last. */
  key(sort) {
    const { page } = this;
    const last = (value) => (value === null || value === undefined ? Infinity : Number(value));
    if (sort === "index") return (at) => at;
    if (sort === "seed") return (at) => last(page.seed[at]);
    if (sort === "linf") return (at) => (page.verdict[at] === "0" ? -1 : last(page.linf[at]));
    const { values, codes } = page.own[sort.slice(4)];
    const order = values.map((value, code) => [value, code]);
    const before = (a, b) => (a === b ? 0 : a === null ? 1 : b === null ? -1 : a < b ? -1 : 1);
    order.sort(([a], [b]) => before(a, b));
    const rank = [];
    order.forEach(([, code], place) => { rank[code] = place; });
    return (at) => rank[codes[at]];
  }

  measure() {
    const style = getComputedStyle(this.tiles);
    const least = parseFloat(style.getPropertyValue("--tile"));
    const gap = parseFloat(style.getPropertyValue("--gap"));
    const width = this.tiles.clientWidth;
    if (!width) return;
    this.across = Math.max(1, Math.floor((width + gap) / (least + gap)));
    this.side = (width + gap) / this.across - gap;
    this.step = this.side + parseFloat(style.getPropertyValue("--caption")) + gap;
    this.gap = gap;
    this.tiles.style.height = `${Math.ceil(this.matches.length / this.across) * this.step}px`;
    this.clear();
    this.draw();
  }

  clear() {
    const focused = this.tiles.contains(document.activeElement);
    this.shown.forEach((tile) => tile.remove());
    this.shown.clear();
    this.refocus = focused;
  }

  soon() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => { this.drawing = false; this.draw(); });
  }

  draw() {
    if (!this.across) return;
    const top = this.box.scrollTop - this.tiles.offsetTop;
    const first = Math.max(0, Math.floor(top / this.step) - 1) * this.across;
    const stop = Math.min(this.matches.length,
      (Math.ceil((top + this.box.clientHeight) / this.step) + 1) * this.across);
    for (const [place, tile] of this.shown) {
      if ((place < first || place >= stop) && !tile.contains(document.activeElement)) {
        tile.remove();
        this.shown.delete(place);
      }
    }
    for (let place = first; place < stop; place += 1) {
      if (!this.shown.has(place)) this.put(place);
    }
    this.mark();
    if (this.refocus) this.focus(this.active);
    this.refocus = false;
  }

  put(place) {
    const { el } = reprobatch;
    const at = this.matches[place];
    const badge = reprobatch.badges[reprobatch.stateOf(this.page, at)];
    const button = el("button", { type: "button", "aria-label": reprobatch.label(this.page, at), tabindex: "-1",
      onclick: () => this.onOpen(place) },
    reprobatch.thumb(this.page, at),
    badge ? el("span", { class: "badge", text: badge }) : null,
    el("span", { class: "caption", "aria-hidden": "true" }, el("b", { text: String(this.page.start + at) }),
      el("span", { text: reprobatch.title(this.page, at), dir: "auto" })));
    const tile = el("li", { "data-at": place, "aria-setsize": this.matches.length, "aria-posinset": place + 1 }, button);
    const column = place % this.across;
    tile.style.width = `${this.side}px`;
    tile.style.height = `${this.step - this.gap}px`;
    tile.style.transform =
      `translate(${column * (this.side + this.gap)}px, ${Math.floor(place / this.across) * this.step}px)`;
    // in the order of the items, which is that in which they are read out
    const after = [...this.shown.keys()].filter((other) => other > place);
    this.tiles.insertBefore(tile, after.length ? this.shown.get(Math.min(...after)) : null);
    this.shown.set(place, tile);
  }

  /** One tile can be reached by Tab: the active one, or the first that is shown. */
  mark() {
    const places = [...this.shown.keys()];
    const reachable = this.shown.has(this.active) ? this.active : Math.min(...places);
    for (const [place, tile] of this.shown) tile.firstChild.tabIndex = place === reachable ? 0 : -1;
  }

  activate(place) {
    this.active = place;
    this.mark();
  }

  focus(place) {
    const row = Math.floor(place / this.across);
    const top = row * this.step + this.tiles.offsetTop;
    if (top < this.box.scrollTop) this.box.scrollTop = top - this.gap;
    const bottom = top + this.step;
    if (bottom > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = bottom - this.box.clientHeight;
    this.active = place;
    this.refocus = false;
    this.draw();
    this.shown.get(place)?.firstChild.focus({ preventScroll: true });
  }

  /** Take a key; whether it meant anything. */
  keyDown(key) {
    if (!this.matches.length) return false;
    const screen = Math.max(1, Math.floor(this.box.clientHeight / this.step)) * this.across;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.across, ArrowDown: this.across,
      PageUp: -screen, PageDown: screen, Home: -Infinity, End: Infinity };
    if (!(key in steps)) return false;
    const inside = this.tiles.contains(document.activeElement);
    const to = inside ? this.active + steps[key] : this.active;
    this.focus(Math.min(this.matches.length - 1, Math.max(0, to)));
    return true;
  }
};
