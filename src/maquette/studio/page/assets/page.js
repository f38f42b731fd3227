// What the page's library leaves out: the page's language, the brush in hand, names, and what screen readers are told.
() => {
  document.documentElement.lang = location.pathname.split("/")[1];

  // Canvases for strokes start with the brush in hand; the editor itself starts with none. Its buttons have no names but
  // those of the browser's language, so that the brush is found as the second of the tools.
  const BRUSH = ".toolbar-wrap .half-container:first-child button:nth-of-type(2)";
  const taken = new WeakSet();
  const take = (editor) => {
    const brush = editor.querySelector(BRUSH);
    if (!brush || !editor.querySelector("canvas") || taken.has(editor)) return;
    if (brush.classList.contains("highlight")) taken.add(editor);
    else brush.click();
  };

  // Pictures are buttons without names, and empty places have names without a role.
  const name = (picture) => {
    const label = picture.closest(".block")?.querySelector('[data-testid="block-label"]');
    if (label) picture.setAttribute("aria-label", label.innerText.trim());
  };

  // Lines that change are spoken, each within seconds: an element that is always there repeats them.
  const PAUSE = 2000;
  const spoken = document.body.appendChild(document.createElement("div"));
  spoken.className = "spoken";
  spoken.setAttribute("role", "status");
  const told = new WeakMap();
  let last = 0;
  const tell = (line) => {
    const words = line.innerText.trim();
    if (told.get(line) === words || Date.now() < last + PAUSE) return;
    told.set(line, words);
    if (!words) return;
    spoken.textContent = words;
    last = Date.now();
  };

  setInterval(() => {
    document.querySelectorAll('[id^="canvas-"], [data-painting] #start').forEach(take);
    document.querySelectorAll(".image-container > button:not([aria-label])").forEach(name);
    document.querySelectorAll(".empty[aria-label]:not([role])").forEach((place) => place.setAttribute("role", "img"));
    document.querySelectorAll(".block.said").forEach(tell);
  }, 200);
}
