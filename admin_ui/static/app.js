// What pages do in a browser beyond plain HTML. All of it is an addition: without it they work.
(function () {
  "use strict";

  // Times stand in UTC in the page; here they become the viewer's.
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
    root.querySelectorAll("time[data-shown]").forEach(function (time) {
      var date = new Date(time.dateTime);
      var shown = time.dataset.shown;
      time.textContent = shown === "ago" ? ago(date) : formats[shown].format(date);
      time.title = formats.second.format(date);
    });
  }

  // Forms and links that mean a time of the viewer's carry its zone.
  function tellZone(root) {
    var zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    root.querySelectorAll("input[data-zone]").forEach(function (input) { input.value = zone; });
    root.querySelectorAll("nav[data-zone] a").forEach(function (link) {
      var address = new URL(link.href);
      address.searchParams.set("zone", zone);
      link.href = address.pathname + address.search;
    });
  }

  // A time is chosen in the viewer's zone; the field beside it tells which instant that is.
  function takeMoments(root) {
    root.querySelectorAll("input[data-instant]").forEach(function (input) {
      var field = document.getElementById(input.id + "-instant");
      var tell = function () { field.value = input.value ? new Date(input.value).toISOString() : ""; };
      if (input.dataset.instant) {
        var date = new Date(input.dataset.instant);
        input.value = new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
      }
      input.addEventListener("input", tell);
      tell();
    });
  }

  function enhance(root) {
    showTimes(root);
    tellZone(root);
    takeMoments(root);
    root.querySelectorAll("[data-copy][hidden]").forEach(function (button) { button.hidden = false; });
  }

  // The dialog.
  var dialog = document.getElementById("dialog");

  document.addEventListener("htmx:afterSwap", function (event) {
    if (event.detail.target !== dialog) return;
    var title = dialog.querySelector("h1, h2");
    if (title) { title.id = "dialog-title"; dialog.setAttribute("aria-labelledby", "dialog-title"); }
    if (!dialog.open) dialog.showModal();
    var first = dialog.querySelector("[aria-invalid], [autofocus], input:not([type=hidden]), select, textarea, button:not(.close)");
    if (first) first.focus();
  });
  // What stands beneath may be old by then: a dialog may say where to go from it.
  dialog.addEventListener("close", function () {
    var then = dialog.querySelector("[data-then]");
    dialog.replaceChildren();
    if (then) location.assign(then.dataset.then);
  });
  // A press that began inside (text being selected) does not close it.
  var pressedOutside = false;
  dialog.addEventListener("pointerdown", function (event) { pressedOutside = event.target === dialog; });
  dialog.addEventListener("click", function (event) {
    if ((event.target === dialog && pressedOutside) || event.target.closest("[data-close]")) {
      event.preventDefault();
      dialog.close();
    }
  });

  // htmx: the session's token goes along; nothing is asked while nobody looks; trouble is told.
  var trouble = document.getElementById("trouble");

  function tell(text) { trouble.textContent = text; trouble.hidden = !text; }

  document.addEventListener("htmx:configRequest", function (event) {
    event.detail.headers["X-CSRF-Token"] = document.querySelector("meta[name=csrf-token]").content;
  });
  document.addEventListener("htmx:beforeRequest", function (event) {
    var isLive = (event.detail.elt.getAttribute("hx-trigger") || "").indexOf("every") >= 0;
    if (isLive && document.hidden) event.preventDefault();
  });
  // A live part that says the same again is left as it is, and what scrolls in it stays where it was.
  var said = {};
  var places = [];
  document.addEventListener("htmx:beforeSwap", function (event) {
    var part = event.detail.target;
    var isLive = (part.getAttribute("hx-trigger") || "").indexOf("every") >= 0;
    if (!isLive || !part.id || event.detail.xhr.status !== 200) return;
    var text = event.detail.xhr.responseText;
    if (said[part.id] === text) event.detail.shouldSwap = false;
    said[part.id] = text;
    places = Array.from(part.querySelectorAll("[id].scroll"), function (frame) { return [frame.id, frame.scrollLeft]; });
  });
  document.addEventListener("htmx:afterSwap", function () {
    places.forEach(function (place) {
      var frame = document.getElementById(place[0]);
      if (frame) frame.scrollLeft = place[1];
    });
    places = [];
  });
  document.addEventListener("htmx:responseError", function () { tell("The service did not answer this. What you see may be old."); });
  document.addEventListener("htmx:sendError", function () { tell("The service is away. What you see may be old."); });
  document.addEventListener("htmx:timeout", function () { tell("The service takes very long to answer."); });
  document.addEventListener("htmx:afterOnLoad", function (event) { if (event.detail.xhr.status < 500) tell(""); });
  document.addEventListener("htmx:load", function (event) { enhance(event.detail.elt); });

  document.addEventListener("click", function (event) {
    var copy = event.target.closest("[data-copy]");
    if (copy) {
      var text = document.getElementById(copy.dataset.copy).innerText;
      var label = copy.querySelector("span");
      var before = label.textContent;
      var say = function (word) {
        label.textContent = word;
        setTimeout(function () { label.textContent = before; }, 1500);
      };
      copyText(text).then(function () { say("Copied"); }, function () { say("Select and copy"); });
    }
    var theme = event.target.closest("[data-theme-switch]");
    if (theme) switchTheme();
  });

  // Pages served without TLS have no clipboard interface.
  function copyText(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    var area = document.createElement("textarea");
    area.value = text;
    (dialog.open ? dialog : document.body).append(area);
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
  // A form is sent once, however often its button is pressed.
  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (event.defaultPrevented || form.method !== "post" || form.hasAttribute("hx-post")) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
  });
  window.addEventListener("pageshow", function (event) {
    if (event.persisted) document.querySelectorAll("form[data-sent]").forEach(function (form) { delete form.dataset.sent; });
  });
  enhance(document);
})();
