// What htmx asks for: how it is asked, what shows that it is under way, and what is told of trouble.
(function () {
  "use strict";

  var trouble = document.getElementById("trouble");
  var busy = document.getElementById("busy");
  //: What is answered sooner than this shows no sign of work.
  var BUSY_MS = 150;

  function tell(text) { trouble.textContent = text; trouble.hidden = !text; }

  // The page stays as it is: what somebody has written on it must not be lost.
  function tellEnd() {
    var link = document.createElement("a");
    link.href = "/sign-in?" + new URLSearchParams({ next: location.pathname + location.search, ended: "1" });
    link.textContent = "Sign in again";
    trouble.replaceChildren("Your session has ended. ", link, ".");
    trouble.hidden = false;
  }
  document.addEventListener("sessionended", tellEnd);

  function triggerOf(part) { return part.getAttribute("hx-trigger") || ""; }
  function isLive(part) { return triggerOf(part).indexOf("every") >= 0; }
  // Nobody asked for it just now: it must never lead away from the page.
  function isBackground(part) {
    return isLive(part) || triggerOf(part).indexOf("load") >= 0 || part.hasAttribute("data-background");
  }

  document.addEventListener("htmx:configRequest", function (event) {
    event.detail.headers["X-CSRF-Token"] = document.querySelector("meta[name=csrf-token]").content;
    if (isBackground(event.detail.elt)) event.detail.headers["X-Background"] = "1";
  });

  // A bar above the page, and the pressed button, say that work is under way.
  var pressed = new Map();
  var showing = 0;

  function pressedOf(detail) {
    var cause = detail.requestConfig.triggeringEvent;
    var button = (cause && cause.submitter) || detail.elt;
    return button.matches("button, a") ? button : null;
  }

  function begin(detail) {
    var button = pressedOf(detail);
    if (button) button.setAttribute("aria-busy", "true");
    pressed.set(detail.xhr, button);
    if (!showing) showing = setTimeout(function () { busy.showPopover(); }, BUSY_MS);
  }

  function end(xhr) {
    if (!pressed.has(xhr)) return;
    var button = pressed.get(xhr);
    if (button) button.removeAttribute("aria-busy");
    pressed.delete(xhr);
    if (pressed.size) return;
    clearTimeout(showing);
    showing = 0;
    busy.hidePopover();
  }

  document.addEventListener("htmx:beforeRequest", function (event) {
    var part = event.detail.elt;
    if (isLive(part) && document.hidden) event.preventDefault();
    else if (!isBackground(part)) begin(event.detail);
  });
  document.addEventListener("htmx:afterRequest", function (event) { end(event.detail.xhr); });

  // A live part that says the same again is left as it is, and what scrolls in it stays where it was.
  var said = {};
  var places = [];
  document.addEventListener("htmx:beforeSwap", function (event) {
    var part = event.detail.target;
    if (!isLive(part) || !part.id || event.detail.xhr.status !== 200) return;
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

  document.addEventListener("htmx:responseError", function (event) {
    if (event.detail.xhr.status === 401) tellEnd();
    else tell("The service did not answer this. What you see may be old.");
  });
  document.addEventListener("htmx:sendError", function () { tell("The service is away. What you see may be old."); });
  document.addEventListener("htmx:timeout", function () { tell("The service takes very long to answer."); });
  document.addEventListener("htmx:afterOnLoad", function (event) {
    var status = event.detail.xhr.status;
    if (status < 500 && status !== 401) tell("");
  });
})();
