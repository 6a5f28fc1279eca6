// The structures of the panel: their names, numbers in the labelmap, colours. A structure may have no prompt yet.

const COLOURS = [
  [255, 176, 59],
  [80, 200, 255],
  [255, 105, 180],
  [140, 230, 110],
  [190, 150, 255],
  [255, 235, 100],
  [110, 240, 210],
  [255, 130, 100],
];
export const MOST = 255;
const NAME_LENGTH = 64;

/** A list of `{name, number, colour, visible}` with one that is active. */
export class Structures {
  list = [];
  active = null;

  /** Add one; the name is made distinct. It becomes the active one. */
  add(wish = 'Lesion', number = this.#free()) {
    if (number === undefined) {
      throw new RangeError(`a session holds at most ${MOST} structures`);
    }
    const structure = { name: this.distinct(wish), number, colour: COLOURS[(number - 1) % COLOURS.length], visible: true };
    this.list = [...this.list, structure].sort((a, b) => a.number - b.number);
    this.active = structure;
    return structure;
  }

  remove(structure) {
    this.list = this.list.filter(one => one !== structure);
    if (this.active === structure) {
      this.active = this.list.at(-1) ?? null;
    }
  }

  byName(name) {
    return this.list.find(structure => structure.name === name);
  }

  byNumber(number) {
    return this.list.find(structure => structure.number === number);
  }

  /** Have every structure that the server has; answers whether any was new. */
  adopt(names) {
    const { active } = this;
    const fresh = names.filter(name => !this.byName(name));
    fresh.forEach(name => this.add(name));
    this.active = active ?? this.active;
    return fresh.length > 0;
  }

  /** A name that no other structure has, at most 64 characters. */
  distinct(wish, except = null) {
    const base = wish.replace(/\s+/g, ' ').slice(0, NAME_LENGTH).trim() || 'Lesion';
    const taken = name => this.list.some(structure => structure !== except && structure.name === name);
    if (!taken(base)) {
      return base;
    }
    for (let count = 2; ; count++) {
      const name = `${base.slice(0, NAME_LENGTH - 5)} ${count}`;
      if (!taken(name)) {
        return name;
      }
    }
  }

  /** In the order in which they are drawn: the active one over the others. */
  drawingOrder() {
    return [...this.list.filter(structure => structure !== this.active), ...(this.active ? [this.active] : [])];
  }

  #free() {
    for (let number = 1; number <= MOST; number++) {
      if (!this.byNumber(number)) {
        return number;
      }
    }
    return undefined;
  }
}

export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

/** `#rrggbb` as the colour of a structure, and back. */
export const fromHex = hex => [1, 3, 5].map(start => parseInt(hex.slice(start, start + 2), 16));
export const toHex = colour => `#${colour.map(value => value.toString(16).padStart(2, '0')).join('')}`;
