// Runs before the page is drawn. Sets the chosen theme and the language of dates.
(function () {
  "use strict";
  var chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch (error) { /* storage may be forbidden */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  document.documentElement.classList.add("has-script");
  // Pages are in English: dates use the browser's variant of English, or else "en".
  window.pageLanguage = navigator.languages.find(function (name) { return /^en\b/i.test(name); }) || "en";
})();
