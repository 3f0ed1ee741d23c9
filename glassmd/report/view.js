/* Turns one frame in a browser; inside view.html, which holds the numbers and K3D, which draws. */
"use strict";

const find = (id) => document.getElementById(id);

function bytesOf(id) {
  const text = atob(find(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

const facts = JSON.parse(find("facts").textContent);
const positions = new Float32Array(bytesOf("positions").buffer);
const predicted = new Float32Array(bytesOf("predicted").buffer);
const std = new Float32Array(bytesOf("std").buffer);
const speciesOf = new Int32Array(bytesOf("species-of").buffer);
const n = speciesOf.length;
const flat = facts.dimensions === 2;
const box = flat ? [...facts.box, 0] : facts.box;
const AXES = "xyz";
const UNKNOWN = 0x999999; // colour of what is not a number

/* What is drawn: of which time, which species, and which part of the box. */
const state = {
  time: facts.times.length - 1,
  fixed: false,
  species: facts.species.map(() => true),
  cut: { axis: null, position: 0, side: 1 }, // particles further along the axis than the position are hidden, or nearer
};

/* ---- words and numbers ---- */

/* "σ_AA" and "τ_α" with a real subscript. */
function write(element, text) {
  element.replaceChildren();
  text.split(/_(\p{L}+)/u).forEach((part, k) => {
    element.append(k % 2 ? Object.assign(document.createElement("sub"), { textContent: part }) : part);
  });
}

const digitsFor = (size) => Math.min(12, Math.max(0, 1 - Math.floor(Math.log10(size))));

/* A prediction with its standard deviation, to two digits of the latter. */
function withError(value, error) {
  if (!Number.isFinite(value)) return "unknown";
  if (!(error > 0)) return Number(value.toPrecision(3)).toString();
  return `${value.toFixed(digitsFor(error))} ± ${error.toFixed(digitsFor(error))}`;
}

/* Two to six round numbers between two ends: as many labels as have room. */
function roundNumbers(low, high) {
  if (high - low < 1e-6 * Math.abs(high)) return [[low, Number(low.toPrecision(3)).toString()]]; // they are all the same
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((one) => one >= 0.75 * rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9); k++) found.push(k * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return found.map((value) => [value, value.toFixed(Math.min(12, digits))]);
}

/* ---- colours ---- */

const limits = () => (state.fixed ? facts.limits_of_all : facts.limits[state.time]);

function colourOf(value, [low, high]) {
  if (!Number.isFinite(value)) return UNKNOWN;
  const share = Math.min(1, Math.max(0, (value - low) / (high - low)));
  return facts.colours[Math.round(share * (facts.colours.length - 1))];
}

function drawLegend() {
  const pen = find("bar").getContext("2d");
  facts.colours.forEach((colour, k) => {
    pen.fillStyle = `#${colour.toString(16).padStart(6, "0")}`;
    pen.fillRect(k, 0, 1, 1);
  });
  const [low, high] = limits();
  find("ticks").replaceChildren(
    ...roundNumbers(low, high).map(([value, text]) => {
      const tick = Object.assign(document.createElement("span"), { textContent: text });
      tick.style.left = `${(100 * (value - low)) / (high - low)}%`;
      return tick;
    }),
  );
}

/* ---- the drawing ---- */

function isShown(i) {
  const { axis, position, side } = state.cut;
  return state.species[speciesOf[i]] && (axis === null || side * (positions[3 * i + axis] - position) <= 0);
}

const IDENTITY = { data: new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]), shape: [4, 4] };
const particles = {
  type: "Points",
  id: 1,
  shader: "3d",
  roughness: 0.7,
  color: 0xffffff,
  positions: { data: positions.slice(), shape: [n, 3] },
  colors: { data: new Uint32Array(n), shape: [n] },
  point_sizes: { data: new Float32Array(n), shape: [n] },
  model_matrix: IDENTITY,
};
let shown = []; // numbers of the particles that are drawn

/* Those that are shown come first in K3D's arrays, and no more are drawn. */
function arrange() {
  shown = [];
  for (let i = 0; i < n; i++) if (isShown(i)) shown.push(i);
  const scale = limits();
  shown.forEach((i, k) => {
    particles.positions.data.set(positions.subarray(3 * i, 3 * i + 3), 3 * k);
    particles.colors.data[k] = colourOf(predicted[state.time * n + i], scale);
    particles.point_sizes.data[k] = 2 * facts.radii[speciesOf[i]];
  });
}

/* Edges of a cuboid, or of the rectangle that a cuboid without thickness is. */
function frame(id, low, high, color) {
  const corners = [];
  for (let k = 0; k < 8; k++) corners.push(...[0, 1, 2].map((axis) => ((k >> axis) & 1 ? high : low)[axis]));
  const edges = [];
  for (let k = 0; k < 8; k++) {
    for (let axis = 0; axis < 3; axis++) if (!((k >> axis) & 1) && high[axis] > low[axis]) edges.push(k, k | (1 << axis));
  }
  return {
    type: "Lines",
    id,
    shader: "simple",
    indices_type: "segment",
    color,
    width: 0.02,
    vertices: { data: new Float32Array(corners), shape: [8, 3] },
    indices: { data: new Uint32Array(edges), shape: [edges.length] },
    model_matrix: IDENTITY,
  };
}

const corner = (sign) => box.map((length) => (sign * length) / 2);

function cutFrame() {
  const { axis, position } = state.cut;
  const [low, high] = [corner(-1), corner(1)];
  if (axis !== null) low[axis] = high[axis] = position;
  return { ...frame(3, low, high, 0xd55e00), visible: axis !== null };
}

let plot = null;

function draw() {
  arrange();
  drawLegend();
  describe();
  if (plot === null) return;
  plot.getObjectById(particles.id).geometry.setDrawRange(0, shown.length);
  const { positions: at, colors, point_sizes } = particles;
  plot.reload(particles, { positions: at, colors, point_sizes });
  forget();
}

/* Where the camera is first: the whole box fills the drawing, and z, or y in the plane, points up. */
const FIELD_OF_VIEW = 25; // degrees; a box looks like a box
function resetCamera() {
  const { clientWidth, clientHeight } = find("drawing");
  const half = Math.tan((FIELD_OF_VIEW * Math.PI) / 360);
  const aspect = clientWidth / clientHeight;
  if (flat) {
    const distance = (1.06 * Math.max(box[0] / aspect, box[1])) / 2 / half;
    plot.setCamera([0, 0, distance, 0, 0, 0, 0, 1, 0]);
  } else {
    const radius = Math.hypot(...box) / 2;
    const distance = (0.97 * radius) / Math.sin(Math.atan(half * Math.min(1, aspect)));
    const direction = [0.55, -1, 0.5];
    plot.setCamera([...direction.map((one) => (one * distance) / Math.hypot(...direction)), 0, 0, 0, 0, 0, 1]);
  }
}

/* ---- words beside it ---- */

const SIGNS = { "1": "≤", "-1": "≥" };
function describe() {
  write(find("shown-time"), `t = ${facts.shown_times[state.time]}`);
  find("shown-count").textContent = `${shown.length} of ${n} particles`;
  const { axis, position, side } = state.cut;
  find("cut").hidden = axis === null;
  if (axis !== null) write(find("shown-part"), `shown: ${AXES[axis]} ${SIGNS[side]} ${position.toFixed(2).replace("-", "−")} σ`);
}

function fillPage() {
  find("name").textContent = facts.name;
  find("counts").textContent = `${n} particles in ${facts.dimensions}D`;
  write(find("quantity"), facts.quantity);
  find("fixing").hidden = find("time").hidden = facts.times.length === 1;
  find("time").max = facts.times.length - 1;
  find("time").value = state.time;
  find("ends").hidden = facts.times.length === 1;
  write(find("first-time"), facts.shown_times[0]);
  write(find("last-time"), facts.shown_times.at(-1));
  find("cutting").hidden = flat;
  find("hint").textContent = flat
    ? "wheel: zoom · right button: move · point at a particle to read it"
    : "drag: turn · wheel: zoom · right button: move · point at a particle to read it";
  facts.species.forEach((name, k) => {
    const count = speciesOf.reduce((sum, one) => sum + (one === k), 0);
    if (count === 0) return;
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, value: k });
    const amount = Object.assign(document.createElement("span"), { className: "quiet", textContent: ` ${count}` });
    box.addEventListener("change", () => { state.species[k] = box.checked; draw(); });
    label.append(box, name, amount);
    find("species").append(label);
  });
}

