// The dialog of a page: opens when htmx has put a fragment into it.
(function () {
  "use strict";

  var dialog = document.getElementById("dialog");
  // Focuses the first match: a wrong field, or the cancel button of a form that deletes something.
  var FIRST = [
    "[aria-invalid=true]", "[autofocus]", "input:not([type=hidden]), select, textarea", "button:not(.close)", "a[role=button]",
  ];
  var isTouched = false;

  // A secret is shown once: only the button of its fragment, a link, leaves the dialog.
  function isLocked() { return dialog.querySelector("[data-locked]") !== null; }

  // `app.js` has run before, so that buttons which it reveals can get the focus.
  document.addEventListener("htmx:load", function (event) {
    if (event.detail.elt.parentElement !== dialog) return;
    isTouched = false;
    var title = dialog.querySelector("h1, h2");
    if (title) { title.id = "dialog-title"; dialog.setAttribute("aria-labelledby", "dialog-title"); }
    if (!dialog.open) dialog.showModal();
    FIRST.some(function (selector) {
      var first = dialog.querySelector(selector);
      if (first) first.focus();
      return first;
    });
  });
  dialog.addEventListener("input", function () { isTouched = true; });

  dialog.addEventListener("keydown", function (event) {
    if (event.key === "Escape" && isLocked()) event.preventDefault();
  });
  dialog.addEventListener("cancel", function (event) { if (isLocked()) event.preventDefault(); });
  dialog.addEventListener("close", function () {
    // Browsers close a dialog at the second Esc even if the page prevents it.
    if (isLocked()) dialog.showModal();
    else dialog.replaceChildren();
  });

  // A click outside closes the dialog, unless the press began inside (a text selection), or the
  // form is partly filled in.
  var pressedOutside = false;
  dialog.addEventListener("pointerdown", function (event) { pressedOutside = event.target === dialog; });
  dialog.addEventListener("click", function (event) {
    if (isLocked()) return;
    var isOutside = event.target === dialog && pressedOutside && !isTouched;
    if (!isOutside && !event.target.closest("[data-close]")) return;
    event.preventDefault();
    dialog.close();
  });
})();
