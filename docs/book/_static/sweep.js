// N and temperature: recorded shares and gains of GQPO's selection, looked up.
"use strict";

(() => {
  const data = Play.data("sweep");
  const box = document.getElementById("sweep");
  const [set, dataset] = Play.menu("Data set ", Object.fromEntries(Object.keys(data).map((name) => [name, name])), draw);
  const first = Object.values(data)[0].curves;
  const unique = (name) => [...new Set(first.map((curve) => curve[name]))];
  const temperatures = unique("temperature"), sizes = first[0].n;
  const [mild, slider] = Play.slider("Temperature ", { min: 0, max: temperatures.length - 1, step: 1, value: temperatures.length - 1 },
    (place) => temperatures[place], draw);
  const [count, n] = Play.slider("N ", { min: 0, max: sizes.length - 1, step: 1, value: 2 }, (place) => sizes[place], draw);
  const named = Object.fromEntries(unique("tolerance").map((one) => [one === "excused" ? "the ratio does not count" : one, one]));
  const [strict, tolerance] = Play.menu("Tolerance of the ratio ", named, draw);
  tolerance.value = "excused";
  const line = Play.element("p", { class: "told", "aria-live": "polite" });
  const pictures = Play.element("div", { class: "charts" });
  const note = Play.element("p", { class: "note" });
  box.append(set, mild, count, strict, line, pictures, note);

  function draw() {
    const { curves, note: words } = data[dataset.value];
    const shown = curves.filter((curve) => curve.tolerance === tolerance.value);
    const own = shown.find((curve) => curve.temperature === temperatures[Number(slider.value)]);
    const place = Number(n.value);
    line.textContent = `N = ${sizes[place]} at temperature ${own.temperature}: ${Play.number(100 * own.accepted[place], 0)} % of the texts are accepted, ${Play.number(100 * own.learned[place], 0)} % of the groups leave something to learn, gain ${Play.number(own.gain[place], 4)}.`;
    box.dataset.learned = own.learned[place];
    const x = { range: [sizes[0], sizes.at(-1)], label: "N, texts per decision", ticks: sizes };
    const series = (name) => shown.map((curve, colour) => ({ x: sizes, y: curve[name], colour, mark: curve === own ? place : undefined }));
    const y = { low: 0, high: 1 };
    const most = Math.max(...curves.flatMap((curve) => curve.gain));
    pictures.replaceChildren(
      Play.chart({ title: "groups that leave something", x, y, series: series("learned") }),
      Play.chart({ title: "gain: mean relative-Q of what is learned", x, y: { low: 0, high: most }, series: series("gain") }),
      Play.chart({ title: "accepted texts", x, y, series: series("accepted") }),
      Play.legend(shown.map((curve, colour) => [`temperature ${curve.temperature}`, colour])),
    );
    note.textContent = words;
  }

  draw();
})();
