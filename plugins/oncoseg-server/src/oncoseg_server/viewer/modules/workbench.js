// One series at work: its session, its structures, its labelmap, and how they follow each other.

import { ServerError } from './failures.js';
import { SliceTable } from './geometry.js';
import { Labelmap, imageKey } from './labelmap.js';
import { Memory } from './memory.js';
import { Session } from './session.js';
import { Structures } from './structures.js';

const REFUSED = ['bad_request', 'prompt_refused', 'unknown_model'];

/** Emits `state` (draw the panel), `drawing` (draw the overlays), `notice` (`detail` is one line). */
export class Workbench extends EventTarget {
  #preparing = null;

  constructor({ api, libraries, services, displaySet, source, storage = window.sessionStorage }) {
    super();
    this.libraries = libraries;
    this.services = services;
    this.displaySet = displaySet;
    this.structures = new Structures();
    this.structures.add();
    this.labelmap = null;
    this.saved = null;
    this.session = new Session(api, {
      source,
      studyUid: displaySet.StudyInstanceUID,
      seriesUid: displaySet.SeriesInstanceUID,
    });
    this.memory = new Memory(storage, `${source} ${displaySet.SeriesInstanceUID}`);
    Object.assign(this.session, this.memory.recall());
    this.session.addEventListener('state', () => this.#emit('state'));
    this.session.addEventListener('notice', event => this.#emit('notice', event.detail));
    this.session.addEventListener('change', event => this.#changed(event.detail.slices));
  }

  get image() {
    return this.session.image;
  }

  /** The server's facts of the active structure; undefined while it has no prompt. */
  get facts() {
    return this.session.structures.find(({ name }) => name === this.structures.active?.name);
  }

  async open() {
    const taken = this.session.image ? 0 : this.session.steps.length; // remembered from before a reload
    try {
      await this.session.open(image => this.#check(image));
    } catch (error) {
      if (!taken || !REFUSED.includes(error.code)) {
        throw error;
      }
      Object.assign(this.session, { steps: [], undone: [], model: null });
      this.memory.forget();
      await this.session.open();
      this.#emit('notice', `What was not saved before could not be taken up again: ${error.message}`);
      return;
    }
    if (taken) {
      this.#emit('notice', 'What was not saved before is here again.');
    }
  }

  /** Make the labelmap, once the session says which slices there are. */
  async prepare() {
    if (this.table && !this.labelmap) {
      this.#preparing ??= this.#makeLabelmap().finally(() => (this.#preparing = null));
      await this.#preparing;
    }
  }

  async #makeLabelmap() {
    const labelmap = new Labelmap({
      libraries: this.libraries,
      services: this.services,
      displaySet: this.displaySet,
      table: this.table,
      labels: slice => this.session.masks.labels(slice, this.structures.drawingOrder()),
      onStroke: (slice, before, after) => this.#stroke(slice, before, after),
    });
    await labelmap.create(this.structures.list);
    this.labelmap = labelmap;
    this.#redraw(this.session.masks.slices());
  }

  async leave() {
    this.labelmap?.destroy();
    this.labelmap = null;
    await this.session.close();
  }

  point(place, positive) {
    return this.#hint(place.slice, { kind: 'point', points: [[place.x, place.y]], positive });
  }

  box(slice, corners) {
    return this.#hint(slice, { kind: 'box', points: corners, positive: true });
  }

  text(slice, text) {
    return this.#run(() => this.session.prompt(this.#active().name, slice, [], { text }));
  }

  propagate() {
    return this.#run(() => this.session.propagate(this.#active().name));
  }

  undo() {
    return this.#run(() => this.session.undo());
  }

  redo() {
    return this.#run(() => this.session.redo());
  }

  async save(formats) {
    this.saved = null;
    this.saved = await this.#run(() => this.session.save({ formats }));
    if (this.saved) {
      this.memory.forget();
    }
    this.#emit('state');
  }

  addStructure(name) {
    this.structures.add(name || 'Lesion');
    this.#redraw([]);
  }

  activate(structure) {
    this.structures.active = structure;
    this.#redraw(this.session.masks?.slices() ?? []);
  }

  async renameStructure(structure, wish) {
    const name = this.structures.distinct(wish, structure);
    const before = structure.name;
    if (name === before) {
      return;
    }
    structure.name = name;
    const inSteps = [...this.session.steps, ...this.session.undone].some(step => step.structure === before);
    if (inSteps && !(await this.#run(() => this.session.rename(before, name).then(() => true)))) {
      structure.name = before;
    }
    this.#redraw([]);
  }

  async removeStructure(structure) {
    const known = this.session.structures.some(({ name }) => name === structure.name);
    if (known && !(await this.#run(() => this.session.remove(structure.name)))) {
      return;
    }
    this.structures.remove(structure);
    if (!this.structures.list.length) {
      this.structures.add();
    }
    this.#redraw(this.session.masks?.slices() ?? []);
  }

  style(structure, { colour = structure.colour, visible = structure.visible }) {
    Object.assign(structure, { colour, visible });
    this.#redraw([]);
  }

  useModel(model) {
    return this.#run(() => this.session.useModel(model));
  }

  #hint(slice, hint) {
    return this.#run(() => this.session.prompt(this.#active().name, slice, [hint]));
  }

  #active() {
    return this.structures.active ?? this.structures.add();
  }

  // A failed call is shown by the session's state; undefined is its result.
  async #run(call) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof ServerError)) {
        console.error(error);
        this.#emit('notice', `OncoSeg's page failed: ${error.message}`);
      }
      return undefined;
    }
  }

  #check(image) {
    const { cornerstone } = this.libraries;
    const table = new SliceTable(image.instances);
    const shown = this.displaySet.imageIds.map(id => imageKey(cornerstone, id));
    if (!table.covers(shown)) {
      return new ServerError('other_image');
    }
    this.table = table;
    return undefined;
  }

  #changed(slices) {
    const names = this.session.structures.map(({ name }) => name);
    this.structures.adopt(names);
    this.saved = null;
    this.memory.remember(this.session);
    this.#redraw(slices);
  }

  #redraw(slices) {
    if (this.labelmap) {
      this.labelmap.setStructures(this.structures.list, this.structures.active);
      this.labelmap.draw(slices);
      for (const id of this.services.segmentationService.getViewportIdsWithSegmentation(this.labelmap.id)) {
        this.labelmap.style(id, this.structures.list);
      }
    }
    this.#emit('state');
    this.#emit('drawing');
  }

  async #stroke(slice, before, after) {
    const { masks } = this.session;
    const nameOf = number =>
      (this.structures.byNumber(number) ?? this.structures.add(this.labelmap.labelOf(number), number)).name;
    for (const [number, mask] of masks.strokes(slice, before, after, nameOf)) {
      const name = nameOf(number);
      const old = masks.get(name, slice) ?? new Uint8Array(mask.length);
      // At once, so that a second stroke adds to the first while the server still answers it.
      masks.set(name, slice, mask);
      this.#run(() => this.session.edit(name, slice, mask)).then(answer => {
        if (!answer) {
          masks.set(name, slice, old);
          this.#redraw([slice]);
        }
      });
    }
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
