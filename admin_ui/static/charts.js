// Draws every `figure[data-chart]` from the JSON at its address, with uPlot:
//   {"x": [unix seconds], "step": seconds between two, "kind": "bars" | "lines" | "stacked",
//    "unit": "", "ms" or "%", "series": [{"label": "Requests", "tone": "accent", "values": [1, null]}]}
// Tones are names of custom properties of app.css: accent, good, bad, warning, soft.
(function () {
  "use strict";

  function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

  var compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });
  var full = new Intl.NumberFormat(undefined, { maximumFractionDigits: 2 });

  function written(value, unit, isShort) {
    if (value === null || value === undefined) return "–";
    if (unit === "ms") {
      return value < 1000 ? full.format(Math.round(value)) + " ms" : full.format(value / 1000) + " s";
    }
    if (unit === "%") return full.format(value * 100) + " %";
    return (isShort ? compact : full).format(value);
  }

  function Chart(figure) {
    this.figure = figure;
    this.plot = figure.querySelector(".plot");
    this.drawn = null;
    this.data = null;
    var chart = this;
    new ResizeObserver(function () { chart.resize(); }).observe(this.plot);
    document.addEventListener("themechange", function () { chart.draw(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () { chart.draw(); });
    this.load();
    var every = Number(figure.dataset.every);
    if (every) {
      setInterval(function () {
        if (!document.hidden && figure.isConnected) chart.load();
      }, every * 1000);
    }
  }

  Chart.prototype.load = function () {
    var chart = this;
    if (chart.isLoading) return;
    chart.isLoading = true;
    fetch(chart.figure.dataset.chart, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(20000) })
      .then(function (answer) {
        if (!answer.ok) throw new Error(String(answer.status));
        return answer.json();
      })
      .then(function (data) { chart.data = data; chart.draw(); })
      .catch(function () { if (!chart.data) chart.say("The figures could not be loaded."); })
      .finally(function () { chart.isLoading = false; });
  };

  Chart.prototype.say = function (text) {
    this.clear();
    var line = document.createElement("p");
    line.textContent = text;
    this.plot.replaceChildren(line);
  };

  Chart.prototype.clear = function () {
    if (this.drawn) this.drawn.destroy();
    this.drawn = null;
    this.plot.replaceChildren();
  };

  Chart.prototype.resize = function () {
    if (this.drawn && this.plot.clientWidth) this.drawn.setSize(this.size());
  };

  Chart.prototype.size = function () { return { width: this.plot.clientWidth, height: 200 }; };

  Chart.prototype.draw = function () {
    var data = this.data;
    if (!data || !this.plot.clientWidth) return;
    var hasValue = data.series.some(function (series) {
      return series.values.some(function (value) { return value; });
    });
    if (!hasValue) { this.say("Nothing in this time."); this.describe(data); return; }
    this.clear();
    this.drawn = new uPlot(this.options(data), [data.x].concat(this.values(data)), this.plot);
    this.describe(data);
  };

  // Stacked series are drawn as sums, the highest first.
  Chart.prototype.values = function (data) {
    if (data.kind !== "stacked") return data.series.map(function (series) { return series.values; });
    var sums = data.x.map(function () { return 0; });
    return data.series.map(function (series) {
      return series.values.map(function (value, i) { sums[i] += value || 0; return sums[i]; });
    }).reverse();
  };

  Chart.prototype.options = function (data) {
    var isStacked = data.kind === "stacked";
    var isBars = data.kind === "bars" || isStacked;
    var order = isStacked ? data.series.slice().reverse() : data.series;
    var soft = css("--pico-muted-color");
    var line = css("--pico-muted-border-color");
    var font = "12px " + css("--pico-font-family");
    var axis = { stroke: soft, font: font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    var half = (data.step || 0) / 2;
    return Object.assign(this.size(), {
      cursor: { y: false, points: { show: !isBars } },
      legend: { live: true },
      scales: {
        x: { range: function (u, low, high) { return [low - half, high + half]; } },
        y: { range: function (u, low, high) { return [0, Math.max(high, 1e-9) * 1.1]; } },
      },
      axes: [
        Object.assign({ space: 60 }, axis),
        Object.assign({ size: 60, values: function (u, values) { return values.map(function (value) { return written(value, data.unit, true); }); } }, axis),
      ],
      series: [{ label: "Time", value: function (u, value) { return value === null ? "–" : moment(value, data.step); } }].concat(
        order.map(function (series) {
          var color = css("--tone-" + series.tone);
          return {
            label: series.label,
            stroke: color,
            width: isBars ? 0 : 2,
            fill: isBars ? color : color + "22",
            spanGaps: false,
            paths: isBars ? uPlot.paths.bars({ size: [0.8, 48, 1], align: 0 }) : undefined,
            points: { show: !isBars && series.values.length < 3 },
            value: function (u, value, seriesIndex, i) {
              return i === null || i === undefined ? "–" : written(series.values[i], data.unit, false);
            },
          };
        })
      ),
    });
  };

  function moment(seconds, step) {
    var style = step >= 86400 ? { dateStyle: "medium", timeZone: "UTC" } : { dateStyle: "medium", timeStyle: "short" };
    return new Intl.DateTimeFormat(undefined, style).format(new Date(seconds * 1000));
  }

  // What a picture shows, for those who do not see it.
  Chart.prototype.describe = function (data) {
    var title = this.figure.querySelector("figcaption").textContent;
    var parts = data.series.map(function (series) {
      var known = series.values.filter(function (value) { return value !== null; });
      if (!known.length) return series.label + ": nothing";
      var last = known[known.length - 1];
      var most = Math.max.apply(null, known);
      return series.label + ": now " + written(last, data.unit) + ", at most " + written(most, data.unit);
    });
    this.plot.setAttribute("aria-label", title + ". " + parts.join("; "));
  };

  function begin(root) {
    root.querySelectorAll("figure[data-chart]:not([data-begun])").forEach(function (figure) {
      figure.dataset.begun = "1";
      new Chart(figure);
    });
  }

  document.addEventListener("htmx:load", function (event) { begin(event.detail.elt); });
  begin(document);
})();
