// Between OHIF and the workbench of the series that the active viewport shows.

import { isInside, placeOf, pointOf } from './geometry.js';
import { hintsOf } from './hints.js';
import { sliceOfImage } from './labelmap.js';
import { lines } from './measurements.js';
import { Overlay } from './overlay.js';
import { css } from './structures.js';
import { TOOLS, addTools, clickOf, toolKind } from './tools.js';
import { Workbench } from './workbench.js';

const VIEW_MS = 150;
const BRUSH_MM = 6;
const NOT_IMAGES = ['SEG', 'RTSTRUCT', 'SR', 'RTDOSE', 'RTPLAN', 'PR', 'KO', 'PMAP', 'DOC'];

/** Emits `state` and `notice`. One for each entry into the mode. */
export class Controller extends EventTarget {
  workbench = null;
  notice = '';
  tool = null;
  info = null;
  #benches = new Map();
  #overlays = new Map();
  #subscriptions = [];
  #viewTimer = null;
  #brushed = false;
  #attached = Promise.resolve();
  #leave = () => this.workbench?.session.close();

  constructor({ servicesManager, extensionManager, commandsManager, api }) {
    super();
    this.services = servicesManager.services;
    this.extensions = extensionManager;
    this.commands = commandsManager;
    this.api = api;
    const common = extensionManager.getModuleEntry('@ohif/extension-cornerstone.utilityModule.common');
    this.libraries = common.exports.getCornerstoneLibraries();
  }

