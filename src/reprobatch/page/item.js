"use strict";

// One item, large, with all that is known of it and what makes it again.

reprobatch.Item = class {
  constructor() {
    this.box = document.getElementById("item");
    this.box.addEventListener("close", () => { if (this.onClose) this.onClose(); });
    this.box.addEventListener("click", (event) => { if (event.target === this.box) this.box.close(); });
    this.box.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || event.target.closest("select, pre") || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      this.go(step);
    });
  }

  /** Open the item at a place of the grid's matches. */
  open(grid, place, onMove, onClose) {
    Object.assign(this, { grid, place, onMove, onClose });
    this.draw();
    if (!this.box.open) this.box.showModal();
    this.box.querySelector("[data-close]").focus();
  }

  go(step) {
    const place = this.place + step;
    if (place < 0 || place >= this.grid.matches.length) return;
    this.place = place;
    const held = document.activeElement?.dataset.step;
    this.draw();
    (this.box.querySelector(`[data-step="${held}"]:not(:disabled)`) ?? this.box.querySelector("[data-close]")).focus();
    this.onMove(place);
  }

  draw() {
    const { el } = reprobatch;
    const { page, matches } = this.grid;
    const at = matches[this.place];
    const arrow = (step, text, label) => el("button", { type: "button", "data-step": step, text, "aria-label": label,
      title: label, disabled: this.place + step < 0 || this.place + step >= matches.length, onclick: () => this.go(step) });
    const head = el("div", { class: "head" },
      el("h2", { id: "item-title", text: `Item ${page.start + at}` }),
      el("span", { class: "of", text: `${this.place + 1} of ${matches.length.toLocaleString("en")}` }),
      arrow(-1, "←", "Previous item"), arrow(1, "→", "Next item"),
      el("button", { type: "button", "data-close": "", text: "✕", "aria-label": "Close", title: "Close (Esc)",
        onclick: () => this.box.close() }));
    const body = el("div", { class: "body" }, this.picture(page, at),
      el("div", { class: "facts" }, this.fault(page, at), this.facts(page, at), ...this.again(page, at)));
    this.box.replaceChildren(head, body);
  }

  picture(page, at) {
    const { el } = reprobatch;
    const label = reprobatch.label(page, at);
    if (page.pictured[at] === "2") {
      const number = String(page.number).padStart(4, "0");
      return el("div", { class: "large" }, el("img", { src: `pictures/${number}/${page.start + at}.webp`, alt: label }));
    }
    const plain = page.pictured[at] === "0";
    const said = plain ? `No picture of item ${page.start + at}` : label;
    return el("div", { class: plain ? "large none" : "large", role: "img", "aria-label": said }, reprobatch.thumb(page, at));
  }

  fault(page, at) {
    const why = page.why[at];
    return why ? reprobatch.el("p", { class: "fault" },
      reprobatch.el("b", { text: `${reprobatch.badges[reprobatch.stateOf(page, at)]}: ` }), why) : null;
  }

  facts(page, at) {
    const { el } = reprobatch;
    const own = Object.keys(page.own).map((name) => [name, reprobatch.value(page, name, at)]);
    const rows = [...own, ["seed", page.seed[at]], ["checksum", page.checksum[at]],
      ["shard", reprobatch.shardOf(page.start + at)], ["batch", page.batch[at]], ["slot", page.slot[at]],
      ["output", page.shape.values[page.shape.codes[at]]]];
    if (page.verdict && page.verdict[at] !== "0") {
      const verdict = ["", "identical", "within", "different"][page.verdict[at]];
      rows.push(["compared with B", `${verdict}, L∞ ${reprobatch.number(page.linf[at])}`]);
    }
    const list = el("dl");
    for (const [name, value] of rows) {
      const mono = ["seed", "checksum"].includes(name);
      list.append(el("dt", { text: name }), el("dd", { class: mono ? "mono" : null, text: value ?? "unknown", dir: "auto" }));
    }
    return list;
  }

  again(page, at) {
    const { el, facts, code } = reprobatch;
    const parts = [el("h3", { text: "Make it again" }), code(`${facts.command} ${page.start + at}`, "command")];
    parts.push(el("h3", { text: "In plain diffusers" }));
    const { why, alone } = facts.snippet;
    const missing = page.seed[at] === null ? "the item is not there" : null;
    if (why || missing) return [...parts, el("p", { class: "quiet", text: `No lines for this item: ${why ?? missing}.` })];
    const block = el("div");
    const fill = (copies) => {
      const lines = reprobatch.lines(page, at, copies);
      block.replaceChildren(lines === null
        ? el("p", { class: "quiet", text: "Its batch goes on after the last item of this report." })
        : code(lines, "lines of Python"));
    };
    fill(alone);
    if (alone) {
      const slots = el("select", { onchange: () => fill(slots.value === "copies") },
        el("option", { value: "copies", text: "copies of this item" }),
        el("option", { value: "batch", text: "its batch's items" }));
      parts.push(el("label", { class: "slots" }, el("span", { text: "The batch's slots hold" }), slots));
    }
    return [...parts, block, el("p", { class: "quiet", text: "They print the checksum above, in the recorded environment." })];
  }
};
