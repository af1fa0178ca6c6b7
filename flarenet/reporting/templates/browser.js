(() => {
  const root = document.currentScript.parentElement;
  const find = (name) => root.querySelector("." + name);
  const strips = JSON.parse(find("strips").textContent);
  const choice = find("case"), slice = find("slice"), strength = find("strength"), labels = find("labels");
  let strip, panels = [];

  const make = (tag, parent, fields = {}) => parent.appendChild(Object.assign(document.createElement(tag), fields));

  function picture(stage, source) {
    const image = make("img", stage, { src: source, alt: "" });
    image.style.width = 100 * strip.columns + "%";
    return image;
  }

  function panel(title, source) {
    const figure = make("figure", find("panels"), { className: "panel" });
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
    find("panels").replaceChildren();
    panels = Object.entries(strip.layers).map(([title, source]) => panel(title, source));
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

  for (const { case: name } of strips) make("option", choice, { textContent: name });
  choice.addEventListener("change", open);
  for (const input of [slice, strength, labels]) input.addEventListener("input", draw);
  root.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "l" || event.target === choice) return;
    labels.checked = !labels.checked;
    draw();
  });
  open();
})();
