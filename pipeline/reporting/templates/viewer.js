// Draws three slices of one scan through a cross-hair that the reader moves.
// Values come from the page's own data and are never read back from a canvas, which some browsers alter.

const ZOOM = 4, GAP = 7 * ZOOM, LINE = 2;  // the first two as in the report's pictures
const INK = "#e8ecf1", CROSS = "#969696", OUTLINE = [127, 212, 255];
const PLANES = {  // axes 0, 1, 2: left to right, back to front, feet to head
  axial: {normal: 2, across: 0, up: 1, letter: "z", marks: ["R", "L"]},
  coronal: {normal: 1, across: 0, up: 2, letter: "y", marks: ["R", "L"]},
  sagittal: {normal: 0, across: 1, up: 2, letter: "x", marks: ["A", "P"]},
};

const byId = (id) => document.getElementById(id);
const page = byId("scan");
const held = JSON.parse(page.dataset.held);
const strides = [held.shape[1] * held.shape[2], held.shape[2], 1];
const point = [...held.start];
let suvr, template, labels, waiting = false;

// Undoes `packed` of viewer_page.py: differences, compressed, in base64.
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const voxels = new Uint8Array(await new Response(stream).arrayBuffer());
  if (voxels.length !== held.shape[0] * strides[0]) throw new Error("the volume is not complete");
  for (let n = 1; n < voxels.length; n++) voxels[n] += voxels[n - 1];
  return voxels;
}

const inside = (index, axis) => Math.min(Math.max(index, 0), held.shape[axis] - 1);
const toMm = (axis) => held.origin_mm[axis] + held.spacing_mm * point[axis];
const inMm = (axis) => `${toMm(axis) < 0 ? "\u2212" : "+"}${Math.abs(toMm(axis))}`;

// Where each pixel of a row or column lies: both axes are turned, so that right and front are on the left of
// a picture, and front and head at its top.
function pixels(axis) {
  return Array.from({length: held.shape[axis] * ZOOM}, (_, pixel) => {
    const at = inside(held.shape[axis] - 0.5 - (pixel + 0.5) / ZOOM, axis), low = Math.floor(at);
    const own = held.shape[axis] - 1 - Math.floor(pixel / ZOOM);
    return {low: low * strides[axis], high: inside(low + 1, axis) * strides[axis], share: at - low,
            own: own * strides[axis]};
  });
}

function prepare(name) {
  const plane = PLANES[name];
  plane.canvas = byId(name);
  plane.slider = byId(`${name}-slice`);
  plane.columns = pixels(plane.across);
  plane.rows = pixels(plane.up);
  plane.canvas.width = plane.columns.length;
  plane.canvas.height = plane.rows.length;
  plane.pen = plane.canvas.getContext("2d");
  plane.image = plane.pen.createImageData(plane.columns.length, plane.rows.length);
  plane.slider.addEventListener("input", () => {
    const voxel = (Number(plane.slider.value) - held.origin_mm[plane.normal]) / held.spacing_mm;
    moveTo({[plane.normal]: inside(Math.round(voxel), plane.normal)});
  });
  plane.canvas.addEventListener("pointerdown", (event) => follow(plane, event));
  plane.canvas.addEventListener("pointermove", (event) => event.buttons === 1 && follow(plane, event));
}

function follow({canvas, across, up}, event) {
  const box = canvas.getBoundingClientRect();
  const column = Math.floor(held.shape[across] * (event.clientX - box.left) / box.width);
  const row = Math.floor(held.shape[up] * (event.clientY - box.top) / box.height);
  moveTo({[across]: inside(held.shape[across] - 1 - column, across),
          [up]: inside(held.shape[up] - 1 - row, up)});
}

