(() => {
  const root = document.currentScript.parentElement;
  const find = (name) => root.querySelector("." + name);
  const strips = JSON.parse(find("strips").textContent);
  const choice = find("case"), slice = find("slice"), strength = find("strength"), labels = find("labels");
  const stages = find("panels"), keys = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
  let strip, panels = [];

  const make = (tag, parent, fields = {}) => parent.appendChild(Object.assign(document.createElement(tag), fields));

  function picture(stage, source) {
    const image = make("img", stage, { src: source, alt: "" });
    image.style.width = 100 * strip.columns + "%";
    return image;
  }

  function panel(title, source) {
    const figure = make("figure", stages, { className: "panel" });
    const stage = make("div", figure, { className: "stage" });
    stage.style.aspectRatio = strip.aspect;
    const under = picture(stage, strip.image), over = picture(stage, source);
    const words = make("label", make("figcaption", figure));
    const box = make("input", words, { type: "checkbox", checked: true, onchange: draw });
    words.append(" " + title);
    return { images: [under, over], over, box };
  }

  function open() {
    strip = strips[choice.selectedIndex];
    stages.replaceChildren();
    panels = strip.layers.map(([title, source]) => panel(title, source));
    slice.max = strip.z.length - 1;
    slice.value = strip.start;
    find("caption").textContent = strip.caption;
    draw();
  }

  function draw() {
    const at = Number(slice.value), column = at % strip.columns, row = Math.floor(at / strip.columns);
    const move = `translate(${-100 * column / strip.columns}%, ${-100 * row / strip.rows}%)`;
    find("place").textContent = "z = " + strip.z[at];
    for (const { images, over, box } of panels) {
      for (const image of images) image.style.transform = move;
      over.style.opacity = labels.checked && box.checked ? strength.value / 100 : 0;
    }
  }

  function turn(slices) {
    slice.value = Math.min(strip.z.length - 1, Math.max(0, Number(slice.value) + slices));
    draw();
  }

  // a finger that moves up or down scrolls the page (touch-action in the style), one that moves sideways turns slices
  function drag(start) {
    if (!start.isPrimary || start.button || !start.target.closest(".stage")) return;
    const from = Number(slice.value), step = Math.max(4, start.target.closest(".stage").clientWidth / strip.z.length);
    const move = (event) => turn(from + Math.round((event.clientX - start.clientX) / step) - Number(slice.value));
    stages.setPointerCapture(start.pointerId);
    stages.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) {
      stages.addEventListener(end, () => stages.removeEventListener("pointermove", move), { once: true });
    }
  }

  for (const { case: name } of strips) make("option", choice, { textContent: name });
  choice.addEventListener("change", open);
  for (const input of [slice, strength, labels]) input.addEventListener("input", draw);
  stages.addEventListener("pointerdown", drag);
  root.addEventListener("keydown", (event) => {
    if (event.target === choice || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.toLowerCase() === "l") {
      labels.checked = !labels.checked;
      draw();
    } else if (event.key in keys && event.target === stages) {
      event.preventDefault();
      turn(keys[event.key]);
    }
  });
  open();
})();
