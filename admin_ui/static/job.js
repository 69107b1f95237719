// The text of a job that runs, as it is made; when it is over, the page shows the whole answer.
(function () {
  "use strict";

  var section = document.getElementById("text");
  if (!section) return;
  var pre = section.querySelector("pre");
  var pace = document.getElementById("pace");
  var control = new AbortController();
  var began = 0, pieces = 0;

  // A piece is about a token, but for the first, which has all that was made before.
  function tellPace() {
    var seconds = (performance.now() - began) / 1000;
    if (!began) began = performance.now();
    else pieces += 1;
    if (seconds > 1 && pieces > 1) pace.textContent = "about " + (pieces / seconds).toFixed(0) + " tokens per second";
  }

  fetch(section.dataset.text, { headers: { "X-Background": "1" }, signal: control.signal })
    .then(function (response) {
      if ((response.headers.get("Content-Type") || "").indexOf("text/event-stream") !== 0) return undefined;
      return window.serviceEvents.read(response, function (content) {
        var text = content.choices.filter(function (choice) { return choice.index === 0; })
          .map(function (choice) { return choice.text; }).join("");
        if (!text) return;
        section.hidden = false;
        tellPace();
        window.serviceEvents.append(pre, text);
      });
    })
    .catch(function () { /* the page goes on without it, and shows the answer at the end */ });

  document.addEventListener("htmx:load", function () {
    if (!document.querySelector("#live[data-final]")) return;
    control.abort();
    section.remove();
  });
})();
