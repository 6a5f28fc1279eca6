// The masks as a labelmap of OHIF: drawn from the session's masks, read back when a hand changed it.

const QUIET_MS = 120;

/**
 * A labelmap of one display set. `libraries` are cornerstone and its tools, `services` OHIF's; `labels(slice)` gives
 * what a slice is to show.
 * `onStroke(slice, before, after)` is called when a brush stroke or another of OHIF's tools has ended.
 */
export class Labelmap {
  #drawn = new Map(); // slice -> Uint8Array as it was written
  #images = []; // slice -> image id of the labelmap
  #dirty = new Set(); // slices that a stroke may have changed
  #waiting = new Set(); // slices to draw once it has ended
  #writing = false;
  #timer = null;
  #buttons = 0;

  constructor({ libraries, services, displaySet, table, labels, onStroke }) {
    this.cornerstone = libraries.cornerstone;
    this.tools = libraries.cornerstoneTools;
    this.service = services.segmentationService;
    this.displaySet = displaySet;
    this.table = table;
    this.labels = labels;
    this.onStroke = onStroke;
    this.id = `oncoseg-${displaySet.displaySetInstanceUID}`;
    this.modified = this.tools.Enums.Events.SEGMENTATION_DATA_MODIFIED;
    this.onModified = event => event.detail.segmentationId === this.id && this.#touched(event.detail);
    this.onButtons = event => {
      this.#buttons = event.buttons;
      if (!event.buttons && this.#dirty.size) {
        this.#settle();
      }
    };
  }

  /** Make it, if this display set has none yet, and show it in the viewports. */
  async create(structures) {
    if (!this.service.getSegmentation(this.id)) {
      const segments = Object.fromEntries(
        structures.map(({ number, name }, index) => [number, { label: name, active: index === 0 }])
      );
      await this.service.createLabelmapForDisplaySet(this.displaySet, {
        segmentationId: this.id,
        label: 'OncoSeg',
        segments,
      });
    }
    const data = this.service.getSegmentation(this.id).representationData.Labelmap;
    data.imageIds.forEach((id, index) => {
      const image = this.cornerstone.cache.getImage(id);
      const slice = sliceOfImage(this.cornerstone, this.table, image?.referencedImageId ?? data.referencedImageIds[index]);
      this.#images[slice] = id;
    });
    this.cornerstone.eventTarget.addEventListener(this.modified, this.onModified);
    for (const name of ['pointerdown', 'pointerup', 'pointercancel']) {
      window.addEventListener(name, this.onButtons, true);
    }
  }

  destroy() {
    clearTimeout(this.#timer);
    this.cornerstone.eventTarget.removeEventListener(this.modified, this.onModified);
    for (const name of ['pointerdown', 'pointerup', 'pointercancel']) {
      window.removeEventListener(name, this.onButtons, true);
    }
  }

  /** Show it in a viewport, with the colours and the visibility of the structures. */
  async showIn(viewportId, structures) {
    const shown = this.service.getSegmentationRepresentations(viewportId, { segmentationId: this.id });
    if (!shown.length) {
      await this.service.addSegmentationRepresentation(viewportId, { segmentationId: this.id, type: 'Labelmap' });
    }
    this.style(viewportId, structures);
  }

  style(viewportId, structures) {
    for (const { number, colour, visible } of structures) {
      this.service.setSegmentColor(viewportId, this.id, number, [...colour, 255]);
      this.service.setSegmentVisibility(viewportId, this.id, number, visible);
    }
  }

  /** Segments are the structures; the brush edits the active one. */
  setStructures(structures, active) {
    const segments = this.service.getSegmentation(this.id).segments;
    for (const { number, name } of structures) {
      if (!segments[number]) {
        this.service.addSegment(this.id, { segmentIndex: number, label: name });
      } else if (segments[number].label !== name) {
        this.service.setSegmentLabel(this.id, number, name);
      }
    }
    for (const number of Object.keys(segments).map(Number)) {
      if (!structures.some(structure => structure.number === number)) {
        this.service.removeSegment(this.id, number);
      }
    }
    if (active) {
      this.service.setActiveSegment(this.id, active.number);
    }
  }

  /** The name that OHIF's own panel gave a segment. */
  labelOf(number) {
    return this.service.getSegmentation(this.id)?.segments[number]?.label;
  }

  /** The labelmap of a slice, as it is in the viewer now; undefined where there is no such slice. */
  read(slice) {
    return this.cornerstone.cache.getImage(this.#images[slice])?.voxelManager.getScalarData();
  }

  /** Draw slices anew; those under a stroke wait for its end. */
  draw(slices) {
    const now = [...slices].filter(slice => !(this.#buttons && this.#dirty.size));
    [...slices].filter(slice => !now.includes(slice)).forEach(slice => this.#waiting.add(slice));
    for (const slice of now) {
      const data = this.read(slice);
      if (data) {
        const labels = this.labels(slice);
        data.set(labels);
        this.cornerstone.cache.getImage(this.#images[slice]).voxelManager.setScalarData?.(data);
        this.#drawn.set(slice, labels);
      }
    }
    if (now.length) {
      this.#writing = true;
      try {
        const indices = now.map(slice => this.#imageIndex(slice)).filter(index => index >= 0);
        this.tools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(this.id, indices);
      } finally {
        this.#writing = false;
      }
    }
  }

  #imageIndex(slice) {
    return this.service.getSegmentation(this.id).representationData.Labelmap.imageIds.indexOf(this.#images[slice]);
  }

  #touched() {
    if (this.#writing) {
      return;
    }
    // Which slices a tool reports differs from tool to tool, so all are compared: a few milliseconds, once a stroke.
    this.#images.forEach((_, slice) => this.#dirty.add(slice));
    if (!this.#buttons) {
      this.#settle();
    }
  }

  #settle() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#buttons) {
        return;
      }
      const slices = [...this.#dirty];
      this.#dirty.clear();
      for (const slice of slices) {
        const after = this.read(slice);
        const before = this.#drawn.get(slice);
        if (after && differs(before, after)) {
          const old = before ?? new Uint8Array(after.length);
          this.#drawn.set(slice, Uint8Array.from(after));
          this.onStroke(slice, old, Uint8Array.from(after));
        }
      }
      const waiting = [...this.#waiting];
      this.#waiting.clear();
      this.draw(waiting);
    }, QUIET_MS);
  }
}

/** Slice of the server for an image of the viewer. */
export function sliceOfImage(cornerstone, table, imageId) {
  const { sopUid, frame } = imageKey(cornerstone, imageId);
  return table.sliceOf(sopUid, frame);
}

/** `{sopUid, frame}` of an image of the viewer. */
export function imageKey(cornerstone, imageId) {
  const sopUid = cornerstone.metaData.get('sopCommonModule', imageId)?.sopInstanceUID
    ?? cornerstone.metaData.get('instance', imageId)?.SOPInstanceUID;
  const frame = /\/frames\/(\d+)/.exec(imageId)?.[1] ?? /[?&]frame=(\d+)/.exec(imageId)?.[1];
  return { sopUid, frame: frame === undefined ? undefined : Number(frame) };
}

function differs(before, after) {
  if (!before) {
    return after.some(Boolean);
  }
  for (let index = 0; index < after.length; index++) {
    if (before[index] !== after[index]) {
      return true;
    }
  }
  return false;
}
