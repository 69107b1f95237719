// Enhances pages in the browser; without it they work as plain HTML.
(function () {
  "use strict";

  // The server writes times in UTC; they are rewritten in the time zone of the browser.
  var language = window.pageLanguage;
  var formats = {
    time: new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }),
    second: new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" }),
    day: new Intl.DateTimeFormat(language, { dateStyle: "medium" }),
  };
  var relative = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });
  var steps = [["second", 60], ["minute", 60], ["hour", 24], ["day", 30], ["month", 12], ["year", Infinity]];

  function ago(date) {
    var value = (date - Date.now()) / 1000;
    for (var i = 0; i < steps.length; i++) {
      if (Math.abs(value) < steps[i][1]) return relative.format(Math.round(value), steps[i][0]);
      value /= steps[i][1];
    }
    return "";
  }

  function showTimes(root) {
    root.querySelectorAll("time[data-style]").forEach(function (time) {
      var date = new Date(time.dateTime);
      var style = time.dataset.style;
      time.textContent = style === "ago" ? ago(date) : formats[style].format(date);
      time.title = formats.second.format(date);
    });
  }

  // Adds the time zone of the browser to forms and links with a time range.
  function addZone(root) {
    var zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    root.querySelectorAll("input[data-zone]").forEach(function (input) { input.value = zone; });
    root.querySelectorAll("nav[data-zone] a").forEach(function (link) {
      var url = new URL(link.href);
      url.searchParams.set("zone", zone);
      link.href = url.pathname + url.search;
    });
  }

  // A time is entered in the time zone of the browser; a hidden field has it in UTC.
  function convertMoments(root) {
    root.querySelectorAll("input[data-instant]").forEach(function (input) {
      var field = document.getElementById(input.id + "-instant");
      var update = function () { field.value = input.value ? new Date(input.value).toISOString() : ""; };
      if (input.dataset.instant) {
        var date = new Date(input.dataset.instant);
        input.value = new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
      }
      input.addEventListener("input", update);
      update();
    });
  }

  function enhance(root) {
    showTimes(root);
    addZone(root);
    convertMoments(root);
    root.querySelectorAll("[data-copy][hidden]").forEach(function (button) { button.hidden = false; });
  }

  document.addEventListener("htmx:load", function (event) { enhance(event.detail.elt); });

  document.addEventListener("click", function (event) {
    var copy = event.target.closest("[data-copy]");
    if (copy) {
      var text = document.getElementById(copy.dataset.copy).innerText;
      var label = copy.querySelector("span");
      var before = label.textContent;
      var show = function (word) {
        label.textContent = word;
        setTimeout(function () { label.textContent = before; }, 1500);
      };
      copyText(text).then(function () { show("Copied"); }, function () { show("Select and copy"); });
    }
    var theme = event.target.closest("[data-theme-switch]");
    if (theme) switchTheme();
  });

  // Pages served without TLS have no clipboard interface.
  function copyText(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    var area = document.createElement("textarea");
    area.value = text;
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    var done = document.execCommand("copy");
    area.remove();
    return done ? Promise.resolve() : Promise.reject(new Error("not copied"));
  }

  function isDark() {
    var chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function switchTheme() {
    var next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch (error) { /* storage may be forbidden */ }
    document.dispatchEvent(new CustomEvent("themechange"));
  }

  document.querySelectorAll("[data-theme-switch]").forEach(function (button) { button.hidden = false; });
  // Prevents a second submit of the same form.
  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (event.defaultPrevented || form.method !== "post" || form.hasAttribute("hx-post")) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
    if (form.hasAttribute("data-sign-out")) try { sessionStorage.clear(); } catch (error) { /* it may be forbidden */ }
    if (event.submitter) event.submitter.setAttribute("aria-busy", "true");
  });
  window.addEventListener("pageshow", function (event) {
    if (!event.persisted) return;
    document.querySelectorAll("form[data-sent]").forEach(function (form) { delete form.dataset.sent; });
    document.querySelectorAll("[aria-busy]").forEach(function (button) { button.removeAttribute("aria-busy"); });
  });
  enhance(document);
  // Focuses the first wrong field of a page.
  var wrong = document.querySelector("main [aria-invalid=true]");
  if (wrong) wrong.focus();
})();