/* ---- which particle is under the mouse ---- */

/* The nearest particle whose sphere a ray from the camera through (x, y) of the drawing meets; null: none. */
function particleAt(x, y) {
  const { clientWidth, clientHeight } = find("drawing");
  const { matrixWorldInverse, projectionMatrix } = plot.getWorld().camera;
  const [m, p] = [matrixWorldInverse.elements, projectionMatrix.elements];
  const ray = [((2 * x) / clientWidth - 1) / p[0], (1 - (2 * y) / clientHeight) / p[5], -1];
  const length = Math.hypot(...ray);
  const [u, v, w] = ray.map((one) => one / length);
  let best = null;
  for (const i of shown) {
    const [a, b, c] = positions.subarray(3 * i, 3 * i + 3);
    const X = m[0] * a + m[4] * b + m[8] * c + m[12];
    const Y = m[1] * a + m[5] * b + m[9] * c + m[13];
    const Z = m[2] * a + m[6] * b + m[10] * c + m[14];
    const along = X * u + Y * v + Z * w;
    const radius = facts.radii[speciesOf[i]];
    const gap = radius * radius - (X * X + Y * Y + Z * Z - along * along);
    if (gap < 0) continue;
    const distance = along - Math.sqrt(gap);
    if (distance > 0 && (best === null || distance < best.distance)) best = { i, distance, X, Y, Z, radius };
  }
  if (best === null) return null;
  const scale = clientHeight / 2 / -best.Z;
  return {
    i: best.i,
    x: (clientWidth * (1 + (p[0] * best.X) / -best.Z)) / 2,
    y: (clientHeight * (1 - (p[5] * best.Y) / -best.Z)) / 2,
    radius: best.radius * p[5] * scale,
  };
}

