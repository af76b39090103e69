// The task stream of a report: drag over a time to see it larger, double-click to see all again.
const stream = document.getElementById("stream"), svg = stream.querySelector("svg");
if (svg) {
  const bars = [...svg.querySelectorAll("rect")].filter((bar) => bar.querySelector("title"));
  const lane = svg.querySelector("rect[fill-opacity]");
  const left = +lane.getAttribute("x"), width = +lane.getAttribute("width");
  const [begin, end] = [...svg.querySelectorAll("text[font-size]")];
  const places = bars.map((bar) => [+bar.getAttribute("x") - left, +bar.getAttribute("width")].map((x) => x / width));
  const span = +stream.dataset.spanUs;
  const took = (us) => us < 1e3 ? us.toFixed(0) + " µs" : us < 1e6 ? (us / 1e3).toPrecision(3) + " ms" : us < 6e7 ? (us / 1e6).toPrecision(3) + " s" : (us / 6e7).toPrecision(3) + " min";
  let from = 0, to = 1;
  const show = (a, b) => {
    // Less than a microsecond is nothing to look at.
    const least = Math.max(1 / span, 1e-9);
    from = Math.max(0, Math.min(a, 1 - least));
    to = Math.min(1, Math.max(b, from + least));
    bars.forEach((bar, i) => {
      const [x, w] = places[i];
      const first = Math.max(0, (x - from) / (to - from)), last = Math.min(1, (x + w - from) / (to - from));
      bar.setAttribute("x", left + first * width);
      bar.setAttribute("width", last > first ? Math.max((last - first) * width, 0.5) : 0);
    });
    begin.textContent = from ? took(from * span) : "0";
    end.textContent = took(to * span);
    stream.querySelector("button").disabled = from === 0 && to === 1;
  };
  const place = (event) => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    return Math.min(1, Math.max(0, (x - left) / width));
  };
  const chosen = document.createElementNS(svg.namespaceURI, "rect");
  Object.entries({ y: lane.getAttribute("y"), width: 0, height: begin.getAttribute("y") - lane.getAttribute("y") - 8, fill: "#3269d5", "fill-opacity": 0.25, "pointer-events": "none" }).forEach(([name, value]) => chosen.setAttribute(name, value));
  svg.append(chosen);
  let grasped = null;
  svg.onpointerdown = (event) => { grasped = place(event); svg.setPointerCapture(event.pointerId); event.preventDefault(); stream.focus(); };
  svg.onpointermove = (event) => {
    if (grasped === null) return;
    const at = place(event);
    chosen.setAttribute("x", left + Math.min(at, grasped) * width);
    chosen.setAttribute("width", Math.abs(at - grasped) * width);
  };
  svg.onpointercancel = () => { grasped = null; chosen.setAttribute("width", 0); };
  svg.onpointerup = (event) => {
    const at = place(event), [a, b] = [Math.min(at, grasped), Math.max(at, grasped)];
    svg.onpointercancel();
    // A click is no choice.
    if (b - a > 0.004) show(from + a * (to - from), from + b * (to - from));
  };
  svg.ondblclick = () => show(0, 1);
  stream.querySelector("button").onclick = () => show(0, 1);
  stream.onkeydown = (event) => {
    const width = to - from, middle = (from + to) / 2;
    const move = (by) => { by = Math.min(1 - to, Math.max(-from, by)); show(from + by, to + by); };
    const keys = { ArrowLeft: () => move(-width / 4), ArrowRight: () => move(width / 4), "+": () => show(middle - width / 4, middle + width / 4), "-": () => show(middle - width, middle + width), "0": () => show(0, 1) };
    if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
  };
  show(+stream.dataset.from, 1);
}
