"use strict";

// Puts the page together: tabs, tools, grid, item, keyboard, and the address that says where one is.

reprobatch.start = async () => {
  const { facts, el, count } = reprobatch;
  const by = (id) => document.getElementById(id);
  const note = by("note");
  const tell = (text) => { note.textContent = text; note.hidden = !text; };
  if (!facts) {
    tell("data/dataset.js is not there: the folder of this report is not whole.");
    return;
  }

  // the head
  const faults = [["checksum", "with other bytes"], ["missing", "missing"], ["unreadable", "unreadable"]]
    .filter(([state]) => facts.states[state]).map(([state, word]) => `${facts.states[state].toLocaleString("en")} ${word}`);
  const shown = facts.shown < facts.items ? `the first ${facts.shown.toLocaleString("en")} of ${count(facts.items, "item")}`
    : count(facts.items, "item");
  by("summary").replaceChildren(`${shown} · `, el("code", { text: facts.place }), " · ",
    faults.length ? el("span", { class: "bad", text: faults.join(", ") }) : "all sound");
  if (!facts.pictures) tell("There are no pictures in this report: of these outputs none can be shown without the model that decodes them.");

  // tabs
  const names = ["items", "run", "contract", "environment", ...(facts.compare ? ["comparison"] : [])];
  const drawn = new Set(["items"]);
  const tabs = names.map((name) => el("button", { type: "button", role: "tab", id: `tab-${name}`,
    "aria-controls": `panel-${name}`, text: name[0].toUpperCase() + name.slice(1), onclick: () => select(name) }));
  const select = (name, quietly = false) => {
    names.forEach((each, at) => {
      by(`panel-${each}`).hidden = each !== name;
      tabs[at].setAttribute("aria-selected", String(each === name));
      tabs[at].tabIndex = each === name ? 0 : -1;
    });
    if (!drawn.has(name)) reprobatch.tabs[name](by(`panel-${name}`));
    drawn.add(name);
    if (!quietly) address(name);
  };
  by("tabs").append(...tabs);
  by("tabs").addEventListener("keydown", (event) => {
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const tab = tabs[(to + tabs.length) % tabs.length];
    tab.focus();
    tab.click();
  });
  const address = (name) => history.replaceState(null, "", `#${name}`);

  // tools
  const [query, shard, state, sort, direction] = ["query", "shard", "state", "sort", "direction"].map(by);
  const options = (box, pairs) => box.replaceChildren(...pairs.map(([value, text]) => el("option", { value, text })));
  const tried = Object.keys(facts.attempts).length;
  const known = { apart: facts.compare !== null, tried: tried > 0, checksum: facts.states.checksum,
    missing: facts.states.missing, unreadable: facts.states.unreadable };
  options(state, reprobatch.states.filter(([name]) => !(name in known) || known[name]));
  options(sort, [["index", "By index"], ["seed", "By seed"],
    ...Object.keys(facts.columns).map((name) => [`own.${name}`, `By ${name}`]),
    ...(facts.compare ? [["linf", "By distance to B"]] : [])]);
  const pages = by("page");
  by("page-label").hidden = facts.pages.length < 2;
  options(pages, facts.pages.map((page, at) =>
    [at, `Items ${page.start.toLocaleString("en")} … ${(page.stop - 1).toLocaleString("en")}`]));

  const item = new reprobatch.Item();
  let grid = null;
  const refresh = () => {
    if (!grid) return;
    const descending = direction.getAttribute("aria-pressed") === "true";
    grid.show({ query: query.value, shard: shard.value, state: state.value, sort: sort.value, descending });
    const all = grid.page.state.length;
    const found = grid.matches.length;
    by("count").textContent = found === all ? count(all, "item") : `${found.toLocaleString("en")} of ${count(all, "item")}`;
    elsewhere();
  };
  // an index that is looked for may lie on another page
  const elsewhere = () => {
    const index = /^\s*#?(\d+)\s*$/.exec(query.value);
    const at = index ? facts.pages.findIndex((page) => Number(index[1]) >= page.start && Number(index[1]) < page.stop) : -1;
    if (at < 0 || at === grid.page.number) return;
    by("count").append(" · ", el("button", { type: "button", class: "link",
      text: `item ${index[1]} is on another page`, onclick: () => { pages.value = String(at); turn(at); } }));
  };
  const open = (place) => {
    const told = (at) => address(`item-${grid.page.start + grid.matches[at]}`);
    grid.activate(place);
    told(place);
    item.open(grid, place, told, () => { address("items"); grid.focus(item.place); });
  };
  const turn = async (number) => {
    let page;
    try {
      page = await reprobatch.load(number);
    } catch {
      tell("The items of this page are not there: the folder of this report is not whole.");
      return;
    }
    if (grid) grid.page = page;
    else grid = new reprobatch.Grid(page, open);
    const first = reprobatch.shardOf(page.start);
    const last = reprobatch.shardOf(page.start + page.state.length - 1);
    options(shard, [["", "All shards"],
      ...Array.from({ length: last - first + 1 }, (_, at) => [first + at, `Shard ${first + at}`])]);
    refresh();
  };
  let typed = 0;
  query.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(refresh, 80); });
  [shard, state, sort].forEach((box) => box.addEventListener("change", refresh));
  pages.addEventListener("change", () => turn(Number(pages.value)));
  direction.addEventListener("click", () => {
    const down = direction.getAttribute("aria-pressed") !== "true";
    direction.setAttribute("aria-pressed", String(down));
    direction.textContent = down ? "↓" : "↑";
    refresh();
  });
  by("tools").addEventListener("submit", (event) => event.preventDefault());

  // keyboard
  document.addEventListener("keydown", (event) => {
    if (item.box.open || event.altKey || event.ctrlKey || event.metaKey) return;
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && event.target === query) {
      query.value = "";
      refresh();
      if (grid.matches.length) grid.focus(0);
    } else if (event.target === query && ["ArrowDown", "Enter"].includes(event.key)) {
      clearTimeout(typed);
      refresh();
      if (grid.matches.length) grid.focus(0);
      event.preventDefault();
    } else if (event.key === "/" && !typing) {
      event.preventDefault();
      select("items");
      query.focus();
      query.select();
    } else if (!typing && !by("panel-items").hidden && grid && grid.keyDown(event.key)) {
      event.preventDefault();
    }
  });

  // the address
  const go = async () => {
    const name = location.hash.slice(1);
    const index = /^item-(\d+)$/.exec(name);
    if (!index) {
      if (names.includes(name)) select(name, true);
      return;
    }
    const at = facts.pages.findIndex((page) => Number(index[1]) >= page.start && Number(index[1]) < page.stop);
    if (at < 0 || !grid) return;
    select("items", true);
    if (grid.page.number !== at) {
      pages.value = String(at);
      await turn(at);
    }
    let place = grid.matches.indexOf(Number(index[1]) - grid.page.start);
    if (place < 0) { // filtered away
      query.value = "";
      shard.value = "";
      state.value = "";
      refresh();
      place = grid.matches.indexOf(Number(index[1]) - grid.page.start);
    }
    open(place);
  };
  addEventListener("hashchange", go);

  select("items", true);
  await turn(0);
  await go();
  document.documentElement.dataset.ready = "true";
};

reprobatch.start();
