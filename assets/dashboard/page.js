"use strict";
// The page of a cluster: what the server tells becomes state, and what changed is drawn once a frame.
const base = document.body.dataset.base;
const token = new URLSearchParams(location.search).get("token");
const address = (path) => base + path + (token ? (path.includes("?") ? "&" : "?") + "token=" + encodeURIComponent(token) : "");
const $ = (id) => document.getElementById(id);
const MOST_BARS = 30000;
const COLOURS = ["#4e79a7", "#e08a2e", "#59a14f", "#b07aa1", "#d3605b", "#3f9c99", "#c9a227", "#8f6d57", "#d37295", "#6d7fbf"];

let state = { functions: [], bars: [], rows: [], workers: [], lines: [], moves: [], frames: [], now: 0, missed: 0, ended: false };
let seen = null, paused = false, dirty = true, offset = 0, loaded = null;
let movesChanged = false, framesChanged = false;
let view = { span: 10e6, end: null };

function take(told) {
  if (told.is_whole) state = { ...state, functions: [], bars: [], lines: [] };
  for (const [at, name] of told.functions) state.functions[at] = name;
  state.bars.push(...told.bars);
  if (state.bars.length > MOST_BARS) state.bars.splice(0, state.bars.length - MOST_BARS);
  state.lines.push(...told.lines);
  if (state.lines.length > 500) state.lines.splice(0, state.lines.length - 500);
  Object.assign(state, { rows: told.rows, workers: told.workers, missed: told.missed, ended: told.has_ended });
  if (told.is_whole || told.moves) { state.moves = told.moves || []; movesChanged = true; }
  if (told.is_whole || told.frames) { state.frames = told.frames || []; framesChanged = true; }
  offset = told.now_us - performance.now() * 1000;
  seen = told.seq;
  dirty = true;
}
const takeAll = (text) => { const told = JSON.parse(text); (Array.isArray(told) ? told : [told]).forEach(take); };

// Streams first; where a proxy holds them back, questions.
let source = null, fails = 0;
function listen() {
  source = new EventSource(address("events" + (seen === null ? "" : "?since=" + seen)));
  const silent = setTimeout(() => { if (seen === null) { source.close(); ask(); } }, 3000);
  source.onmessage = (event) => { fails = 0; say(""); takeAll(event.data); };
  source.onerror = () => {
    clearTimeout(silent);
    if (state.ended) return source.close();
    say("the notebook does not answer; trying again …");
    if (++fails > 3) { source.close(); ask(); }
  };
}
async function ask() {
  for (;;) {
    try {
      const answer = await fetch(address("state" + (seen === null ? "" : "?since=" + seen)));
      if (answer.status === 403) return say(await answer.text());
      takeAll(await answer.text());
      say("");
    } catch { say("the notebook does not answer; trying again …"); }
    if (state.ended) return;
    await new Promise((done) => setTimeout(done, 500));
  }
}
let trouble = "";
function say(text) { trouble = text; dirty = true; }

const number = (n) => n.toLocaleString("en");
function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) { if (n < 1024 || unit === "GiB") return (n >= 100 || unit === "B" ? n.toFixed(0) : n.toFixed(1)) + " " + unit; n /= 1024; }
}
function duration(us) {
  if (us < 1000) return us.toFixed(0) + " µs";
  if (us < 1e6) return (us / 1e3).toPrecision(3) + " ms";
  return us < 60e6 ? (us / 1e6).toPrecision(3) + " s" : (us / 60e6).toFixed(1) + " min";
}
// As fine as the lines of time stand apart.
function clock(us, step) {
  const text = new Date(us / 1000).toLocaleTimeString("en-GB");
  if (step >= 1e6) return text;
  return text.slice(-2) + "." + String(Math.floor(us % 1e6)).padStart(6, "0").slice(0, Math.max(1, Math.ceil(6 - Math.log10(step)))) + " s";
}
function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// The stream.
const canvas = $("bars");
let rowsOf = [];
const colour = (at) => COLOURS[at % COLOURS.length];
const nowUs = () => (paused || state.ended ? view.frozen : performance.now() * 1000 + offset);
const endUs = () => view.end ?? nowUs();

