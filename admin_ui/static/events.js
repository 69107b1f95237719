// Reads the server-sent events of a streaming response.
(function () {
  "use strict";

  // An error with a message for people.
  function readableError(text) {
    var error = new Error(text);
    error.readable = text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
    return error;
  }

  function take(event, use) {
    var line = event.split("\n").filter(function (one) { return one.indexOf("data: ") === 0; })[0];
    if (!line) return false; // a keep-alive
    if (line === "data: [DONE]") return true;
    var content = JSON.parse(line.slice(6));
    if (content.error) throw readableError(content.error.message);
    use(content);
    return false;
  }

  // Calls `use` with each event; rejects if the response ends before `[DONE]`.
  function read(response, use) {
    var reader = response.body.getReader();
    var decoder = new TextDecoder();
    var rest = "", isComplete = false;
    return reader.read().then(function next(chunk) {
      if (chunk.done) {
        if (!isComplete) throw readableError("The completion broke off. The text so far is shown.");
        return undefined;
      }
      rest += decoder.decode(chunk.value, { stream: true });
      var events = rest.split("\n\n");
      rest = events.pop();
      events.forEach(function (event) { isComplete = take(event, use) || isComplete; });
      return reader.read().then(next);
    });
  }

  // Appends text to a scrolling element, and keeps its end in view if it was.
  function append(part, text) {
    var isAtEnd = part.scrollHeight - part.scrollTop - part.clientHeight < 8;
    if (!part.firstChild) part.append(document.createTextNode(""));
    part.firstChild.appendData(text);
    if (isAtEnd) part.scrollTop = part.scrollHeight;
  }

  window.serviceEvents = { read: read, readableError: readableError, append: append };
})();
