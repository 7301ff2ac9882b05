(() => {
  const button = document.getElementById("theme"), root = document.documentElement;
  const modes = ["auto", "light", "dark"];
  const show = (mode) => {
    mode === "auto" ? delete root.dataset.theme : (root.dataset.theme = mode);
    button.textContent = "Theme: " + mode;
  };
  button.hidden = false;
  show("auto");
  button.addEventListener("click", () => show(modes[(modes.indexOf(root.dataset.theme ?? "auto") + 1) % 3]));
})();
