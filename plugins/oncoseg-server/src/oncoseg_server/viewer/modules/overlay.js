// What is drawn over the image: the two diameters of each structure, the prompts on the slice, the box being drawn.

const SVG = 'http://www.w3.org/2000/svg';
const NEAR_PLANE = 0.51; // of a slice's thickness

/**
 * The drawing of one viewport. `content()` gives `{lines, points, boxes, thickness}` in LPS mm; drawn anew with every
 * image. `listeners` to events of the viewport's element live as long as the drawing.
 */
export class Overlay {
  #life = new AbortController();

  constructor({ cornerstone, viewport, content, listeners = {} }) {
    this.viewport = viewport;
    this.content = content;
    this.element = viewport.element;
    this.svg = shape('svg', { class: 'oncoseg-overlay' });
    this.element.append(this.svg);
    const all = { ...listeners, [cornerstone.Enums.Events.IMAGE_RENDERED]: () => this.draw() };
    for (const [name, listener] of Object.entries(all)) {
      this.element.addEventListener(name, listener, { signal: this.#life.signal });
    }
    this.box = null;
  }

  destroy() {
    this.#life.abort();
    this.svg.remove();
  }

  /** The box while the mouse draws it, in canvas pixels. */
  drawing(start, end) {
    this.box = start && end ? [start, end] : null;
    this.draw();
  }

  draw() {
    const { lines, points, boxes, thickness } = this.content(this.viewport);
    const shapes = [];
    for (const line of lines) {
      if (line.ends.every(end => this.#isNear(end, thickness))) {
        shapes.push(...this.#line(line));
      }
    }
    for (const { at, positive, colour } of points) {
      if (this.#isNear(at, thickness)) {
        shapes.push(mark(this.viewport.worldToCanvas(at), positive, colour));
      }
    }
    for (const { corners, colour } of boxes) {
      if (corners.every(corner => this.#isNear(corner, thickness))) {
        shapes.push(rectangle(corners.map(corner => this.viewport.worldToCanvas(corner)), colour));
      }
    }
    if (this.box) {
      shapes.push(rectangle(this.box, '#fff'));
    }
    this.svg.replaceChildren(...shapes);
  }

  #line({ ends, label, colour }) {
    const [[x1, y1], [x2, y2]] = ends.map(end => this.viewport.worldToCanvas(end));
    const halo = shape('line', { x1, y1, x2, y2, class: 'oncoseg-halo' });
    const line = shape('line', { x1, y1, x2, y2, stroke: colour });
    const [x, y] = x1 > x2 ? [x1, y1] : [x2, y2];
    const text = shape('text', { x: x + 6, y: y + 4 });
    text.textContent = label;
    return [halo, line, text];
  }

  // The plane of the image goes through the camera's focal point.
  #isNear(point, thickness) {
    const { focalPoint, viewPlaneNormal } = this.viewport.getCamera();
    const distance = point.reduce((sum, value, axis) => sum + (value - focalPoint[axis]) * viewPlaneNormal[axis], 0);
    return Math.abs(distance) <= thickness * NEAR_PLANE;
  }
}

function mark([x, y], positive, colour) {
  const group = shape('g', { class: 'oncoseg-mark', transform: `translate(${x} ${y})` });
  group.append(shape('circle', { r: 5, fill: positive ? colour : '#000', stroke: positive ? '#000' : colour }));
  const sign = positive ? 'M-2.5 0H2.5M0 -2.5V2.5' : 'M-2.5 0H2.5';
  group.append(shape('path', { d: sign, stroke: positive ? '#000' : colour }));
  return group;
}

function rectangle([[x1, y1], [x2, y2]], colour) {
  const box = { x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1) };
  return shape('rect', { ...box, stroke: colour, class: 'oncoseg-box' });
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  return element;
}