function lanes() {
  const found = new Map();
  for (const worker of state.workers) for (let lane = 0; lane < worker.threads; lane++) found.set(worker.id + "/" + lane, [worker.id, lane]);
  for (const bar of visible()) found.set(bar[0] + "/" + bar[1], [bar[0], bar[1]]);
  return [...found.values()].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
}
function visible() {
  const end = endUs(), start = end - view.span;
  return (loaded || state.bars).filter((bar) => bar[3] <= end && bar[3] + bar[4] >= start);
}
function drawStream() {
  const bars = visible(), all = lanes(), style = getComputedStyle(document.documentElement);
  const left = 76, foot = 20, height = Math.max(3, Math.min(22, 420 / Math.max(1, all.length)));
  const width = canvas.clientWidth, tall = Math.max(60, all.length * height) + foot, ratio = devicePixelRatio || 1;
  canvas.style.height = tall + "px";
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(tall * ratio)) { canvas.width = width * ratio; canvas.height = tall * ratio; }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, tall);
  c.font = "11px system-ui, sans-serif";
  const end = endUs(), start = end - view.span, x = (us) => left + ((us - start) / view.span) * (width - left);
  c.strokeStyle = style.getPropertyValue("--line");
  c.fillStyle = style.getPropertyValue("--faint");
  const step = [1, 2, 5].flatMap((d) => Array.from({ length: 12 }, (_, e) => d * 10 ** e)).sort((a, b) => a - b).find((s) => view.span / s <= Math.max(2, width / 110)) || view.span;
  for (let at = Math.ceil(start / step) * step; at <= end; at += step) {
    c.beginPath(); c.moveTo(x(at), 0); c.lineTo(x(at), tall - foot); c.stroke();
    c.textAlign = x(at) > width - 40 ? "right" : "center";
    c.fillText(clock(at, step), x(at), tall - 5);
  }
  rowsOf = all; c.textAlign = "left";
  let before = null;
  all.forEach(([worker, lane], i) => {
    if (worker !== before && height * state.workers.length > 0) { if (before === null || height > 8 || lane === 0 && i % Math.ceil(12 / height) === 0) c.fillText("worker-" + worker, 2, i * height + Math.min(height, 14) - 3); }
    before = worker;
  });
  const place = new Map(all.map(([worker, lane], i) => [worker + "/" + lane, i]));
  for (const bar of bars) {
    const i = place.get(bar[0] + "/" + bar[1]), from = Math.max(left, x(bar[3]));
    c.globalAlpha = bar[5] > 1 ? 0.75 : 1;
    c.fillStyle = colour(bar[2]);
    c.fillRect(from, i * height + 1, Math.max(1, x(bar[3] + bar[4]) - from), Math.max(1, height - 2));
  }
  c.globalAlpha = 1;
  // For tests, and for who measures: what was drawn.
  canvas.dataset.bars = bars.length;
  canvas.dataset.rows = all.length;
  const names = [...new Set(bars.map((bar) => bar[2]))].slice(0, 12);
  $("legend").replaceChildren(...names.map((at) => { const dot = made("i"); dot.style.background = colour(at); return made("span", {}, dot, state.functions[at] || "?"); }));
  view.drawn = { left, height, start, width };
}
function barAt(event) {
  if (!view.drawn) return null;
  const box = canvas.getBoundingClientRect(), { left, height, start, width } = view.drawn;
  const row = rowsOf[Math.floor((event.clientY - box.top) / height)], px = view.span / (width - left);
  const us = start + (event.clientX - box.left - left) * px;
  if (!row) return null;
  const near = visible().filter((bar) => bar[0] === row[0] && bar[1] === row[1] && bar[3] - 3 * px <= us && bar[3] + bar[4] + 3 * px >= us);
  return near.sort((a, b) => Math.abs(a[3] + a[4] / 2 - us) - Math.abs(b[3] + b[4] / 2 - us))[0] || null;
}
canvas.addEventListener("pointermove", (event) => {
  if (drag && (drag.moved || Math.abs(event.clientX - drag.x) > 3)) { view.end = drag.end - ((event.clientX - drag.x) / (view.drawn.width - view.drawn.left)) * view.span; drag.moved = true; follow(false); return; }
  if (drag) return;
  const bar = (pointed = barAt(event));
  if (!bar) return ($("hover").textContent = "Point at a task; click it for its journey.");
  const [worker, , fn, , took, n, moved, why] = bar;
  $("hover").textContent = `${state.functions[fn]}${n > 1 ? `, ${number(n)} tasks` : ""} on worker-${worker}: ${duration(took)}${moved ? `, after ${bytes(moved)} had come` : ""}${why ? `; there because ${why}` : ""}`;
});
// What was pointed at is what is clicked: the stream moves on meanwhile.
let drag = null, pointed = null;
canvas.addEventListener("pointerleave", () => (pointed = null));
canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, end: endUs(), moved: false }; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointerup", async (event) => {
  const was = drag; drag = null;
  if (was?.moved) return reload();
  const bar = pointed || barAt(event);
  if (bar) await showJourney(bar[8]);
});
async function showJourney(key) {
  const answer = await fetch(address("journey/" + key));
  const text = await answer.text();
  if (answer.ok) $("story").innerHTML = text; else $("story").replaceChildren(made("p", { class: "none" }, text));
  $("journey").scrollIntoView({ block: "nearest" });
}
canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY > 0 ? 1.25 : 0.8); }, { passive: false });
function zoom(by) { view.span = Math.min(86400e6, Math.max(1000, view.span * by)); dirty = true; reload(); }
function pan(by) { view.end = Math.min(nowUs(), endUs() + by * view.span); follow(false); reload(); }
function follow(on) { if (on) { view.end = null; loaded = null; } $("follow").setAttribute("aria-pressed", String(on)); dirty = true; }
// What is further back than the page holds is fetched: finer, too, than it was told.
let timer = null;
function reload() {
  clearTimeout(timer);
  if (view.end === null && !paused) return;
  timer = setTimeout(async () => {
    const end = endUs(), answer = await fetch(address(`between?from=${Math.floor(end - view.span)}&to=${Math.ceil(end)}`));
    if (answer.ok && (view.end !== null || paused)) { loaded = await answer.json(); dirty = true; }
  }, 120);
}
$("back").onclick = () => pan(-0.5); $("forth").onclick = () => pan(0.5);
$("wider").onclick = () => zoom(1.6); $("closer").onclick = () => zoom(0.625); $("follow").onclick = () => follow(true);
canvas.addEventListener("keydown", (event) => {
  const does = { ArrowLeft: () => pan(-0.25), ArrowRight: () => pan(0.25), "-": () => zoom(1.6), "+": () => zoom(0.625), "=": () => zoom(0.625), 0: () => follow(true) }[event.key];
  if (does) { event.preventDefault(); does(); }
});
$("pause").onclick = () => {
  view.frozen = nowUs(); paused = !paused; loaded = null;
  $("pause").setAttribute("aria-pressed", String(paused)); $("pause").textContent = paused ? "Go on" : "Pause"; dirty = true;
  if (paused) reload();
};

