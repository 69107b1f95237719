// Streams the completion into the playground. Without JavaScript the form is sent as usual.
(function () {
  "use strict";

  var form = document.getElementById("playground");
  if (!form) return;
  var byId = document.getElementById.bind(document);
  var completion = byId("completion"), outcome = byId("outcome"), progress = byId("progress");
  var refused = byId("refused"), start = byId("generate"), stop = byId("halt");
  var events = window.serviceEvents;
  var waiting = 0;
  var STORAGE_KEY = "playground";

  document.querySelectorAll("[data-script]").forEach(function (part) { part.hidden = false; });

  form.elements.mode.addEventListener("change", showMode);
  function showMode() { form.querySelector("[data-chat]").hidden = form.elements.mode.value !== "chat"; }
  restore();
  showMode();

  // Saves the form for this tab and user, so that it survives the end of the session.
  form.addEventListener("input", save);
  form.addEventListener("change", save);
  function save() {
    var fields = Array.from(new FormData(form)).filter(function (field) { return field[0] !== "csrf_token"; });
    try {
      sessionStorage.setItem(STORAGE_KEY, JSON.stringify({ viewer: form.dataset.viewer, fields: fields }));
    } catch (error) { /* storage may be forbidden or full */ }
  }

  function restore() {
    var saved = null;
    try { saved = JSON.parse(sessionStorage.getItem(STORAGE_KEY)); } catch (error) { /* there is none */ }
    if (!saved || saved.viewer !== form.dataset.viewer || location.search) return;
    saved.fields.forEach(function (field) {
      var input = form.elements[field[0]];
      if (!input || (input.options && !form.querySelector('option[value="' + CSS.escape(field[1]) + '"]'))) return;
      input.value = field[1];
    });
    form.querySelectorAll("details input, details textarea").forEach(function (input) {
      if (input.value !== input.defaultValue) input.closest("details").open = true;
    });
    // The code samples of the page are those of the initial form: request new ones.
    document.addEventListener("htmx:load", function () { form.dispatchEvent(new Event("change")); }, { once: true });
  }

  form.addEventListener("keydown", function (event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !start.disabled) form.requestSubmit(start);
  });
  form.addEventListener("submit", function (event) {
    event.preventDefault();
    if (!start.disabled) generate();
  });

  function generate() {
    var run = { startedAt: performance.now(), first: null, events: 0, id: null };
    var control = new AbortController();
    clearFaults();
    outcome.replaceChildren();
    completion.replaceChildren();
    completion.hidden = false;
    start.disabled = true;
    stop.hidden = false;
    stop.onclick = function () { run.isStopped = true; control.abort(); };
    var clock = setInterval(function () { showProgress(run); }, 100);
    progress.textContent = "Waiting for the first token …";
    read(run, control.signal)
      .then(function () { progress.textContent = run.refusal ? "" : "Done"; })
      .catch(function (error) {
        if (run.isStopped) { progress.textContent = "Stopped"; return; }
        progress.textContent = "";
        showFaults({ message: error.readable || "The connection broke before the completion was finished." });
      })
      .finally(function () {
        clearInterval(clock);
        stop.hidden = true;
        if (!waiting) start.disabled = false;
        if (document.activeElement === document.body) start.focus();
        if (run.id) htmx.ajax("GET", form.dataset.outcome + "?job=" + run.id, { target: outcome, swap: "innerHTML", headers: { "X-Background": "1" } });
      });
  }

  function read(run, signal) {
    var headers = { "X-CSRF-Token": form.elements.csrf_token.value, "X-Background": "1" };
    return fetch(form.dataset.stream, { method: "POST", body: new URLSearchParams(new FormData(form)), headers: headers, signal: signal })
      .then(function (response) {
        var kind = response.headers.get("Content-Type") || "";
        if (kind.indexOf("text/event-stream") === 0) return events.read(response, function (content) { take(run, content); });
        if (response.status === 401 && kind.indexOf("application/json") !== 0) {
          document.dispatchEvent(new CustomEvent("sessionended"));
          throw events.readableError("Your session has ended. Your text is saved.");
        }
        if (kind.indexOf("application/json") !== 0) {
          throw events.readableError(response.status === 503 ? "The API is away. Try again in a few seconds." : "This page is outdated: reload it.");
        }
        return response.json().then(function (refusal) { run.refusal = refusal; showFaults(refusal); });
      });
  }

  function take(run, content) {
    run.id = content.id;
    var text = content.choices.map(function (choice) { return choice.text; }).join("");
    if (!text) return;
    run.events += 1;
    run.last = performance.now();
    if (run.first === null) run.first = run.last;
    events.append(completion, text);
  }

  // An event is about one token; the outcome has the exact figures at the end.
  function showProgress(run) {
    if (run.first === null) {
      progress.textContent = "Waiting for the first token … " + seconds(performance.now() - run.startedAt);
      return;
    }
    var rate = run.events > 1 ? (run.events - 1) * 1000 / (run.last - run.first) : 0;
    progress.textContent = (rate ? "about " + rate.toFixed(0) + " tokens per second, " : "") + "first after " + seconds(run.first - run.startedAt);
  }

  function seconds(ms) { return (ms / 1000).toFixed(1) + " s"; }

  // Shows the faults of fields beside them, and other faults above the completion.
  function showFaults(refusal) {
    var fields = refusal.fields || {};
    var isElsewhere = !Object.keys(fields).length;
    Object.keys(fields).forEach(function (name) {
      var input = form.elements[name];
      if (!input) { isElsewhere = true; return; }
      var fault = document.createElement("small");
      fault.id = name + "-fault";
      fault.className = "fault";
      fault.textContent = fields[name];
      input.setAttribute("aria-invalid", "true");
      input.closest(".field").append(fault);
      var more = input.closest("details");
      if (more) more.open = true;
    });
    var wrong = form.querySelector("[aria-invalid]");
    if (wrong) wrong.focus();
    if (isElsewhere) {
      refused.textContent = refusal.message;
      refused.hidden = false;
      if (refusal.retryAfter) countDown(refusal);
    }
  }

  function countDown(refusal) {
    var until = Date.now() + refusal.retryAfter * 1000;
    start.disabled = true;
    clearInterval(waiting);
    function tick() {
      var left = Math.ceil((until - Date.now()) / 1000);
      refused.textContent = refusal.message + (left > 0 ? " Try again in " + left + " s." : " Try again now.");
      if (left > 0) return;
      clearInterval(waiting);
      waiting = 0;
      start.disabled = false;
    }
    waiting = setInterval(tick, 500);
    tick();
  }

  function clearFaults() {
    refused.hidden = true;
    form.querySelectorAll(".field > .fault").forEach(function (fault) { fault.remove(); });
    form.querySelectorAll("[aria-invalid]").forEach(function (input) { input.removeAttribute("aria-invalid"); });
  }
})();
