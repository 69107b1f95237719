// Draws every `figure[data-chart]` from the JSON at its address, with uPlot:
//   {"x": [unix seconds], "step": seconds between two, "kind": "lines" | "stacked",
//    "unit": "" or "ms", "zone": "UTC", or absent for that of the browser, "series": [{"label": "Requests", "tone": "accent", "values": [1, null]}]}
// Tones are names of custom properties of app.css: accent, good, bad, warning, soft.
(function () {
  "use strict";

  function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

  // Numbers have the format of admin_ui/widgets/formats.py in every language of the browser.
  var full = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  var SHORT = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];
  var language = window.pageLanguage;

  var HOUR = 3600;
  var DAY = 24 * HOUR;
  // Steps of the axis of counts, which are whole numbers.
  var WHOLE = [1, 2, 5];
  while (WHOLE.length < 48) WHOLE.push(10 * WHOLE[WHOLE.length - 3]);
  function formatsIn(zone) {
    return {
      minute: new Intl.DateTimeFormat(language, { hour: "numeric", minute: "2-digit", timeZone: zone }),
      hour: new Intl.DateTimeFormat(language, { hour: "numeric", timeZone: zone }),
      day: new Intl.DateTimeFormat(language, { month: "short", day: "numeric", timeZone: zone }),
      span: new Intl.DateTimeFormat(language, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit", timeZone: zone }),
      whole: new Intl.DateTimeFormat(language, { dateStyle: "medium", timeZone: zone }),
    };
  }
  var local = formatsIn(undefined);
  var utc = formatsIn("UTC");

  function short(value) {
    var rounded = Number(value.toPrecision(3));
    for (var i = 0; i < SHORT.length; i++) {
      if (Math.abs(rounded) >= SHORT[i][0]) return Number((rounded / SHORT[i][0]).toPrecision(3)) + SHORT[i][1];
    }
    return String(rounded);
  }

  function format(value, unit, isShort) {
    if (value === null || value === undefined) return "–";
    if (unit === "ms") {
      if (value === 0) return "0";
      return value < 999.5 ? full.format(Math.round(value)) + " ms" : short(value / 1000) + " s";
    }
    return isShort ? short(value) : full.format(value);
  }

  function Chart(figure) {
    this.figure = figure;
    this.plot = figure.querySelector(".plot");
    this.drawn = null;
    this.shape = null;
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
      .then(function (response) {
        if (response.status === 401) document.dispatchEvent(new CustomEvent("sessionended"));
        if (!response.ok) throw new Error(String(response.status));
        return response.json();
      })
      .then(function (data) { chart.data = data; chart.update(); })
      .catch(function () { if (!chart.data) chart.showText("The figures could not be loaded."); })
      .finally(function () { chart.isLoading = false; });
  };

  Chart.prototype.showText = function (text) {
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
    if (!this.plot.clientWidth) return;
    if (this.drawn) this.drawn.setSize(this.size());
    else this.draw();
  };

  Chart.prototype.size = function () { return { width: this.plot.clientWidth, height: 200 }; };

  // Puts new values into the existing chart, so that the tooltip stays.
  Chart.prototype.update = function () {
    var shape = shapeOf(this.data);
    if (this.drawn && shape === this.shape && hasValue(this.data)) {
      this.drawn.setData([this.data.x].concat(this.values(this.data)));
      this.describe(this.data);
    } else this.draw();
    this.shape = shape;
  };

  Chart.prototype.draw = function () {
    var data = this.data;
    if (!data || !this.plot.clientWidth) return;
    if (!hasValue(data)) { this.showText("No data for this period."); this.describe(data); return; }
    this.clear();
    this.drawn = new uPlot(this.options(data), [data.x].concat(this.values(data)), this.plot);
    this.plot.append(legend(data));
    this.describe(data);
  };

  function hasValue(data) {
    return data.series.some(function (series) {
      return series.values.some(function (value) { return value; });
    });
  }

  function shapeOf(data) {
    return JSON.stringify([data.kind, data.unit, data.step, data.series.map(function (s) { return [s.label, s.tone]; })]);
  }

  // uPlot draws stacked series as sums, the highest first.
  Chart.prototype.values = function (data) {
    if (data.kind !== "stacked") return data.series.map(function (series) { return series.values; });
    var sums = data.x.map(function () { return 0; });
    return data.series.map(function (series) {
      return series.values.map(function (value, i) { sums[i] += value || 0; return sums[i]; });
    }).reverse();
  };

  Chart.prototype.options = function (data) {
    var chart = this;
    var isStacked = data.kind === "stacked";
    var order = isStacked ? data.series.slice().reverse() : data.series;
    var soft = css("--pico-muted-color");
    var line = css("--pico-muted-border-color");
    var font = "12px " + css("--pico-font-family");
    var axis = { stroke: soft, font: font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    var half = (data.step || 0) / 2;
    return Object.assign(this.size(), {
      tzDate: function (seconds) {
        var date = new Date(seconds * 1000);
        return isUtc(data) ? uPlot.tzDate(date, "Etc/UTC") : date;
      },
      // Space for the last label of the time axis, which is centered at the edge of the plot.
      padding: [8, 28, 0, 0],
      cursor: { y: false, drag: { setScale: false, x: false }, points: { show: !isStacked, size: 7 } },
      legend: { show: false },
      hooks: { setCursor: [function (u) { chart.point(u); }] },
      scales: {
        x: { range: function (u, low, high) { return [low - half, high + half]; } },
        y: { range: function (u, low, high) { return [0, Math.max(high, 1e-9) * 1.1]; } },
      },
      axes: [
        Object.assign({}, axis, { space: 64, size: 30, grid: { show: false }, values: function (u, values) { return values.map(function (value) { return tick(value, data); }); } }),
        Object.assign({}, axis, { size: 58, space: 36, incrs: data.unit ? undefined : WHOLE, values: function (u, values) { return values.map(function (value) { return format(value, data.unit, true); }); } }),
      ],
      series: [{}].concat(
        order.map(function (series) {
          var color = css("--tone-" + series.tone);
          return {
            stroke: color,
            width: isStacked ? 0 : 2,
            fill: isStacked ? color : undefined,
            spanGaps: false,
            paths: isStacked ? uPlot.paths.bars({ size: [0.8, 48, 1], align: 0 }) : undefined,
            // A value between two gaps is drawn as a point, because it forms no line.
            points: { show: !isStacked, size: 4, fill: color, width: 0 },
          };
        })
      ),
    });
  };

  // Shows the values at the cursor in a tooltip.
  Chart.prototype.point = function (u) {
    var data = this.data;
    var i = u.cursor.idx;
    var tip = u.over.querySelector(".tip");
    if (i === null || i === undefined || data.x[i] === undefined) { if (tip) tip.remove(); return; }
    if (!tip) {
      tip = document.createElement("div");
      tip.className = "tip";
      u.over.append(tip);
    }
    var lines = [element("strong", moment(data.x[i], data))];
    data.series.forEach(function (series) {
      lines.push(marked(series, series.label + ": " + format(series.values[i], data.unit)));
    });
    tip.replaceChildren.apply(tip, lines);
    var at = u.valToPos(data.x[i], "x");
    var room = u.over.clientWidth - tip.offsetWidth;
    tip.style.left = Math.max(0, Math.min(room, at < u.over.clientWidth / 2 ? at + 12 : at - 12 - tip.offsetWidth)) + "px";
  };

  function element(name, text) {
    var made = document.createElement(name);
    made.textContent = text;
    return made;
  }

  function marked(series, text) {
    var line = element("span", text);
    line.className = "marked tone-" + series.tone;
    return line;
  }

  function legend(data) {
    var list = document.createElement("div");
    list.className = "legend";
    data.series.forEach(function (series) { list.append(marked(series, series.label)); });
    return list;
  }

  // Days are in UTC, as in every report; shorter steps are local unless the data says UTC.
  function isUtc(data) { return data.step >= DAY || data.zone === "UTC"; }

  function tick(seconds, data) {
    var date = new Date(seconds * 1000);
    var formats = isUtc(data) ? utc : local;
    if (data.step >= DAY) return formats.day.format(date);
    var isMidnight = isUtc(data) ? seconds % DAY === 0 : date.getHours() === 0 && date.getMinutes() === 0;
    return (isMidnight ? formats.day : data.step >= HOUR ? formats.hour : formats.minute).format(date);
  }

  function moment(seconds, data) {
    var date = new Date(seconds * 1000);
    if (data.step >= DAY) return utc.whole.format(date) + " (UTC)";
    var formats = isUtc(data) ? utc : local;
    return formats.span.formatRange(date, new Date((seconds + data.step) * 1000)) + (isUtc(data) ? " (UTC)" : "");
  }

  // Describes the chart for screen readers.
  Chart.prototype.describe = function (data) {
    var title = this.figure.querySelector("figcaption").textContent;
    var parts = data.series.map(function (series) {
      var known = series.values.filter(function (value) { return value !== null; });
      if (!known.length) return series.label + ": nothing";
      var last = known[known.length - 1];
      var most = Math.max.apply(null, known);
      return series.label + ": now " + format(last, data.unit) + ", at most " + format(most, data.unit);
    });
    this.plot.setAttribute("aria-label", title + ". " + parts.join("; "));
  };

  function start(root) {
    root.querySelectorAll("figure[data-chart]:not([data-started])").forEach(function (figure) {
      figure.dataset.started = "1";
      new Chart(figure);
    });
  }

  document.addEventListener("htmx:load", function (event) { start(event.detail.elt); });
  start(document);
})();
