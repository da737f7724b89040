// Be the bidder: 48 decisions on recorded response curves, as lbm_core.auction.response_tables.table_replay plays them.
"use strict";

(() => {
  const days = Play.data("bidder");
  const box = document.getElementById("bidder");
  const TICKS = 48;
  let day, plan;

  // What a list of places on the grid of alphas buys; null bids nothing.
  function played(places) {
    const result = { costs: [], conversions: [], multiples: [] };
    let left = day.budget;
    places.forEach((place, tick) => {
      const cost = place === null ? 0 : day.costs[tick][place];
      const share = left < day.least_budget ? 0 : cost > left ? left / cost : 1;
      result.costs.push(cost * share);
      result.conversions.push(place === null ? 0 : day.conversions[tick][place] * share);
      result.multiples.push(place === null || share === 0 ? null : day.multiples[place]);
      left -= cost * share;
    });
    return result;
  }

  const sums = (values) => values.reduce((sum, value) => [...sum, (sum.at(-1) ?? 0) + value], []);

  function standing(result, ticks) {
    const cost = sums(result.costs.slice(0, ticks)).at(-1) ?? 0;
    const count = sums(result.conversions.slice(0, ticks)).at(-1) ?? 0;
    const ratio = count > 0 ? cost / count / day.target : null;
    return { cost, count, ratio, score: count * Math.min(1, ratio ? 1 / ratio : 1) ** 2 };
  }

  const [choice, which] = Play.menu("Advertiser ", Object.fromEntries(days.map((one, place) => [
    `${one.dataset}, advertiser ${one.advertiser}: budget ${one.budget.toLocaleString("en")}, C = ${one.target}`, place])), start);
  const [dial, slider, told] = Play.slider("alpha over C ", { min: -1, max: 1, step: 1 },
    (place) => (place < 0 ? "no bid" : day ? Play.number(day.multiples[place], 2) : ""), () => {});
  const button = (text, ticks) => Play.element("button", { type: "button", on: { click: () => advance(ticks) } }, text);
  const onward = [button("next tick", 1), button("next 8 ticks", 8), button("finish the day", TICKS)];
  const again = Play.element("button", { type: "button", class: "quiet", on: { click: start } }, "start again");
  const line = Play.element("p", { class: "told", "aria-live": "polite" });
  const pictures = Play.element("div", { class: "charts" });
  const board = Play.element("div");
  box.append(choice, dial, Play.element("div", { class: "buttons" }, ...onward, again), line, board, pictures);

  function start() {
    day = days[Number(which.value)];
    plan = [];
    slider.min = -1;
    slider.max = day.multiples.length - 1;
    const one = day.multiples.reduce((near, value, k) => (Math.abs(value - 1) < Math.abs(day.multiples[near] - 1) ? k : near), 0);
    slider.value = one;
    told();
    draw();
  }

  function advance(ticks) {
    const place = Number(slider.value) < 0 ? null : Number(slider.value);
    plan.push(...Array(Math.min(ticks, TICKS - plan.length)).fill(place));
    draw();
  }

  function draw() {
    const over = plan.length === TICKS;
    const all = [["you", played(plan)], ...Object.entries(day.rivals)];
    if (over) all.push(["best constant", played(Array(TICKS).fill(day.best.place))]);
    onward.forEach((one) => (one.disabled = over));
    const now = standing(all[0][1], plan.length);
    const left = Math.max(0, 1 - now.cost / day.budget);
    line.textContent = over
      ? `The day is over: your score is ${Play.number(now.score)}, ${Play.number(100 * now.score / day.best.score, 0)} % of the best constant alpha in hindsight (${Play.number(day.multiples[day.best.place], 2)} C).`
      : `Tick ${plan.length} of ${TICKS} is next: ${day.impressions[plan.length].toLocaleString("en")} impressions will come; ${Play.number(100 * left, 0)} % of the budget is left.`;
    const rows = all.map(([name, result]) => {
      const s = standing(result, plan.length);
      return [name, `${Play.number(100 * s.cost / day.budget, 0)} %`, Play.number(s.count), Play.number(s.ratio, 2), Play.number(s.score)];
    });
    board.replaceChildren(Play.table(["so far", "spent", "conversions", "CPA / C", "score"], rows));
    board.dataset.score = now.score;
    board.dataset.tick = plan.length;
    const x = { range: [0, TICKS], label: "tick", ticks: [0, 8, 16, 24, 32, 40, 48] };
    const series = (values) => all.map(([, result], colour) => {
      const y = values(result).slice(0, plan.length);
      return { x: y.map((_, k) => k + 1), y, colour };
    });
    const ratio = (result) => {
      const [cost, count] = [sums(result.costs), sums(result.conversions)];
      return cost.map((value, k) => (count[k] > 0 ? Math.min(value / count[k] / day.target, 3) : null));
    };
    pictures.replaceChildren(
      Play.chart({ title: "alpha over C", x, y: { low: 0, high: 2 }, series: series((r) => r.multiples.map((m) => (m ? Math.min(m, 4) : null))) }),
      Play.chart({ title: "budget left", x, y: { low: 0, high: 1 }, series: series((r) => sums(r.costs).map((c) => 1 - c / day.budget)) }),
      Play.chart({ title: "conversions so far", x, y: { low: 0, high: 1 }, series: series((r) => sums(r.conversions)) }),
      Play.chart({ title: "CPA over C so far", x, y: { low: 0, high: 1.5 }, rule: 1, series: series(ratio) }),
      Play.legend(all.map(([name], colour) => [name, colour])),
    );
  }

  start();
})();
