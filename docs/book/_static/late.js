// Late words: how long one machine writes for all advertisers, and what was measured for words that come so late.
"use strict";

(() => {
  const data = Play.data("late");
  const box = document.getElementById("late");
  const FASTEST = 6, steps = (place) => 2 ** (place / 4);
  const guides = [...new Set(Object.values(data)[0].settings.map((one) => one.guide))].filter((name) => name !== "none");
  const [set, dataset] = Play.menu("Data set ", Object.fromEntries(Object.keys(data).map((name) => [name, name])), draw);
  const [who, guide] = Play.menu("Whose instructions ", Object.fromEntries(guides.map((name) => [name, name])), draw);
  const advertisersOf = (place) => Math.round(48 * steps(place));
  const [many, advertisers] = Play.slider("Advertisers ", { min: 0, max: 48, step: 1, value: 0 },
    (place) => advertisersOf(place).toLocaleString("en"), draw);
  const [quick, speed] = Play.slider("Speed of the machine ", { min: -4 * FASTEST, max: 4 * FASTEST, step: 1, value: 0 },
    (place) => `${Number(steps(place).toPrecision(2))} times ours`, draw);
  const [length, minutes] = Play.slider("Length of a tick ", { min: 1, max: 60, step: 1, value: 30 }, (value) => `${value} min`, draw);
  const [policy, waiting] = Play.menu("Texts that are not done in time ",
    { "are waited for, and the last word holds": "wait", "are dropped: uncertain": "drop", "are dropped, and the last word holds": "hold" }, draw);
  const line = Play.element("p", { class: "told", "aria-live": "polite" });
  const queue = Play.element("div", { class: "queue" });
  const scores = Play.element("div");
  const note = Play.element("p", { class: "note" });
  box.append(set, who, many, quick, length, policy, line, queue, scores, note);

  function draw() {
    const day = data[dataset.value];
    const batches = Math.ceil(advertisersOf(Number(advertisers.value)) / day.batch);
    const writing = batches * day.batch_seconds / steps(Number(speed.value));
    const tick = Number(minutes.value) * 60;
    const load = writing / tick;
    const ticks = Math.max(1, Math.ceil(load - 1e-9));
    const missing = Math.max(0, 1 - 1 / load);
    const settings = day.settings.filter((one) => one.guide === guide.value);
    const late = waiting.value === "wait";
    // What was played of this kind, and how far it is from what the sliders say.
    const kinds = settings.filter((one) => (one.late === 1 && one.missing === 0) ||
      (late ? one.every > 1 : one.missing > 0 && one.hold === (waiting.value === "hold")));
    const far = (one) => (late ? Math.abs(Math.log(one.every) - Math.log(ticks)) : Math.abs(one.missing - missing));
    const near = kinds.reduce((best, one) => (far(one) < far(best) ? one : best));
    const base = settings.find((one) => one.late === 0);
    const silent = day.settings.find((one) => one.guide === "none");
    const how = load <= 1 ? "All words are there in time: each is one tick old when it is read (Fig. 4)."
      : late ? `Words are ${ticks} ticks old when all are there, and every ${ticks} ticks new ones come.`
      : `Words are there for ${Play.number(100 * (1 - missing), 0)} % of the advertisers; the others' texts are dropped.`;
    line.textContent = `${batches.toLocaleString("en")} ${batches === 1 ? "batch" : "batches"} of ${day.batch} texts ${batches === 1 ? "takes" : "take"} ${Play.number(writing / 60, 1)} minutes, ${Play.number(100 * load, 0)} % of a tick. ${how}`;
    box.dataset.ticks = ticks;
    box.dataset.setting = JSON.stringify(near);
    const blocks = Math.min(Math.max(ticks, 1), 8);
    queue.replaceChildren(
      ...Array.from({ length: blocks }, (_, k) => {
        const share = Math.max(0, Math.min(1, load - k));
        const bar = Play.element("i", { style: `width:${100 * share}%`, class: k && !late ? "dropped" : "" });
        return Play.element("div", { class: "tick", title: `tick ${k}` }, bar, Play.element("span", {}, k === 0 ? "this tick" : `+${k}`));
      }), ticks > blocks ? Play.element("span", {}, "…") : "");
    const name = (one) => one.missing ? `one tick late, ${100 * one.missing} % missing${one.hold ? ", the last word holds" : ""}`
      : one.late === 0 ? "at once (no delay)" : one.every > 1 ? `${one.late} ticks late, new ones every ${one.every}` : `${one.late} tick late`;
    const shown = [base, ...[...kinds].sort((a, b) => a.late - b.late || a.missing - b.missing), silent];
    const most = Math.max(...shown.map((one) => one.expected_score));
    scores.replaceChildren(Play.element("div", { class: "bars" }, ...shown.flatMap((one) => [
      Play.element("span", { class: one === near ? "near" : "" }, one === silent ? "no instruction" : name(one)),
      Play.element("div", { class: "bar" },
        Play.element("i", { style: `width:calc((100% - 4em) * ${one.expected_score / most})`, class: one === near ? "near" : "" }),
        Play.element("b", {}, Play.number(one.expected_score, 1))),
    ])));
    note.textContent = `Expected score of an advertiser and day; the played setting that comes nearest is filled. Texts: ${day.machine}. ${day.note}`;
  }

  draw();
})();