function forget() {
  find("told").style.display = find("ring").style.display = "none";
}

function tell(event) {
  const place = find("drawing").getBoundingClientRect();
  const found = plot && event.buttons === 0 ? particleAt(event.clientX - place.left, event.clientY - place.top) : null;
  if (found === null) return forget();
  const { i } = found;
  const k = state.time * n + i;
  const [told, ring] = [find("told"), find("ring")];
  const value = withError(predicted[k], std[k]);
  write(told, `particle ${i}, ${facts.species[speciesOf[i]]}: ${facts.symbol} = ${value} ${facts.unit}`);
  told.style.display = ring.style.display = "block";
  const left = Math.min(event.clientX + 14, innerWidth - told.offsetWidth - 8);
  Object.assign(told.style, { left: `${left}px`, top: `${Math.max(8, event.clientY - 38)}px` });
  Object.assign(ring.style, {
    left: `${place.left + found.x - found.radius}px`,
    top: `${place.top + found.y - found.radius}px`,
    width: `${2 * found.radius}px`,
    height: `${2 * found.radius}px`,
  });
}

/* ---- what the reader does ---- */

function setCut(axis) {
  const { cut } = state;
  cut.axis = axis;
  if (axis !== null) {
    const eye = plot.getWorld().camera.position.toArray();
    cut.side = eye[axis] >= 0 ? 1 : -1; // hides what is between the cut and the eye
    cut.position = 0;
    Object.assign(find("position"), { min: -box[axis] / 2, max: box[axis] / 2, value: 0 });
  }
  plot.reload(cutFrame(), null);
  draw();
}

