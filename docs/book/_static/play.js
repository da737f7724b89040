// What the interactive parts share: elements, controls and line charts in SVG. No library, no network.
"use strict";

const Play = {
  data(name) {
    return JSON.parse(document.getElementById(`${name}-data`).textContent);
  },

  element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") for (const [event, run] of Object.entries(value)) made.addEventListener(event, run);
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  },

  // A labelled menu; `options` maps what is shown to its value.
  menu(label, options, run) {
    const listed = Object.entries(options).map(([text, value]) => Play.element("option", { value }, text));
    const select = Play.element("select", { on: { change: run } }, ...listed);
    return [Play.element("label", {}, label, select), select];
  },

  // A labelled slider; `shown` writes its value beside it.
  slider(label, range, shown, run) {
    const output = Play.element("output");
    const input = Play.element("input", { type: "range", ...range });
    const told = () => (output.textContent = shown(Number(input.value)));
    input.addEventListener("input", () => { told(); run(); });
    told();
    return [Play.element("label", {}, label, input, output), input, told];
  },

  // A table of texts: heads, then rows.
  table(heads, rows) {
    const line = (tag, texts) => Play.element("tr", {}, ...texts.map((text) => Play.element(tag, {}, String(text))));
    const body = Play.element("tbody", {}, ...rows.map((row) => line("td", row)));
    const made = Play.element("table", {}, Play.element("thead", {}, line("th", heads)), body);
    return Play.element("div", { class: "table-box" }, made);
  },

  number(value, digits = 1) {
    return value === null || !Number.isFinite(value) ? "–" : value.toFixed(digits).replace("-", "−");
  },

  ticks(low, high) {
    const rough = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((unit) => unit * power).find((unit) => unit >= rough * 0.999);
    const made = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) made.push(value);
    return made;
  },

  // A line chart: series {name, x, y, mark}, a point without a value breaks its line; `rule` draws a level.
  chart({ title, x, y, series, rule }) {
    const [width, height, left, right, top, bottom] = [360, 210, 46, 10, 24, 34];
    const svg = (tag, attributes, text = "") => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      made.textContent = text;
      return made;
    };
    const values = series.flatMap((one) => one.y).filter((value) => value !== null && Number.isFinite(value));
    const [xlow, xhigh] = x.range;
    const ylow = Math.min(y.low ?? Infinity, ...values);
    const yhigh = Math.max(y.high ?? -Infinity, ...values, ylow + 1e-9);
    const across = (value) => left + ((value - xlow) / (xhigh - xlow)) * (width - left - right);
    const up = (value) => height - bottom - ((value - ylow) / (yhigh - ylow)) * (height - top - bottom);
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title, class: "chart" });
    root.append(svg("text", { x: left, y: 14, class: "title" }, title));
    for (const value of Play.ticks(ylow, yhigh)) {
      root.append(svg("line", { x1: left, x2: width - right, y1: up(value), y2: up(value), class: "grid" }));
      root.append(svg("text", { x: left - 5, y: up(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(6)))));
    }
    for (const value of x.ticks ?? Play.ticks(xlow, xhigh))
      root.append(svg("text", { x: across(value), y: height - bottom + 15, "text-anchor": "middle" }, String(value)));
    root.append(svg("text", { x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle" }, x.label));
    if (rule !== undefined && rule <= yhigh && rule >= ylow)
      root.append(svg("line", { x1: left, x2: width - right, y1: up(rule), y2: up(rule), class: "rule" }));
    series.forEach((one, place) => {
      let path = "", drawing = false;
      one.x.forEach((value, k) => {
        const has = one.y[k] !== null && Number.isFinite(one.y[k]);
        if (has) path += `${drawing ? "L" : "M"}${across(value).toFixed(1)} ${up(one.y[k]).toFixed(1)}`;
        drawing = has;
      });
      const colour = `colour-${one.colour ?? place}`;
      root.append(svg("path", { d: path, class: `series ${colour}` }));
      if (one.mark !== undefined && one.y[one.mark] !== undefined && one.y[one.mark] !== null)
        root.append(svg("circle", { cx: across(one.x[one.mark]), cy: up(one.y[one.mark]), r: 5, class: `mark ${colour}` }));
    });
    return root;
  },

  legend(names) {
    const keys = names.map(([name, colour]) =>
      Play.element("span", {}, Play.element("i", { class: `key colour-${colour}` }), name));
    return Play.element("div", { class: "legend" }, ...keys);
  },
};
