// Runs before anything is drawn. Sets the theme that was chosen, if any, and the language of dates.
(function () {
  "use strict";
  var chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch (error) { /* storage may be forbidden */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  document.documentElement.classList.add("has-script");
  // Pages are in English: dates follow the browser's kind of English, never another language.
  window.pageLanguage = navigator.languages.find(function (name) { return /^en\b/i.test(name); }) || "en";
})();