function listen() {
  find("time").addEventListener("input", (event) => { state.time = Number(event.target.value); draw(); });
  find("fixed").addEventListener("change", (event) => { state.fixed = event.target.checked; draw(); });
  document.getElementsByName("axis").forEach((radio) => {
    radio.addEventListener("change", () => setCut(radio.value === "" ? null : Number(radio.value)));
  });
  find("position").addEventListener("input", (event) => {
    state.cut.position = Number(event.target.value);
    plot.reload(cutFrame(), null);
    draw();
  });
  find("other-side").addEventListener("click", () => { state.cut.side *= -1; draw(); });
  find("reset").addEventListener("click", () => { forget(); resetCamera(); plot.render(); });
  const drawing = find("drawing");
  let waiting = null; // the last movement, looked at once per picture
  drawing.addEventListener("mousemove", (event) => {
    if (waiting === null) requestAnimationFrame(() => { tell(waiting); waiting = null; });
    waiting = event;
  });
  for (const name of ["mouseleave", "mousedown", "wheel"]) drawing.addEventListener(name, forget, { passive: true });
}

/* ---- beginning ---- */

/* K3D is an AMD module without dependencies. */
function loadK3D() {
  let library = null;
  window.define = (name, dependencies, make) => { library = make(); };
  const script = document.createElement("script");
  script.textContent = fflate.strFromU8(fflate.unzlibSync(bytesOf("k3d")));
  document.head.append(script);
  delete window.define;
  // its stylesheet names files of fonts beside the page, which are not there: letters of the axes are in the page's font
  for (const style of document.querySelectorAll("style")) {
    if (style.textContent.includes("@font-face")) style.textContent = style.textContent.replace(/@font-face\s*{[^}]*}/g, "");
  }
  return library;
}

/* Once what belongs to the next picture is done, observers of sizes included. */
const nextPicture = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

function fail(reason) {
  const problem = find("problem");
  problem.style.display = "block";
  problem.textContent = `The particles cannot be drawn: ${reason}`;
}

async function begin() {
  fillPage();
  draw();
  if (!document.createElement("canvas").getContext("webgl2")) {
    return fail("this browser does not offer WebGL 2. Switch hardware acceleration on in its settings, or try another.");
  }
  const { K3D, ThreeJsProvider } = loadK3D();
  const made = new K3D(ThreeJsProvider, find("drawing"), {
    menuVisibility: false,
    gridVisible: false,
    gridAutoFit: false,
    grid: [-1, 1].flatMap((sign) => corner(sign).map((one) => one + sign)), // K3D's camera sees as far as five of these
    cameraAutoFit: false,
    cameraMode: "orbit",
    cameraUpAxis: flat ? "none" : "z",
    cameraNoRotate: flat,
    cameraFov: FIELD_OF_VIEW,
    axesHelper: flat ? 0 : 1,
    colorbarObjectId: 0,
    clearColor: 0xffffff,
    renderOnChange: false,
  });
  made.getWorld().renderer.debug.checkShaderErrors = false; // which would wait for one shader before the next
  plot = made;
  resetCamera();
  await nextPicture(); // K3D draws several pictures for settings of its own: they are empty, and the next has everything
  await plot.load({ objects: [particles, frame(2, corner(-1), corner(1), 0x555555)] });
  plot.setRenderOnChange(true);
  await plot.render(true);
  listen();
  // when the first picture is finished, ms since the page was asked for: whoever measures it reads it here
  await nextPicture();
  const gl = plot.getWorld().renderer.getContext();
  gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); // waits for it
  document.documentElement.dataset.drawn = performance.now();
}

begin().catch((error) => { fail(`${error.message}.`); throw error; });