function moveTo(indices) {
  Object.assign(point, indices);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

// Between voxels the value is interpolated, not the colour: nothing is drawn that is higher than around it.
function between(volume, base, column, row) {
  const low = volume[base + column.low + row.low] * (1 - column.share)
    + volume[base + column.high + row.low] * column.share;
  const high = volume[base + column.low + row.high] * (1 - column.share)
    + volume[base + column.high + row.high] * column.share;
  return low * (1 - row.share) + high * row.share;
}

function paint({normal, columns, rows, image, pen}) {
  const base = point[normal] * strides[normal], fade = Number(byId("fade").value) / 100;
  const areas = held[byId("outlines").value] ?? [];
  const area = (x, y) => areas[labels[base + columns[x].own + rows[y].own]];
  const right = (x) => Math.min(x + LINE, columns.length - 1), below = (y) => Math.min(y + LINE, rows.length - 1);
  let at = 0;
  for (let y = 0; y < rows.length; y++) {
    for (let x = 0; x < columns.length; x++) {
      const line = area(x, y) !== area(right(x), y) || area(x, y) !== area(x, below(y));
      const colour = 3 * Math.round(between(suvr, base, columns[x], rows[y]));
      const grey = fade && fade * between(template, base, columns[x], rows[y]);
      for (let ink = 0; ink < 3; ink++) {
        image.data[at++] = line ? OUTLINE[ink] : (1 - fade) * held.colours[colour + ink] + grey;
      }
      image.data[at++] = 255;
    }
  }
  pen.putImageData(image, 0, 0);
}

function annotate({normal, across, up, letter, marks, canvas, pen}) {
  const [x, y] = [across, up].map((axis) => ZOOM * (held.shape[axis] - 0.5 - point[axis]));
  const {width, height} = canvas;
  pen.fillStyle = CROSS;
  pen.fillRect(Math.round(x), 0, 1, y - GAP);
  pen.fillRect(Math.round(x), y + GAP, 1, height);
  pen.fillRect(0, Math.round(y), x - GAP, 1);
  pen.fillRect(x + GAP, Math.round(y), width, 1);
  pen.fillStyle = INK;
  pen.font = `${5 * ZOOM}px sans-serif`;
  pen.textBaseline = "top";
  pen.textAlign = "left";
  write(pen, marks[0], 6, 4);
  pen.textAlign = "right";
  write(pen, marks[1], width - 6, 4);
  pen.font = `${4 * ZOOM}px sans-serif`;
  pen.textBaseline = "bottom";
  pen.textAlign = "center";
  write(pen, `${letter} ${inMm(normal)} mm`, width / 2, height - 5);
}

// With a dark edge: white letters over bright uptake would be lost.
function write(pen, text, x, y) {
  pen.strokeStyle = "#000";
  pen.lineWidth = 2 * (ZOOM - 1);
  pen.lineJoin = "round";
  pen.strokeText(text, x, y);
  pen.fillText(text, x, y);
}

function draw() {
  for (const plane of Object.values(PLANES)) {
    paint(plane);
    annotate(plane);
    plane.slider.value = toMm(plane.normal);
    plane.slider.setAttribute("aria-valuetext", `${plane.letter} ${inMm(plane.normal)} mm`);
  }
  const voxel = point.reduce((sum, index, axis) => sum + index * strides[axis], 0);
  const more = suvr[voxel] === 255 ? " or more" : "";
  byId("value").textContent = `SUVR ${(suvr[voxel] * held.step).toFixed(2)}${more}`;
  byId("region").textContent = held.regions[labels[voxel]] || "in no region of the atlas";
  byId("place").textContent = `x ${inMm(0)}, y ${inMm(1)}, z ${inMm(2)} mm`;
}

try {
  [suvr, template, labels] = await Promise.all(
    [page.dataset.suvr, page.dataset.template, page.dataset.labels].map(unpacked));
  Object.keys(PLANES).forEach(prepare);
  for (const id of ["outlines", "fade"]) byId(id).addEventListener("input", () => moveTo({}));
  page.hidden = false;
  draw();
} catch (error) {
  byId("failed").hidden = false;
  console.error(error);
}
