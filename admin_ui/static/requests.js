// Requests of htmx: headers, the busy indicator, and messages about failures.
(function () {
  "use strict";

  var trouble = document.getElementById("trouble");
  var busy = document.getElementById("busy");
  // A faster response shows no busy indicator.
  var BUSY_MS = 150;

  function showTrouble(text) { trouble.textContent = text; trouble.hidden = !text; }

  // The page stays, so that nothing that was entered is lost.
  function showSessionEnd() {
    var link = document.createElement("a");
    link.href = "/sign-in?" + new URLSearchParams({ next: location.pathname + location.search, ended: "1" });
    link.textContent = "Sign in again";
    trouble.replaceChildren("Your session has ended. ", link, ".");
    trouble.hidden = false;
  }
  document.addEventListener("sessionended", showSessionEnd);

  function triggerOf(part) { return part.getAttribute("hx-trigger") || ""; }
  function isLive(part) { return triggerOf(part).indexOf("every") >= 0; }
  // A request without an action of the user; it must never navigate.
  function isBackground(part) {
    return isLive(part) || triggerOf(part).indexOf("load") >= 0 || part.hasAttribute("data-background");
  }

  document.addEventListener("htmx:configRequest", function (event) {
    event.detail.headers["X-CSRF-Token"] = document.querySelector("meta[name=csrf-token]").content;
    if (isBackground(event.detail.elt)) event.detail.headers["X-Background"] = "1";
  });

  // A bar above the page and the pressed button show that a request is in progress.
  var pressed = new Map();
  var timer = 0;

  function pressedOf(detail) {
    var cause = detail.requestConfig.triggeringEvent;
    var button = (cause && cause.submitter) || detail.elt;
    return button.matches("button, a") ? button : null;
  }

  function showBusy(detail) {
    var button = pressedOf(detail);
    if (button) button.setAttribute("aria-busy", "true");
    pressed.set(detail.xhr, button);
    if (!timer) timer = setTimeout(function () { busy.showPopover(); }, BUSY_MS);
  }

  function hideBusy(xhr) {
    if (!pressed.has(xhr)) return;
    var button = pressed.get(xhr);
    if (button) button.removeAttribute("aria-busy");
    pressed.delete(xhr);
    if (pressed.size) return;
    clearTimeout(timer);
    timer = 0;
    busy.hidePopover();
  }

  document.addEventListener("htmx:beforeRequest", function (event) {
    var part = event.detail.elt;
    if (isLive(part) && document.hidden) event.preventDefault();
    else if (!isBackground(part)) showBusy(event.detail);
  });
  document.addEventListener("htmx:afterRequest", function (event) { hideBusy(event.detail.xhr); });

  // An unchanged live part is not swapped; a swapped one keeps its scroll positions.
  var lastTexts = {};
  var scrollPositions = [];
  document.addEventListener("htmx:beforeSwap", function (event) {
    var part = event.detail.target;
    if (!isLive(part) || !part.id || event.detail.xhr.status !== 200) return;
    var text = event.detail.xhr.responseText;
    if (lastTexts[part.id] === text) event.detail.shouldSwap = false;
    lastTexts[part.id] = text;
    scrollPositions = Array.from(part.querySelectorAll("[id].scroll"), function (frame) { return [frame.id, frame.scrollLeft]; });
  });
  document.addEventListener("htmx:afterSwap", function () {
    scrollPositions.forEach(function (position) {
      var frame = document.getElementById(position[0]);
      if (frame) frame.scrollLeft = position[1];
    });
    scrollPositions = [];
  });

  document.addEventListener("htmx:responseError", function (event) {
    if (event.detail.xhr.status === 401) showSessionEnd();
    else showTrouble("The service did not respond. This page may be out of date.");
  });
  document.addEventListener("htmx:sendError", function () { showTrouble("The service is away. This page may be out of date."); });
  document.addEventListener("htmx:timeout", function () { showTrouble("The service takes long to respond."); });
  document.addEventListener("htmx:afterOnLoad", function (event) {
    var status = event.detail.xhr.status;
    if (status < 500 && status !== 401) showTrouble("");
  });
})();
