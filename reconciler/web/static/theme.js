// Light or dark, before the first paint: what was chosen here, else what the system says. A classic script, in <head>.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const KEY = "reconciler.theme";

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is off: the system's choice
    }
  }

  function show(theme) {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    root.dataset.dark = String(theme ? theme === "dark" : system.matches);
  }

  function toggle() {
    const dark = root.dataset.dark !== "true";
    const theme = dark === system.matches ? null : dark ? "dark" : "light";
    try {
      if (theme) localStorage.setItem(KEY, theme);
      else localStorage.removeItem(KEY);
    } catch {
      // not kept, only shown
    }
    show(theme);
  }

  show(stored());
  system.addEventListener("change", () => show(stored()));
  addEventListener("storage", (event) => event.key === KEY && show(event.newValue));
  addEventListener("click", (event) => event.target.closest?.("[data-action=theme]") && toggle());
})();
