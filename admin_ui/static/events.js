// Reads the service's events from an answer while it comes.
(function () {
  "use strict";

  // An error whose text a person may read.
  function told(text) {
    var error = new Error(text);
    error.told = text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
    return error;
  }

  function take(event, use) {
    var line = event.split("\n").filter(function (one) { return one.indexOf("data: ") === 0; })[0];
    if (!line) return false; // a sign of life
    if (line === "data: [DONE]") return true;
    var content = JSON.parse(line.slice(6));
    if (content.error) throw told(content.error.message);
    use(content);
    return false;
  }

  // Calls `use` with each event; fails when the answer ends before its end.
  function read(response, use) {
    var reader = response.body.getReader();
    var decoder = new TextDecoder();
    var rest = "", isWhole = false;
    return reader.read().then(function next(piece) {
      if (piece.done) {
        if (!isWhole) throw told("The answer broke off. What there is of it stands here.");
        return undefined;
      }
      rest += decoder.decode(piece.value, { stream: true });
      var events = rest.split("\n\n");
      rest = events.pop();
      events.forEach(function (event) { isWhole = take(event, use) || isWhole; });
      return reader.read().then(next);
    });
  }

  // Adds text to a part that scrolls; whoever looks at its end goes on seeing the end.
  function append(part, text) {
    var isAtEnd = part.scrollHeight - part.scrollTop - part.clientHeight < 8;
    if (!part.firstChild) part.append(document.createTextNode(""));
    part.firstChild.appendData(text);
    if (isAtEnd) part.scrollTop = part.scrollHeight;
  }

  window.serviceEvents = { read: read, told: told, append: append };
})();
