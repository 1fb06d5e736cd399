"use strict";
(() => {
  const data = JSON.parse(document.getElementById("timeline-data").textContent);
  const root = document.getElementById("timeline");
  if (!root || !data.items.length) return;
  root.hidden = false;
  const ROW = 18, TOP = 22, LISTED = 300;
  const [ROWAT, START, END, STATUS, TITLE, DETAIL, REF] = [0, 1, 2, 3, 4, 5, 6];
  const form = document.getElementById("filter"), chart = document.getElementById("chart");
  const canvas = document.getElementById("canvas"), detail = document.getElementById("detail");
  const list = document.getElementById("list"), pen = canvas.getContext("2d");
  const end = Math.max(data.end, 0.001);
  let from = data.begin, to = end, shown = [], place = new Map(), gutter = 200, queued = false;

  const lanes = [...new Set(data.rows.map(([lane]) => lane))];
  for (const lane of lanes) {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox"; box.name = "lane"; box.value = lane;
    box.checked = !(lane === "spans" || lane === "requests") || data.items.length < 400;
    label.append(box, " " + lane);
    document.getElementById("lanes").append(label);
  }
  const texts = data.items.map(item => `${item[TITLE]} ${item[DETAIL]} ${data.rows[item[ROWAT]].join(" ")}`.toLowerCase());

  function choose() {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const trouble = form.elements.trouble.checked;
    const on = new Set([...form.querySelectorAll("[name=lane]:checked")].map(box => box.value));
    shown = [];
    const rows = new Set();
    data.items.forEach((item, index) => {
      if (!on.has(data.rows[item[ROWAT]][0])) return;
      if (trouble && item[STATUS] !== "failed" && item[STATUS] !== "warning") return;
      if (!words.every(word => texts[index].includes(word))) return;
      shown.push(item);
      rows.add(item[ROWAT]);
    });
    place = new Map([...rows].sort((a, b) => a - b).map((row, index) => [row, index]));
    document.getElementById("count").textContent = `${shown.length} of ${data.items.length} items`;
    fill();
    draw();
  }

  function stamp(item) { return new Date(Date.parse(data.epoch) + item[START] * 1000).toISOString().slice(11, 23); }
  function took(item) { return item[END] === null ? "" : (item[END] - item[START]).toFixed(3); }
  const MARK = {ok: "✓ ok", failed: "✗ failed", warning: "! warning"};

  function fill() {
    list.replaceChildren(...shown.slice(0, LISTED).map(item => {
      const row = document.createElement("tr");
      for (const text of [`+${item[START].toFixed(3)}`, took(item), MARK[item[STATUS]] || "", item[DETAIL] ? `${item[TITLE]}: ${item[DETAIL]}` : item[TITLE], item[REF]]) {
        const cell = document.createElement("td");
        cell.textContent = text;
        row.append(cell);
      }
      row.addEventListener("click", () => tell(item));
      return row;
    }));
    if (shown.length > LISTED) {
      const row = list.insertRow(), cell = row.insertCell();
      cell.colSpan = 5;
      cell.textContent = `${shown.length - LISTED} more: narrow the search, or open timeline.json`;
    }
  }

  function tell(item) {
    const parts = [`${stamp(item)} UTC (+${item[START].toFixed(3)} s)`, took(item) && `${took(item)} s`, MARK[item[STATUS]], item[TITLE], item[DETAIL], item[REF]];
    detail.textContent = parts.filter(Boolean).join(" · ");
  }

  function x(time) { return gutter + (time - from) / (to - from) * (canvas.clientWidth - gutter - 10); }
  function at(pixel) { return from + (pixel - gutter) / (canvas.clientWidth - gutter - 10) * (to - from); }

  function draw() { if (!queued) { queued = true; requestAnimationFrame(paint); } }

  function paint() {
    queued = false;
    const style = getComputedStyle(document.documentElement), colour = name => style.getPropertyValue(`--${name}`).trim();
    const width = Math.max(320, chart.clientWidth), height = TOP + place.size * ROW + 4, ratio = Math.min(window.devicePixelRatio || 1, 2);
    gutter = Math.min(260, Math.round(width * 0.3));
    canvas.width = width * ratio; canvas.height = height * ratio;
    canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = colour("page"); pen.fillRect(0, 0, width, height);
    pen.font = "11px system-ui, 'DejaVu Sans', sans-serif"; pen.textBaseline = "middle";
    const step = pick((to - from) / Math.max(2, (width - gutter) / 90));
    pen.strokeStyle = colour("line"); pen.fillStyle = colour("soft"); pen.textAlign = "center";
    for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
      pen.beginPath(); pen.moveTo(x(tick), TOP - 4); pen.lineTo(x(tick), height); pen.stroke();
      pen.fillText(`${+tick.toFixed(3)} s`, x(tick), 9);
    }
    let before = "";
    pen.textAlign = "left";
    for (const [row, index] of place) {
      const [lane, label] = data.rows[row], y = TOP + index * ROW;
      if (lane !== before && index) { pen.fillStyle = colour("soft"); pen.fillRect(0, y, width, 1); }
      before = lane;
      pen.fillStyle = colour("ink");
      pen.save(); pen.beginPath(); pen.rect(0, y, gutter - 6, ROW); pen.clip();
      pen.fillText(lane === label || lane === "steps" ? label : `${lane}: ${label}`, 4, y + ROW / 2); pen.restore();
    }
    pen.save(); pen.beginPath(); pen.rect(gutter, 0, width - gutter, height); pen.clip();
    for (const item of shown) {
      const y = TOP + place.get(item[ROWAT]) * ROW, left = x(item[START]), ink = colour(item[STATUS] || "neutral");
      if (left > width || (item[END] !== null && x(item[END]) < gutter)) continue;
      pen.fillStyle = ink; pen.strokeStyle = ink;
      if (item[END] !== null) bar(left, y, Math.max(1.5, x(item[END]) - left), item[STATUS]);
      else moment(left, y + ROW / 2, item[STATUS]);
    }
    pen.restore();
  }

  function bar(left, y, wide, status) {
    pen.globalAlpha = status === "failed" || status === "warning" ? 1 : 0.75;
    pen.fillRect(left, y + 3, wide, ROW - 6);
    pen.globalAlpha = 1;
    if (status !== "failed" && status !== "warning") return;
    pen.save(); pen.beginPath(); pen.rect(left, y + 3, wide, ROW - 6); pen.clip();
    pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--page");
    for (let at = left - ROW; at < left + wide && at < canvas.clientWidth; at += 7) {
      if (at < gutter - ROW) continue;
      pen.beginPath(); pen.moveTo(at, y + ROW); pen.lineTo(at + ROW, y); pen.stroke();
      if (status === "failed") { pen.beginPath(); pen.moveTo(at, y); pen.lineTo(at + ROW, y + ROW); pen.stroke(); }
    }
    pen.restore();
  }

  function moment(at, y, status) {
    pen.beginPath(); pen.lineWidth = 2;
    if (status === "failed") { pen.moveTo(at - 4, y - 4); pen.lineTo(at + 4, y + 4); pen.moveTo(at + 4, y - 4); pen.lineTo(at - 4, y + 4); pen.stroke(); }
    else if (status === "warning") { pen.moveTo(at, y - 5); pen.lineTo(at + 5, y + 4); pen.lineTo(at - 5, y + 4); pen.fill(); }
    else { pen.moveTo(at, y - 5); pen.lineTo(at, y + 5); pen.stroke(); }
    pen.lineWidth = 1;
  }

  function pick(least) {
    const power = 10 ** Math.floor(Math.log10(least));
    return [1, 2, 5, 10].map(times => times * power).find(size => size >= least);
  }

  function zoom(times, around) {
    const wide = Math.min(end, Math.max(0.005, (to - from) * times)), share = (around - from) / (to - from);
    from = Math.min(Math.max(0, around - wide * share), end - wide);
    to = from + wide;
    draw();
  }

  function under(event) {
    const box = canvas.getBoundingClientRect(), left = event.clientX - box.left, index = Math.floor((event.clientY - box.top - TOP) / ROW);
    let best = null, nearest = 8;
    for (const item of shown) {
      if (place.get(item[ROWAT]) !== index) continue;
      const a = x(item[START]), b = item[END] === null ? a : x(item[END]);
      const distance = left < a ? a - left : left > b ? left - b : 0;
      if (distance < nearest || (best && distance === nearest && (item[END] ?? item[START]) - item[START] < (best[END] ?? best[START]) - best[START])) { best = item; nearest = distance; }
    }
    return best;
  }

  let dragged = null;
  canvas.addEventListener("pointerdown", event => { dragged = {x: event.clientX, from, to}; });
  window.addEventListener("pointerup", () => { dragged = null; });
  canvas.addEventListener("pointermove", event => {
    if (dragged && event.buttons) {
      const moved = (dragged.x - event.clientX) / (canvas.clientWidth - gutter - 10) * (dragged.to - dragged.from), wide = dragged.to - dragged.from;
      from = Math.min(Math.max(0, dragged.from + moved), end - wide);
      to = from + wide;
      draw();
      return;
    }
    const item = under(event);
    if (item) tell(item);
  });
  canvas.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.3 : 1 / 1.3, at(event.clientX - canvas.getBoundingClientRect().left));
  }, {passive: false});
  chart.addEventListener("keydown", event => {
    const wide = to - from, move = {ArrowLeft: -wide / 5, ArrowRight: wide / 5}[event.key];
    if (event.key === "+") zoom(1 / 1.5, (from + to) / 2);
    else if (event.key === "-") zoom(1.5, (from + to) / 2);
    else if (move) { from = Math.min(Math.max(0, from + move), end - wide); to = from + wide; draw(); event.preventDefault(); }
  });
  form.addEventListener("click", event => {
    const how = event.target.dataset && event.target.dataset.zoom;
    if (how === "in") zoom(1 / 2, (from + to) / 2);
    if (how === "out") zoom(2, (from + to) / 2);
    if (how === "all") { from = 0; to = end; draw(); }
  });
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", choose);
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  choose();
})();
