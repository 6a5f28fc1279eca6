// Between the viewer's world (LPS mm), slices and pixels. A pixel's centre is at (0.5, 0.5), as the server counts.

/** Slice of a stored image, by its UID and, in an instance of several, its frame (from 1). */
export class SliceTable {
  #index = new Map();

  constructor(instances) {
    this.instances = instances;
    instances.forEach(({ sop_uid: uid, frame }, slice) => this.#index.set(key(uid, frame), slice));
  }

  sliceOf(sopUid, frame) {
    return this.#index.get(key(sopUid, frame));
  }

  /** Whether every image of the viewer (`[{sopUid, frame}]`) is a slice of the server, each another one. */
  covers(images) {
    const slices = new Set(images.map(({ sopUid, frame }) => this.sliceOf(sopUid, frame)));
    return images.length > 0 && slices.size === images.length && !slices.has(undefined);
  }
}

function key(uid, frame) {
  return `${uid}|${frame ?? 1}`;
}

/** The place in the image of a point in LPS mm: `{slice, x, y}`, by the affine (column, row, slice) -> LPS. */
export function placeOf(affine, point) {
  const [a, b, c] = affine.map(row => row.slice(0, 3));
  const offset = affine.map((row, axis) => point[axis] - row[3]);
  const determinant = det(a, b, c);
  const solve = column => {
    const rows = [a, b, c].map((row, axis) => row.map((value, index) => (index === column ? offset[axis] : value)));
    return det(...rows) / determinant;
  };
  return { x: solve(0) + 0.5, y: solve(1) + 0.5, slice: Math.round(solve(2)) + 0 }; // no -0
}

/** The point in LPS mm of a place in pixels of a slice. */
export function pointOf(affine, slice, x, y) {
  const index = [x - 0.5, y - 0.5, slice, 1];
  return affine.slice(0, 3).map(row => row.reduce((sum, value, column) => sum + value * index[column], 0));
}

/** Whether a place lies in the image. */
export function isInside(image, { slice, x, y }) {
  return slice >= 0 && slice < image.slices && x >= 0 && y >= 0 && x <= image.columns && y <= image.rows;
}

function det([a, b, c], [d, e, f], [g, h, i]) {
  return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
}
