// What a person does in the viewer, in a real Chromium. Steps are called by name; see run.mjs.

import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const FLAGS = ['--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'];

export class Viewer {
  static async start({ playwright, chromium, origin }) {
    const browser = await require(playwright).chromium.launch({ executablePath: chromium, args: FLAGS });
    const page = await browser.newPage({ viewport: { width: 1440, height: 860 } });
    return new Viewer(browser, page, origin);
  }

  constructor(browser, page, origin) {
    Object.assign(this, { browser, page, origin, requests: new Set(), problems: [] });
    page.setDefaultTimeout(60_000);
    page.on('request', request => this.requests.add(new URL(request.url()).origin));
    page.on('pageerror', error => this.problems.push(`error: ${error.message}`));
    page.on('console', message => message.type() === 'error' && this.problems.push(`console: ${message.text()}`));
  }

  close() {
    return this.browser.close();
  }

  async open(path) {
    await this.page.goto(this.origin + path);
  }

  async openStudy(source, studyUid, fragment = '') {
    await this.open(`/viewer/oncoseg/${source}?StudyInstanceUIDs=${studyUid}${fragment}`);
  }

  async phase(phase = 'ready') {
    await this.page.waitForSelector(`.oncoseg-state[data-phase="${phase}"]`);
  }

  /** Ready, and the image is drawn. */
  async ready() {
    await this.phase();
    await this.page.waitForFunction(() => {
      const { viewportGridService: grid, cornerstoneViewportService: viewports } = window.services;
      const viewport = viewports.getCornerstoneViewport(grid.getActiveViewportId());
      return viewport?.getCurrentImageId?.() && window.services.segmentationService.getSegmentations().length;
    });
  }

  /** Show the image with this SOP instance UID. */
  async show(sopUid) {
    await this.page.evaluate(async uid => {
      const { viewportGridService: grid, cornerstoneViewportService: viewports } = window.services;
      const viewport = viewports.getCornerstoneViewport(grid.getActiveViewportId());
      const imageIndex = viewport.getImageIds().findIndex(id => id.includes(uid));
      await window.cornerstone.utilities.jumpToSlice(viewport.element, { imageIndex });
    }, sopUid);
    await this.page.waitForFunction(uid => {
      const { viewportGridService: grid, cornerstoneViewportService: viewports } = window.services;
      return viewports.getCornerstoneViewport(grid.getActiveViewportId()).getCurrentImageId().includes(uid);
    }, sopUid);
  }

  /** Where a pixel of the shown image is on the page. */
  place([x, y]) {
    return this.page.evaluate(([column, row]) => {
      const { viewportGridService: grid, cornerstoneViewportService: viewports } = window.services;
      const viewport = viewports.getCornerstoneViewport(grid.getActiveViewportId());
      const world = window.cornerstone.utilities.imageToWorldCoords(viewport.getCurrentImageId(), [column, row]);
      const [left, top] = viewport.worldToCanvas(world);
      const box = viewport.canvas.getBoundingClientRect();
      return [box.left + left, box.top + top];
    }, [x, y]);
  }

  /** Where a point in LPS mm is on the page, once a viewport of another plane shows the plane through it. */
  async inPlane(viewportId, world) {
    await this.page.waitForFunction(
      id => window.services.cornerstoneViewportService.getCornerstoneViewport(id)?.element.querySelector('.oncoseg-overlay'),
      viewportId
    );
    return this.page.evaluate(([id, point]) => {
      const viewport = window.services.cornerstoneViewportService.getCornerstoneViewport(id);
      const { focalPoint, position, viewPlaneNormal: normal } = viewport.getCamera();
      const distance = point.reduce((sum, value, axis) => sum + (value - focalPoint[axis]) * normal[axis], 0);
      const moved = from => from.map((value, axis) => value + distance * normal[axis]);
      viewport.setCamera({ focalPoint: moved(focalPoint), position: moved(position) });
      viewport.render();
      const [left, top] = viewport.worldToCanvas(point);
      const box = viewport.canvas.getBoundingClientRect();
      return [box.left + left, box.top + top];
    }, [viewportId, world]);
  }

  async click(pixel, options) {
    const [x, y] = await this.place(pixel);
    await this.page.mouse.move(x, y);
    await this.page.mouse.click(x, y, options);
  }

