// The one dialog of a page: htmx puts a fragment into it, and then it opens.
(function () {
  "use strict";

  var dialog = document.getElementById("dialog");
  // Of a form that was refused, the first wrong field; of one that destroys, what does no harm.
  var FIRST = [
    "[aria-invalid=true]", "[autofocus]", "input:not([type=hidden]), select, textarea", "button:not(.close)", "a[role=button]",
  ];
  var isTouched = false;

  // What is shown once stays until the person says that it is saved: that leads to another page.
  function isLocked() { return dialog.querySelector("[data-locked]") !== null; }

  // `app.js` has made its additions to the fragment by now: what was hidden can take the focus.
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
    // Browsers close a dialog at the second Esc or "back" whatever a page says.
    if (isLocked()) dialog.showModal();
    else dialog.replaceChildren();
  });

  // A press that began inside (text being selected) does not close it, nor one beside a form that
  // somebody has begun to fill in.
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
