/* Sets the theme before the first paint: a classic script, so that it runs while the page loads.
   The page follows the system until somebody presses the button; then the choice is kept. */
"use strict";
(() => {
  const KEY = "tinyllm.theme";
  const root = document.documentElement;
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };

  const store = (theme) => {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Without storage the choice lasts until the page is left.
    }
  };

  const isDark = () => (root.dataset.theme ?? (systemIsDark.matches ? "dark" : "light")) === "dark";

  const chosen = stored();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () =>
      button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      store(root.dataset.theme);
      name();
    });
    systemIsDark.addEventListener("change", name);
    name();
  });
})();