  enter() {
    const { viewportGridService: grid, cornerstoneViewportService: viewports, toolGroupService: groups } = this.services;
    const sync = () => this.#sync();
    this.#subscribe(grid, [grid.EVENTS.ACTIVE_VIEWPORT_ID_CHANGED, grid.EVENTS.GRID_STATE_CHANGED], sync);
    this.#subscribe(viewports, [viewports.EVENTS.VIEWPORT_DATA_CHANGED], sync);
    this.#subscribe(groups, [groups.EVENTS.PRIMARY_TOOL_ACTIVATED], ({ toolName }) => {
      this.tool = toolKind(toolName) ?? null;
      this.#emit();
    });
    addTools(this.libraries, groups, {
      point: (id, world, positive) => this.#point(id, world, positive),
      box: (id, from, to) => this.#box(id, from, to),
      drawing: (id, from, to) => this.#overlays.get(id)?.drawing(from, to),
    });
    window.addEventListener('pagehide', this.#leave);
    this.#sync();
  }

  exit() {
    window.removeEventListener('pagehide', this.#leave);
    this.#subscriptions.forEach(unsubscribe => unsubscribe());
    this.#subscriptions = [];
    this.#overlays.forEach(overlay => overlay.destroy());
    this.#overlays.clear();
    clearTimeout(this.#viewTimer);
    this.#benches.forEach(bench => bench.leave());
    this.#benches.clear();
    this.workbench = null;
  }

  /** Which slice of the series a viewport shows; undefined where it shows another plane or nothing. */
  sliceIn(viewportId) {
    const viewport = this.#viewport(viewportId);
    const imageId = viewport?.getCurrentImageId?.();
    if (imageId && this.workbench?.table) {
      return sliceOfImage(this.libraries.cornerstone, this.workbench.table, imageId);
    }
    const image = this.workbench?.image;
    return image && viewport ? placeOf(image.affine, viewport.getCamera().focalPoint).slice : undefined;
  }

  get slice() {
    return this.sliceIn(this.services.viewportGridService.getActiveViewportId());
  }

  /** The number of a slice as OHIF counts it in this viewport, from 1. */
  numberOf(slice) {
    const { displaySet, table } = this.workbench;
    const { cornerstone } = this.libraries;
    return displaySet.imageIds.findIndex(id => sliceOfImage(cornerstone, table, id) === slice) + 1 || slice + 1;
  }

  useTool(kind) {
    this.commands.run('setToolActiveToolbar', { toolName: kind ? TOOLS[kind] : 'WindowLevel' });
  }

  /** OHIF's own brush and eraser. */
  useBrush(toolName) {
    if (!this.#brushed) {
      this.#brushed = true; // OHIF's own size is larger than most lesions
      this.commands.run('setBrushSize', { value: BRUSH_MM });
    }
    this.commands.run('setToolActiveToolbar', { toolName });
  }

  /** Show a slice in the active viewport. */
  show(slice) {
    const id = this.services.viewportGridService.getActiveViewportId();
    const viewport = this.#viewport(id);
    const index = viewport?.getImageIds?.().findIndex(
      image => sliceOfImage(this.libraries.cornerstone, this.workbench.table, image) === slice
    );
    if (index >= 0) {
      this.libraries.cornerstone.utilities.jumpToSlice(viewport.element, { imageIndex: index });
    }
  }

  say(text) {
    this.notice = text;
    this.#emit();
  }

  async #sync() {
    const { viewportGridService: grid, displaySetService } = this.services;
    const { activeViewportId, viewports } = grid.getState();
    const shown = viewports.get(activeViewportId)?.displaySetInstanceUIDs ?? [];
    const displaySet = shown.map(uid => displaySetService.getDisplaySetByUID(uid)).find(isImage);
    if (displaySet && displaySet.displaySetInstanceUID !== this.workbench?.displaySet.displaySetInstanceUID) {
      await this.#switchTo(displaySet);
    }
    await this.#attach();
  }

  async #switchTo(displaySet) {
    const before = this.workbench;
    const id = displaySet.displaySetInstanceUID;
    if (!this.#benches.has(id)) {
      this.#benches.set(id, this.#bench(displaySet));
    }
    this.workbench = this.#benches.get(id);
    this.notice = '';
    this.#overlays.forEach(overlay => overlay.destroy());
    this.#overlays.clear();
    before?.leave();
    this.#emit();
    await this.reopen();
  }

  /** Open the session of the series, with the steps there are. */
  async reopen() {
    const bench = this.workbench;
    try {
      await bench.open();
    } catch {
      return; // shown by the session's state
    }
    if (bench === this.workbench) {
      await this.#attach();
      this.#viewed(this.slice);
    }
  }

  #bench(displaySet) {
    const bench = new Workbench({
      api: this.api,
      libraries: this.libraries,
      services: this.services,
      displaySet,
      source: this.extensions.getActiveDataSourceDefinition().sourceName,
    });
    bench.addEventListener('state', () => bench === this.workbench && this.#emit());
    bench.addEventListener('drawing', () => this.#overlays.forEach(overlay => overlay.draw()));
    bench.addEventListener('notice', event => bench === this.workbench && this.say(event.detail));
    return bench;
  }

  // Labelmap and overlay in every viewport that shows the series; one at a time.
  #attach() {
    this.#attached = this.#attached.then(() => this.#attachAll()).catch(error => console.error(error));
    return this.#attached;
  }

  async #attachAll() {
    const bench = this.workbench;
    if (!bench?.image) {
      return;
    }
    await bench.prepare();
    for (const [id, overlay] of this.#overlays) {
      if (this.#viewport(id) !== overlay.viewport) {
        overlay.destroy(); // the layout changed
        this.#overlays.delete(id);
      }
    }
    for (const [id, { displaySetInstanceUIDs }] of this.services.viewportGridService.getState().viewports) {
      const viewport = this.#viewport(id);
      if (!viewport || !displaySetInstanceUIDs?.includes(bench.displaySet.displaySetInstanceUID)) {
        continue;
      }
      await bench.labelmap?.showIn(id, bench.structures.list);
      if (this.#overlays.get(id)?.viewport !== viewport) {
        this.#overlays.get(id)?.destroy();
        this.#overlays.set(id, this.#overlay(id, viewport));
      }
    }
    this.#overlays.forEach(overlay => overlay.draw());
  }

  #overlay(id, viewport) {
    const { cornerstone } = this.libraries;
    const { STACK_NEW_IMAGE, VOLUME_NEW_IMAGE } = cornerstone.Enums.Events;
    const looked = () => {
      this.#viewed(this.slice);
      this.#emit();
    };
    const listeners = {
      [STACK_NEW_IMAGE]: looked,
      [VOLUME_NEW_IMAGE]: looked,
      pointerenter: () => this.#viewed(this.slice, this.sliceIn(id)),
      mousedown: event => {
        const click = clickOf(event, viewport, this.tool);
        if (click) {
          this.#point(id, click.world, click.positive);
        }
      },
    };
    return new Overlay({ cornerstone, viewport, listeners, content: () => this.#content() });
  }

  #content() {
    const { session, structures, image } = this.workbench;
    const shown = structures.list.filter(structure => structure.visible);
    const facts = session.structures;
    const place = (slice, [x, y]) => pointOf(image.affine, slice, x, y);
    const points = [];
    const boxes = [];
    for (const { name, colour } of shown) {
      for (const { kind, slice, hint } of hintsOf(session.steps, name)) {
        if (kind === 'point') {
          points.push({ at: place(slice, hint.points[0]), positive: hint.positive, colour: css(colour) });
        } else if (kind === 'box' && structures.active?.name === name) {
          const [[x1, y1], [x2, y2]] = hint.points;
          boxes.push({ corners: [place(slice, [x1, y1]), place(slice, [x2, y2])], colour: css(colour) });
        }
      }
    }
    return {
      lines: shown.flatMap(({ name, colour }) => {
        const structure = facts.find(fact => fact.name === name);
        return structure ? lines(structure, css(colour)) : [];
      }),
      points,
      boxes,
      thickness: image.spacing_mm[0] || 1,
    };
  }

  #place(viewportId, world) {
    const viewport = this.#viewport(viewportId);
    const { image, table } = this.workbench;
    const imageId = viewport.getCurrentImageId?.();
    const slice = imageId ? sliceOfImage(this.libraries.cornerstone, table, imageId) : undefined;
    if (slice === undefined) {
      return placeOf(image.affine, world);
    }
    const [x, y] = this.libraries.cornerstone.utilities.worldToImageCoords(imageId, world);
    return { slice, x, y };
  }

  #point(viewportId, world, positive) {
    if (!this.workbench?.image) {
      return;
    }
    const place = this.#place(viewportId, world);
    if (isInside(this.workbench.image, place)) {
      this.workbench.point(place, positive);
    } else {
      this.say('That place is outside the image.');
    }
  }

  #box(viewportId, from, to) {
    const { image } = this.workbench ?? {};
    if (!image) {
      return;
    }
    const [a, b] = [this.#place(viewportId, from), this.#place(viewportId, to)];
    if (a.slice !== b.slice) {
      this.say('Draw a box in the plane in which the series was taken.');
      return;
    }
    const clip = (value, limit) => Math.min(Math.max(value, 0), limit);
    const corners = [a, b].map(({ x, y }) => [clip(x, image.columns), clip(y, image.rows)]);
    const low = [0, 1].map(axis => Math.min(corners[0][axis], corners[1][axis]));
    const high = [0, 1].map(axis => Math.max(corners[0][axis], corners[1][axis]));
    this.workbench.box(a.slice, [low, high]);
  }

  #viewed(slice, hover) {
    clearTimeout(this.#viewTimer);
    if (slice !== undefined) {
      this.#viewTimer = setTimeout(() => this.workbench?.session.view(slice, hover), VIEW_MS);
    }
  }

  #viewport(id) {
    return id ? this.services.cornerstoneViewportService.getCornerstoneViewport(id) : undefined;
  }

  #subscribe(service, events, callback) {
    for (const event of events) {
      const { unsubscribe } = service.subscribe(event, callback);
      this.#subscriptions.push(unsubscribe);
    }
  }

  #emit() {
    this.dispatchEvent(new Event('state'));
  }
}

const isImage = displaySet =>
  displaySet && !displaySet.isOverlayDisplaySet && displaySet.imageIds?.length > 0
  && !NOT_IMAGES.includes(displaySet.Modality);