  async drag(from, to) {
    const [start, end] = [await this.place(from), await this.place(to)];
    await this.page.mouse.move(...start);
    await this.page.mouse.down();
    await this.page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2);
    await this.page.mouse.move(...end);
    await this.page.mouse.up();
  }

  tool(kind) {
    return this.page.click(`.oncoseg-panel [data-tool="${kind}"]`);
  }

  press(name) {
    return this.page.click(`.oncoseg-panel button:text-is("${name}")`);
  }

  /** How many calls of the session have ended. */
  answers() {
    return this.page.evaluate(() => Number(document.querySelector('.oncoseg-state').dataset.answered));
  }

  async oneMore(before) {
    await this.page.waitForFunction(last => Number(document.querySelector('.oncoseg-state').dataset.answered) > last, before);
  }

  /** Do it, and wait until the server has answered. */
  async answered(action, path = /\/api\/v1\/sessions\/[^/]+\/(steps|undo|redo|save)$/) {
    const before = await this.answers();
    const answer = this.page.waitForResponse(response => path.test(new URL(response.url()).pathname));
    await action();
    const response = await answer;
    await this.oneMore(before);
    await this.phase();
    await this.page.waitForTimeout(200); // the image is drawn in the next frames
    return { status: response.status(), sent: response.request().postDataJSON() };
  }

  /** The panel as a person reads it. */
  async panel() {
    return this.page.evaluate(() => {
      const text = selector => document.querySelector(`.oncoseg-panel ${selector}`)?.textContent ?? null;
      const all = selector => [...document.querySelectorAll(`.oncoseg-panel ${selector}`)];
      return {
        phase: document.querySelector('.oncoseg-state')?.dataset.phase ?? null,
        error: text('.oncoseg-error'),
        code: document.querySelector('.oncoseg-error')?.dataset.code ?? null,
        notice: text('.oncoseg-notice'),
        saved: text('.oncoseg-saved'),
        latency: text('.oncoseg-latency'),
        structures: all('.oncoseg-name').map(element => element.textContent),
        rows: Object.fromEntries(all('dd[data-row]').map(element => [element.dataset.row, element.textContent])),
        drawn: [...document.querySelectorAll('.oncoseg-overlay text')].map(element => element.textContent),
      };
    });
  }

  /**
   * Labelmaps as cornerstone has them: `[{id, label, slices: {SOP instance UID: {voxels, columns, runs}}}]`.
   * `runs` are the lengths of what is 0, not 0, 0, … in row order.
   */
  labelmaps() {
    return this.page.evaluate(() => {
      const { cache, metaData } = window.cornerstone;
      const sliceOf = image => {
        const data = image.voxelManager.getScalarData();
        const runs = [];
        let [voxels, start, drawn] = [0, 0, false];
        for (let index = 0; index <= data.length; index++) {
          const isEnd = index === data.length;
          if (isEnd || Boolean(data[index]) !== drawn) {
            runs.push(index - start);
            voxels += drawn ? index - start : 0;
            [start, drawn] = [index, !drawn];
          }
        }
        return { voxels, columns: image.columns, runs };
      };
      return window.services.segmentationService.getSegmentations().map(({ segmentationId, label, representationData }) => {
        const images = (representationData.Labelmap?.imageIds ?? []).map(id => cache.getImage(id)).filter(Boolean);
        const slices = images.map(image => [metaData.get('instance', image.referencedImageId).SOPInstanceUID, sliceOf(image)]);
        return { id: segmentationId, label, slices: Object.fromEntries(slices.filter(([, { voxels }]) => voxels)) };
      });
    });
  }

  /** The slices of our labelmap. */
  async masks() {
    return (await this.labelmaps()).find(({ id }) => id.startsWith('oncoseg-'))?.slices ?? {};
  }

  /** The mean difference of red and blue, of 255, in a square around a pixel on the screen: 0 where all is grey. */
  async colour(pixel) {
    const [x, y] = await this.place(pixel);
    const clip = { x: x - 4, y: y - 4, width: 8, height: 8 };
    const png = (await this.page.screenshot({ clip })).toString('base64');
    return this.page.evaluate(async data => {
      const bytes = Uint8Array.from(atob(data), character => character.charCodeAt(0));
      const bitmap = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
      canvas.drawImage(bitmap, 0, 0);
      const pixels = canvas.getImageData(0, 0, bitmap.width, bitmap.height).data;
      let sum = 0;
      for (let index = 0; index < pixels.length; index += 4) {
        sum += pixels[index] - pixels[index + 2];
      }
      return sum / (pixels.length / 4);
    }, png);
  }
}