function drawRows() {
  if (!state.rows.length) return;
  $("rows").replaceChildren(...state.rows.map(({ waiting, running, cancelled, total: spent }) => {
    const { function: name, n_done: done, n_failed: failed } = spent;
    const total = waiting + running + done + failed + cancelled || 1;
    const parts = [["done", done], ["failed", failed], ["cancelled", cancelled], ["running", running]].map(([kind, n]) => { const b = made("b", { class: kind }); b.style.width = (100 * n) / total + "%"; return b; });
    const words = [`${number(done)} of ${number(total)}`, running && `${number(running)} running`, failed && `${number(failed)} failed`, cancelled && `${number(cancelled)} cancelled`].filter(Boolean).join(", ");
    return made("div", { class: "row" }, made("div", {}, made("code", {}, name), made("span", {}, words)), made("div", { class: "bar", role: "progressbar", "aria-valuenow": done, "aria-valuemax": total, "aria-label": name }, ...parts), made("div", { class: "facts" }, took(spent, done)));
  }));
}
// Skew is what makes the last task keep all others waiting.
function took(spent, n) {
  if (!n || !spent.total_us) return "";
  const mean = spent.total_us / n, times = spent.longest_us / mean;
  return [`${duration(spent.total_us)} in all, ${duration(mean)} each`, n > 1 && times >= 2 && `the longest ${duration(spent.longest_us)}, ${times.toFixed(0)} times as long`, spent.n_rows && `${number(spent.n_rows)} rows`, spent.n_bytes && `gave ${bytes(spent.n_bytes)}`, spent.moved_bytes && `moved ${bytes(spent.moved_bytes)}`].filter(Boolean).join("; ");
}
// A table for each frame; rows without a number were not counted.
function drawFrames() {
  if (!framesChanged) return;
  framesChanged = false;
  if (!state.frames.length) return $("stages").replaceChildren(made("p", { class: "none" }, "No frame was collected yet."));
  const table = made("table", {});
  let before = null;
  for (const s of state.frames) {
    if (s.frame !== before) table.append(made("tr", {}, made("th", { colspan: 5 }, "Frame " + s.frame)));
    before = s.frame;
    const part = (kind, n) => { const b = made("b", { class: kind }); b.style.width = (100 * n) / (s.n_tasks || 1) + "%"; return b; };
    const bar = made("div", { class: "bar", role: "progressbar", "aria-valuenow": s.n_done, "aria-valuemax": s.n_tasks, "aria-label": `stage ${s.number}` }, part("done", s.n_done), part("failed", s.n_failed), part("running", s.n_running));
    const times = s.n_done > 1 ? s.longest_us / (s.total_us / s.n_done) : 1;
    const skew = times >= 2 ? made("span", { class: "skew" }, `; the longest ${duration(s.longest_us)}, ${times.toFixed(0)} times the mean`) : "";
    const gave = [s.n_rows && `${number(s.n_rows)} rows`, s.n_bytes && bytes(s.n_bytes), s.moved_bytes && `${bytes(s.moved_bytes)} moved`].filter(Boolean).join(", ");
    table.append(made("tr", {}, made("td", {}, String(s.number)), made("td", {}, s.what), made("td", {}, bar), made("td", {}, `${number(s.n_done)} of ${number(s.n_tasks)}${s.n_failed ? `, ${number(s.n_failed)} failed` : ""}`), made("td", {}, gave, s.total_us ? `${gave ? "; " : ""}${duration(s.total_us)} in all` : "", skew)));
  }
  $("stages").replaceChildren(table);
}
function drawWorkers() {
  if (!state.workers.length) { $("cards").replaceChildren(made("p", { class: "none" }, "There is no worker.")); return; }
  $("cards").replaceChildren(...state.workers.map((w) => {
    const most = Math.max(w.limit, w.resident + w.spilled, 1), part = (kind, n) => { const b = made("b", { class: kind }); b.style.width = (100 * n) / most + "%"; return b; };
    const tags = [w.is_paused && "paused", w.is_silent && "does not answer"].filter(Boolean).join(", ");
    return made("div", { class: "worker" },
      made("div", {}, made("b", {}, w.name), " ", made("span", { class: "tag" }, tags)),
      made("div", { class: "bar", title: "values, other memory, on disk" }, part("managed", Math.min(w.managed, w.resident)), part("other", Math.max(0, w.resident - w.managed)), part("spilled", w.spilled)),
      made("div", { class: "facts" }, `${bytes(w.resident)}${w.limit ? " of " + bytes(w.limit) : ""}, values ${bytes(w.managed)}${w.spilled ? ", on disk " + bytes(w.spilled) : ""}; ${number(w.n_assigned)} ${w.n_assigned === 1 ? "task" : "tasks"} now, ${number(w.n_values)} results; ${w.threads} ${w.threads === 1 ? "thread" : "threads"}, pid ${w.pid}`));
  }));
}
// Who sent what to whom: workers on a circle, a curve for each pair, bent to the side of who receives.
function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
function drawMap() {
  if (!movesChanged) return;
  movesChanged = false;
  if (!state.moves.length) return $("links").replaceChildren(made("p", { class: "none" }, "Nothing has gone from one worker to another."));
  const ids = [...new Set(state.workers.map((w) => w.id).concat(state.moves.flatMap(([from, to]) => [from, to])))].sort((a, b) => a - b);
  const at = new Map(ids.map((id, i) => { const angle = (2 * Math.PI * i) / ids.length - Math.PI / 2; return [id, [170 + 120 * Math.cos(angle), 150 + 120 * Math.sin(angle)]]; }));
  const most = state.moves[0][2], drawing = svg("svg", { viewBox: "0 0 340 300", role: "img", "aria-label": "Bytes between workers; the list beside it says the same" });
  const paths = state.moves.map(([from, to, n]) => {
    const [x1, y1] = at.get(from), [x2, y2] = at.get(to), bend = 0.18;
    const path = svg("path", { d: `M${x1} ${y1} Q${(x1 + x2) / 2 - bend * (y2 - y1)} ${(y1 + y2) / 2 + bend * (x2 - x1)} ${x2} ${y2}`, "stroke-width": 1 + 7 * Math.sqrt(n / most) }, svg("title", {}, `worker-${from} to worker-${to}: ${bytes(n)}`));
    drawing.append(path);
    return path;
  });
  for (const [id, [x, y]] of at) {
    drawing.append(svg("circle", { cx: x, cy: y, r: ids.length > 24 ? 3 : 6 }));
    if (ids.length <= 24) drawing.append(svg("text", { x: x + (x >= 170 ? 9 : -9), y: y + 4, "text-anchor": x >= 170 ? "start" : "end" }, String(id)));
  }
  const list = made("ol", {}, ...state.moves.slice(0, 8).map(([from, to, n], i) => {
    const item = made("li", {}, `worker-${from} → worker-${to}: ${bytes(n)}`);
    item.onpointerenter = () => paths[i].classList.add("pointed");
    item.onpointerleave = () => paths[i].classList.remove("pointed");
    return item;
  }));
  $("links").replaceChildren(drawing, list);
}
// A run that the scheduler records, and plays again for other workers.
let run = "nothing";
function showRun(told) {
  run = told.state;
  $("record").textContent = run === "begun" ? "Stop" : run === "recorded" ? "Record another" : "Record a run";
  $("record").setAttribute("aria-pressed", String(run === "begun"));
  $("recorded").textContent = run === "begun" ? "Recording: run cells now, and stop when they are done." : run === "recorded" ? `${number(told.n_tasks)} tasks on ${number(told.n_workers)} ${told.n_workers === 1 ? "worker" : "workers"} were recorded.` : "Record what you run in the notebook, and see what it would have been on other workers.";
  $("scenario").hidden = run !== "recorded";
  if (run !== "recorded") $("forecast").replaceChildren();
}
async function askRun(path, options) {
  try {
    const answer = await fetch(address("what-if" + path), options);
    if (answer.ok) showRun(await answer.json()); else $("recorded").textContent = await answer.text();
  } catch { $("recorded").textContent = "The notebook does not answer."; }
}
$("record").onclick = () => askRun(run === "begun" ? "/stop" : "/record", { method: "POST" });
$("scenario").onsubmit = async (event) => {
  event.preventDefault();
  $("forecast").className = ""; $("forecast").textContent = "playing …";
  try {
    const answer = await fetch(address("what-if/forecast?" + new URLSearchParams(new FormData($("scenario")))));
    const text = await answer.text();
    $("forecast").className = answer.ok ? "" : "trouble";
    if (answer.ok) $("forecast").innerHTML = text; else $("forecast").textContent = text;
  } catch { $("forecast").className = "trouble"; $("forecast").textContent = "The notebook does not answer."; }
};
askRun("");
// Drawn by the server, when something has changed and the pane is looked at.
let drawnFor = "", graphSeen = false;
new IntersectionObserver((entries) => (graphSeen = entries[0].isIntersecting)).observe($("graph"));
setInterval(async () => {
  const now = JSON.stringify(state.rows);
  if (!graphSeen || paused || state.ended || document.hidden || now === drawnFor || !state.rows.length) return;
  drawnFor = now;
  try {
    const answer = await fetch(address("graph"));
    if (answer.status === 200) $("drawing").innerHTML = await answer.text();
  } catch { drawnFor = ""; }
}, 1000);
// Runs of flows: from the store, of all notebooks; one of them as the notebook shows it.
let flowsSeen = false, runsDrawn = "", runChosen = null;
new IntersectionObserver((entries) => (flowsSeen = entries[0].isIntersecting)).observe($("flows"));
function showRuns(runs) {
  const table = made("table", {}, made("tr", {}, ...["run", "flow", "parameters", "state", "began", "took", "reason"].map((name) => made("th", { scope: "col" }, name))));
  for (const r of runs) {
    const choose = made("button", { type: "button", "aria-pressed": String(r.id === runChosen), "aria-label": `run ${r.id.slice(0, 8)} of ${r.flow}` }, r.id.slice(0, 8));
    choose.onclick = () => { runChosen = runChosen === r.id ? null : r.id; $("one-run").replaceChildren(); showRuns(runs); if (runChosen) askOneRun(); };
    table.append(made("tr", {}, made("td", {}, choose), made("td", {}, r.flow), made("td", {}, r.parameters.slice(0, 60)), made("td", {}, made("i", { class: r.colour }), r.state), made("td", {}, new Date(r.began_us / 1000).toLocaleString("en-GB")), made("td", {}, r.ended_us ? duration(Math.max(0, r.ended_us - r.began_us)) : ""), made("td", {}, r.reason)));
  }
  $("runs").replaceChildren(table);
}
async function askOneRun() {
  const id = runChosen;
  const answer = await fetch(address("flows/" + id));
  const text = await answer.text();
  if (id !== runChosen) return;
  if (answer.ok) $("one-run").innerHTML = text; else $("one-run").textContent = text;
}
setInterval(async () => {
  if (!flowsSeen || paused || state.ended || document.hidden) return;
  try {
    const answer = await fetch(address("flows"));
    const text = await answer.text();
    if (!answer.ok) return void ($("runs").textContent = text);
    const runs = JSON.parse(text), one = runs.find((r) => r.id === runChosen);
    if (text !== runsDrawn && runs.length) showRuns(runs);
    if (one && (text !== runsDrawn || !one.ended_us)) await askOneRun();
    runsDrawn = text;
  } catch { /* It is said above that the notebook does not answer. */ }
}, 1000);
let lastLine = null;
function drawLines() {
  const newest = state.lines[state.lines.length - 1];
  if (newest === lastLine) return;
  lastLine = newest;
  const list = $("lines"), atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 30;
  list.replaceChildren(...state.lines.map(([at, kind, text]) => made("li", { class: kind === "failed" ? "failed-line" : kind }, made("time", {}, new Date(at / 1000).toLocaleTimeString("en-GB")), made("b", {}, kind), text)));
  if (atEnd) list.scrollTop = list.scrollHeight;
}
function draw() {
  const live = !paused && view.end === null && !state.ended;
  if (dirty || live) drawStream();
  if (dirty && !paused) { drawRows(); drawWorkers(); drawFrames(); drawMap(); drawLines(); }
  if (dirty) {
    const total = state.rows.reduce((sum, row) => [sum[0] + row.total.n_done, sum[1] + row.waiting + row.running + row.cancelled + row.total.n_done + row.total.n_failed], [0, 0]);
    const text = trouble || (state.ended ? "the notebook has ended; this is the last picture" : `${state.workers.length} ${state.workers.length === 1 ? "worker" : "workers"}, ${number(total[0])} of ${number(total[1])} tasks done`) + (state.missed ? `; ${number(state.missed)} events were too many to follow` : "");
    $("now").textContent = text; $("now").className = trouble ? "trouble" : "";
    if (state.ended && !view.frozen) view.frozen = performance.now() * 1000 + offset;
  }
  dirty = false;
}
(function loop() { const began = performance.now(); draw(); const took = performance.now() - began; window.slowest = Math.max(window.slowest || 0, took); setTimeout(() => requestAnimationFrame(loop), document.hidden ? 1000 : 60); })();
addEventListener("resize", () => (dirty = true));
listen();
