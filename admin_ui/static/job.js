// Streams the text of a running job into the page until the job ends.
(function () {
  "use strict";

  var section = document.getElementById("text");
  if (!section) return;
  var pre = section.querySelector("pre");
  var pace = document.getElementById("pace");
  var control = new AbortController();
  var startedAt = 0, events = 0;

  // An event is about one token, except the first, which has the text before it.
  function showPace() {
    var seconds = (performance.now() - startedAt) / 1000;
    if (!startedAt) startedAt = performance.now();
    else events += 1;
    if (seconds > 1 && events > 1) pace.textContent = "about " + (events / seconds).toFixed(0) + " tokens per second";
  }

  fetch(section.dataset.text, { headers: { "X-Background": "1" }, signal: control.signal })
    .then(function (response) {
      if ((response.headers.get("Content-Type") || "").indexOf("text/event-stream") !== 0) return undefined;
      return window.serviceEvents.read(response, function (content) {
        var text = content.choices.filter(function (choice) { return choice.index === 0; })
          .map(function (choice) { return choice.text; }).join("");
        if (!text) return;
        section.hidden = false;
        showPace();
        window.serviceEvents.append(pre, text);
      });
    })
    .catch(function () { /* the live part shows the completion when the job has ended */ });

  document.addEventListener("htmx:load", function () {
    if (!document.querySelector("#live[data-final]")) return;
    control.abort();
    section.remove();
  });
})();
