// The masks of all structures as the server has them, and what a hand changed on the labelmap that shows them.
//
// A labelmap holds one number a pixel, but structures may overlap. So this is the truth, and the labelmap is only
// drawn from it: where two structures lie over each other, the later one is drawn. A stroke is read as the difference
// to what was drawn, so that a structure loses nothing because another one hid it.

/** Masks of one image, `rows` x `columns`; a mask is one byte (0 or 1) a pixel. */
export class Masks {
  #slices = new Map(); // structure -> Map(slice -> Uint8Array)

  constructor(rows, columns) {
    this.rows = rows;
    this.columns = columns;
  }

  /** The mask of a structure on a slice; undefined where it has none. */
  get(structure, slice) {
    return this.#slices.get(structure)?.get(slice);
  }

  /** Slices that any structure has pixels on. */
  slices() {
    return new Set([...this.#slices.values()].flatMap(masks => [...masks.keys()]));
  }

  set(structure, slice, mask) {
    if (!this.#slices.has(structure)) {
      this.#slices.set(structure, new Map());
    }
    if (mask.some(Boolean)) {
      this.#slices.get(structure).set(slice, mask);
    } else {
      this.#slices.get(structure).delete(slice);
    }
  }

  remove(structure) {
    this.#slices.delete(structure);
  }

  clear() {
    this.#slices.clear();
  }

  /** All of a rectangle is new, nothing outside it. `pixels` are those of the rectangle, row by row. */
  change(structure, slice, { x, y, width, height }, pixels) {
    if (x + width > this.columns || y + height > this.rows) {
      throw new RangeError(`a change of ${width} x ${height} at (${x}, ${y}) is larger than the image`);
    }
    const mask = this.get(structure, slice)?.slice() ?? new Uint8Array(this.rows * this.columns);
    for (let row = 0; row < height; row++) {
      mask.set(pixels.subarray(row * width, (row + 1) * width), (y + row) * this.columns + x);
    }
    this.set(structure, slice, mask);
  }

  /** The slice as a labelmap: for each pixel the number of the last of `structures` that has it, 0 for none. */
  labels(slice, structures) {
    const labels = new Uint8Array(this.rows * this.columns);
    for (const { name, number } of structures) {
      const mask = this.get(name, slice);
      if (mask) {
        for (let index = 0; index < mask.length; index++) {
          if (mask[index]) {
            labels[index] = number;
          }
        }
      }
    }
    return labels;
  }

  /**
   * What a hand changed: `before` and `after` are labelmaps of the slice. A number gains the pixels that became it; a
   * number loses those that became 0. A pixel that went to another number stays with the old one too (they overlap).
   *
   * Returns a Map from number to the structure's new mask, only of those that changed.
   */
  strokes(slice, before, after, nameOf) {
    const edits = new Map();
    const edited = number => {
      if (!edits.has(number)) {
        const mask = this.get(nameOf(number), slice);
        edits.set(number, mask?.slice() ?? new Uint8Array(this.rows * this.columns));
      }
      return edits.get(number);
    };
    for (let index = 0; index < after.length; index++) {
      if (after[index] !== before[index]) {
        if (after[index]) {
          edited(after[index])[index] = 1;
        } else {
          edited(before[index])[index] = 0;
        }
      }
    }
    return edits;
  }
}
