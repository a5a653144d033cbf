// SPDX-License-Identifier: Apache-2.0
// Draws the part of the timeline that is in sight. Spans too narrow to see are put together: a column that shows the
// share of each kind as a share of its height. The data is unpacked once; see timeline_data in timeline_plot.py.
"use strict";
(function () {
  const COLUMNS = 500;  // of put-together spans, over the width
  const number = new Intl.NumberFormat("en-US");
  let tables, engines, models, pending = false;

  async function unpack(id) {
    const text = atob(document.getElementById(id).textContent.trim());
    const bytes = Uint8Array.from(text, c => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return await new Response(stream).arrayBuffer();
  }

  function split(numbers) {
    let at = 0;
    const take = count => numbers.subarray(at, at += count);
    return tables.engines.map(engine => {
      const lengths = take(engine.count), start = new Int32Array(engine.count + 1);
      for (let i = 0; i < engine.count; ++i) start[i + 1] = start[i] + lengths[i];
      const out = {start, kind: take(engine.count), text: take(engine.count), step: take(engine.count),
                   bytes: take(engine.count), coarse: engine.coarse};
      out.cycles = engine.categories.map(name => [name, take(engine.count)]);
      return out;
    });
  }

  // The first index whose start is beyond `cycle`, less one.
  function find(start, cycle) {
    let low = 0, high = start.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (start[middle] <= cycle) low = middle + 1; else high = middle;
    }
    return Math.max(low - 1, 0);
  }

  const dark = () => document.documentElement.dataset.style === "dark";
  const colours = () => dark() ? tables.dark : tables.colours;
  const escaped = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const between = (from, to) =>
    `cycles ${number.format(from)} to ${number.format(to)} (${number.format(to - from)})`;

  function quad(out, row, left, right, low, high, colour, what, when, detail) {
    out.left.push(left), out.right.push(right), out.top.push(row + 0.08 + 0.84 * (1 - high));
    out.bottom.push(row + 0.08 + 0.84 * (1 - low)), out.colour.push(colour);
    out.what.push(what), out.when.push(when), out.detail.push(detail);
  }

  function emitSpan(out, row, e, i) {
    const shares = e.cycles.filter(([, values]) => values[i]).map(([name, values]) => `${name} ${number.format(values[i])}`);
    const step = e.step[i], known = step >= 0 && tables.names[step] !== undefined;
    const fused = known && tables.members[step] ? ` (fused: ${tables.members[step]})` : "";
    const layer = known ? `layer ${tables.names[step]}${fused}` : "";
    const lines = [layer, tables.texts[e.text[i]], shares.length ? "cycles: " + shares.join(", ") : ""];
    const add = (low, high, colour) => quad(
      out, row, e.start[i], e.start[i + 1], low, high, colour, escaped(tables.kinds[e.kind[i]]),
      between(e.start[i], e.start[i + 1]), lines.filter(line => line).map(escaped).join("<br>"));
    if (!e.coarse.length) return add(0, 1, colours()[e.kind[i]]);
    let low = 0;
    e.cycles.forEach(([, values], k) => {
      const high = low + values[i] / (e.start[i + 1] - e.start[i]);
      if (high > low) add(low, high, e.coarse[k]);
      low = high;
    });
  }

  function emitColumn(out, row, from, to, sums) {
    const present = [];
    for (let k = 0; k < sums.length; ++k) if (sums[k]) present.push(k);
    const text = present.map(k => `${tables.kinds[k]} ${Math.round(100 * sums[k] / (to - from))} %`).map(escaped).join("<br>");
    let low = 0;
    for (const k of present) {
      const high = low + sums[k] / (to - from);
      quad(out, row, from, to, low, high, colours()[k], "several", between(from, to), text);
      low = high;
    }
  }

  function drawEngine(out, row, e, from, to, narrow) {
    let sums = null, begin = 0;
    const flush = end => {
      if (sums) emitColumn(out, row, begin, end, sums);
      sums = null;
    };
    for (let i = find(e.start, from); i < e.kind.length && e.start[i] < to; ++i) {
      const length = e.start[i + 1] - e.start[i];
      if (length >= narrow || e.coarse.length) {
        flush(e.start[i]);
        emitSpan(out, row, e, i);
        continue;
      }
      if (!sums) sums = new Float64Array(tables.kinds.length), begin = e.start[i];
      sums[e.kind[i]] += length;
      if (e.start[i + 1] - begin >= narrow) flush(e.start[i + 1]);
    }
    flush(Math.min(e.start[e.start.length - 1], Math.max(to, begin + 1)));
  }

  function drawLayers(out, labels, from, to) {
    const width = document.getElementById("timeline").clientWidth - 130;
    tables.layers.forEach((layer, i) => {
      if (layer.end <= from || layer.start >= to) return;
      const rate = layer.macs ? `, ${number.format(layer.macs)} MAC, ${(layer.macs / (layer.end - layer.start)).toFixed(1)} MAC/cycle` : "";
      quad(out, 0, layer.start, layer.end, 0, 1, (dark() ? ["#4a4636", "#2c4356"] : ["#e3e0d3", "#c9dbe8"])[i % 2], "layer " + escaped(layer.name),
           between(layer.start, layer.end), escaped(`${layer.op}${rate}; ${number.format(layer.predicted)} cycles by the ${tables.cycle_model}`));
      const left = Math.max(layer.start, from), right = Math.min(layer.end, to);
      if ((right - left) / (to - from) * width < 7.5 * layer.name.length + 8) return;
      labels.x.push((left + right) / 2), labels.y.push(0.5), labels.text.push(layer.name);
    });
  }

  function draw() {
    pending = false;
    const {range, spans, texts} = models, from = range.start, to = range.end;
    const out = {left: [], right: [], top: [], bottom: [], colour: [], what: [], when: [], detail: []};
    const labels = {x: [], y: [], text: []}, narrow = (to - from) / COLUMNS;
    drawLayers(out, labels, from, to);
    engines.forEach((e, i) => drawEngine(out, i + 1, e, from, to, narrow));
    spans.data = out;
    texts.data = labels;
    document.body.dataset.quads = out.left.length;
    document.body.dataset.range = `${Math.round(from)}-${Math.round(to)}`;
  }

  function changed() {
    if (!tables || pending) return;
    pending = true;
    requestAnimationFrame(draw);
  }

  function show(from, to) {
    models.range.setv({start: from, end: to});
    changed();
  }

  // What "%20" and the like in an address stand for; as it is, where that is nothing.
  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  }

  // A layer by its name, or the group that an operator was fused into by the operator's.
  function layerCalled(name) {
    return tables.layers.find(entry => entry.name === name) || tables.layers.find(entry => entry.members.includes(name));
  }

  // "#cycles=1000-2000" in the address, and "#layer=NAME".
  function fromAddress() {
    const cycles = /cycles=(\d+)-(\d+)/.exec(location.hash), layer = /layer=([^&]+)/.exec(location.hash);
    if (cycles && +cycles[1] < +cycles[2]) return show(+cycles[1], +cycles[2]);
    const found = layer && layerCalled(decoded(layer[1]));
    if (found) show(found.start, found.end);
  }

  function chooser() {
    const select = document.getElementById("zoom");
    for (const layer of tables.layers) select.add(new Option(layer.name, layer.name));
    select.onchange = () => {
      const layer = tables.layers.find(entry => entry.name === select.value);
      show(layer ? layer.start : 0, layer ? layer.end : tables.end);
    };
  }

  function find_models() {
    for (const doc of Bokeh.documents) {
      const plot = doc.get_model_by_name("timeline");
      if (plot) return {range: plot.x_range, spans: doc.get_model_by_name("spans"), texts: doc.get_model_by_name("labels")};
    }
    return null;
  }

  async function start() {
    const [numbers, text] = await Promise.all([unpack("timeline-numbers"), unpack("timeline-tables")]);
    const read = JSON.parse(new TextDecoder().decode(text));
    while (!(models = find_models())) await new Promise(done => setTimeout(done, 20));
    tables = read;
    engines = split(new Int32Array(numbers));
    chooser();
    draw();
    fromAddress();
    addEventListener("hashchange", fromAddress);
    addEventListener("resize", changed);
  }

  window.nncosimTimeline = {changed, show, now: () => { if (tables) draw(); }};
  addEventListener("load", () => start().catch(error => {
    const note = document.createElement("p");
    note.className = "bad";
    note.textContent = `The timeline cannot be drawn (${error}); a browser of 2023 or later is needed.`;
    document.getElementById("timeline").prepend(note);
  }));
})();
