/// Drawing: elements, axes, lines, bars. Knows nothing of benchmarks.
let pageChartScript = #"""
    "use strict";
    const el = (name, attributes = {}, ...children) => {
      const node = document.createElement(name);
      for (const [key, value] of Object.entries(attributes)) {
        if (key.startsWith("--")) node.style.setProperty(key, value); else node.setAttribute(key, value);
      }
      node.append(...children.filter(child => child !== null && child !== undefined).map(child =>
        child instanceof Node ? child : document.createTextNode(String(child))));
      return node;
    };
    const svg = (name, attributes = {}, text) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      if (text !== undefined) node.textContent = text;
      return node;
    };
    // Both ends of a name tell it from others: a host's first part, and its port.
    const short = (text, limit) => text.length <= limit ? text : `${text.slice(0, Math.ceil(limit / 2) - 1)}…${text.slice(-Math.floor(limit / 2))}`;
    const colour = index => `var(--run${index % 8})`;
    // Where colours come again, lines are broken in another way.
    const lap = index => ["", "second", "third"][Math.floor(index / 8) % 3];
    const trim = text => text.includes(".") ? text.replace(/\.?0+$/, "") : text;
    const number = value => !isFinite(value) ? "–" : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en-US")
      : Math.abs(value) >= 100 ? value.toFixed(0) : trim(value.toFixed(Math.abs(value) >= 10 ? 1 : 2));
    const time = us => us >= 1e6 ? number(us / 1e6) + " s" : us >= 1000 ? number(us / 1000) + " ms" : number(us) + " µs";

    // Round steps that cover 0 to `top`.
    const steps = (top, count) => {
      const rough = top / count, power = 10 ** Math.floor(Math.log10(rough || 1));
      const step = [1, 2, 5, 10].map(factor => factor * power).find(candidate => candidate >= rough) || 1;
      const ticks = [];
      for (let value = 0; value <= top * 1.0001; value += step) ticks.push(value);
      return ticks;
    };
    // Round values from `low` to `high` on a logarithmic axis: decades, with 2 and 5 where they are few; steps where all is near.
    const logarithmic = (low, high) => {
      if (high / low < 6) return steps(high, 6).filter(tick => tick >= low);
      const ticks = [], few = Math.log10(high / low) < 2.2;
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
        for (const factor of few ? [1, 2, 5] : [1]) ticks.push(factor * 10 ** power);
      }
      return ticks.filter(tick => tick >= low * 0.999 && tick <= high * 1.001);
    };

    // lines: [{points: [[x, y]], color, raw}]; x and y: {low, high, ticks, text, log}
    const plot = ({ lines, x, y, xTitle, yTitle }) => {
      const width = 420, height = 220, left = 58, right = 14, top = 20, bottom = 34;
      const scale = (axis, from, to) => {
        const map = axis.log ? Math.log : value => value;
        const [low, high] = [map(axis.low), map(axis.high)];
        return value => from + (map(Math.max(value, axis.log ? axis.low : -Infinity)) - low) / ((high - low) || 1) * (to - from);
      };
      const px = scale(x, left, width - right), py = scale(y, height - bottom, top);
      const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${yTitle} by ${xTitle}` });
      for (const tick of y.ticks) {
        root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: py(tick), y2: py(tick) }));
        root.append(svg("text", { x: left - 6, y: py(tick) + 4, "text-anchor": "end" }, y.text(tick)));
      }
      for (const tick of x.ticks) {
        root.append(svg("line", { class: "grid", x1: px(tick), x2: px(tick), y1: top, y2: height - bottom }));
        root.append(svg("text", { x: px(tick), y: height - bottom + 15, "text-anchor": "middle" }, x.text(tick)));
      }
      root.append(svg("text", { x: left, y: 12 }, yTitle));
      root.append(svg("text", { x: width - right, y: height - 4, "text-anchor": "end" }, xTitle));
      for (const line of lines) {
        const path = line.points.map(([a, b], index) => `${index ? "L" : "M"}${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join("");
        if (line.points.length === 1) {
          root.append(svg("circle", { cx: px(line.points[0][0]), cy: py(line.points[0][1]), r: 3.5, style: `fill: ${line.color}` }));
        }
        const node = svg("path", { d: path, style: `stroke: ${line.color}`, class: line.raw ? "raw" : line.lap || "" });
        node.append(svg("title", {}, line.name));
        root.append(node);
      }
      return root;
    };

    // entries: [{name, value, low, high, color, cells, bad}]; text is how a value reads; heads are above the cells, the value's own first;
    // limit is that of a name's characters.
    const bars = (entries, text, heads, limit) => {
      const most = Math.max(...entries.map(entry => Math.max(entry.value, entry.high ?? 0)), 0) || 1;
      const share = value => Math.max(0, value / most * 100);
      const line = (kind, ...nodes) => el("div", { class: kind, "--cells": heads.length }, ...nodes);
      const lines = entries.map(entry => {
        const track = el("div", { class: "track" });
        const fill = el("div", { class: "fill", "--color": entry.color });
        fill.style.width = share(entry.value) + "%";
        track.append(fill);
        if (entry.low !== undefined && entry.low !== null) {
          const spread = el("div", { class: "spread", title: `${text(entry.low)} to ${text(entry.high)}` });
          spread.style.left = share(entry.low) + "%";
          spread.style.width = share(entry.high - entry.low) + "%";
          track.append(spread);
        }
        return line("bar", el("span", { title: entry.name }, short(entry.name, limit)), track, el("span", {}, text(entry.value)),
          ...entry.cells.map(cell => el("span", { class: entry.bad ? "side bad" : "side" }, cell)));
      });
      return [line("bar heads", el("span"), el("span"), ...heads.map(head => el("span", { title: head }, head))), ...lines];
    };
    """#
