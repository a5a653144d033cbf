// SPDX-License-Identifier: Apache-2.0
// The pictures follow the page: light or dark as the reader's system asks, light on paper, fewer labels where it is narrow.
"use strict";
(function () {
  const media = matchMedia("(prefers-color-scheme: dark)");
  // Ink on a light page, and on a dark one: within boxes, and on the page itself (which must be read on paper too, as
  // glyphs are redrawn too late for it).
  const INKS = {"#111111": "#d8dade", "#222222": "#d8dade", "#333333": "#8d929a", "#000000": "#8d929a"};
  const was = new WeakMap();  // ink of a glyph on a light page
  let printing = false;

  const all = () => Bokeh.documents.flatMap(doc => doc.roots().flatMap(root => [root, ...root.references()]));

  function ink(model, property, dark) {
    const spec = model[property], value = spec && typeof spec === "object" && "value" in spec ? spec.value : spec;
    if (!was.has(model) && value in INKS) was.set(model, {});
    const kept = was.get(model);
    if (!kept) return;
    if (!(property in kept) && value in INKS) kept[property] = value;
    if (property in kept) model[property] = {value: dark ? INKS[kept[property]] : kept[property]};
  }

  function style(dark) {
    document.documentElement.dataset.style = dark ? "dark" : "light";
    const text = dark ? "#d8dade" : "#444444", line = dark ? "#6a6d73" : "#777777", grid = dark ? "#34373c" : "#e5e5e5";
    for (const model of new Set(all())) {
      if ("axis_label_text_color" in model) {
        Object.assign(model, {axis_label_text_color: text, major_label_text_color: text, axis_line_color: line,
                              major_tick_line_color: model.major_tick_line_color === null ? null : line,
                              minor_tick_line_color: null});
      } else if ("grid_line_color" in model) {
        if (model.visible) model.grid_line_color = grid;
      } else if ("label_text_color" in model && "border_line_color" in model) {
        Object.assign(model, {label_text_color: text, background_fill_color: dark ? "#1b1d21" : "#ffffff"});
      } else if ("border_fill_color" in model && "outline_line_color" in model) {
        Object.assign(model, {background_fill_color: null, border_fill_color: null, outline_line_color: grid});
      } else {
        for (const property of ["text_color", "line_color", "fill_color"])
          if (property in model) ink(model, property, dark);
      }
    }
    if (window.nncosimTimeline) window.nncosimTimeline.changed();
  }

  function widths() {
    const narrow = document.querySelector("main").clientWidth < NARROW_PAGE;
    for (const model of new Set(all()))
      if (typeof model.name === "string" && /^labels-\d+$/.test(model.name))
        model.visible = (model.name === `labels-${NARROW}`) === narrow;
  }

  const refresh = () => style(media.matches && !printing);

  async function start() {
    const count = document.querySelectorAll("main div[data-root-id]").length;
    const drawn = () => Bokeh.documents.reduce((sum, doc) => sum + doc.roots().length, 0);
    for (let i = 0; i < 500 && drawn() < count; ++i) await new Promise(done => setTimeout(done, 20));
    refresh();
    widths();
    media.addEventListener("change", refresh);
    addEventListener("resize", widths);
    addEventListener("beforeprint", () => {
      printing = true;
      refresh();
      // At once: what is on paper does not wait for the next frame.
      if (window.nncosimTimeline) window.nncosimTimeline.now();
      for (const view of Bokeh.index.roots) view.repaint();
    });
    addEventListener("afterprint", () => { printing = false; refresh(); });
  }

  addEventListener("load", start);
})();
