// The faults that a person may meet, one after the other in one page, and what the panel then says. Prints JSON.
//
// The archive and the wrong token are real; for the rest the API is this stand-in, which answers as the server does.
// node faults.mjs '{"playwright", "chromium", "origin", "source", "study", "token", "pictures"}'

import { deflateSync } from 'node:zlib';

import { Viewer } from './viewer.mjs';

const plan = JSON.parse(process.argv[2]);
const viewer = await Viewer.start(plan);
const seen = { faults: {} };
const PIXEL = [359.5, 362.5];
const FULL = { x: 340, y: 350, width: 40, height: 24, bits: deflateSync(Buffer.alloc(120, 255)).toString('base64') };

let fault = null; // {on: 'open' | 'steps' | 'save' | 'all', status, body} or {on: 'all', abort: true}
let instances = [];
let steps = [];
let version = 1;

const structureOf = name => ({
  name, slices: [0], score: 0.9, presence: null, edited: false, propagated: false, voxels: 960, area_mm2: null,
  volume_ml: null, mean: null, unit: null, diameter_slice: null, long: null, short: null, findings: [],
});

function answer() {
  const removed = steps.filter(({ step }) => step === 'remove').map(({ structure }) => structure);
  const names = [...new Set(steps.map(({ structure }) => structure))].filter(name => !removed.includes(name));
  return {
    steps: steps.length, undone: 0, findings: [], timing_ms: { total: 1 }, structures: names.map(structureOf),
    changes: names.map(structure => ({ structure, slice: 0, mask: FULL })),
  };
}

function reply(route, call) {
  if (fault?.abort) {
    return route.abort('connectionrefused');
  }
  if (fault && (fault.on === call || fault.on === 'all')) {
    return route.fulfill({ status: fault.status, json: fault.body });
  }
  const request = route.request();
  if (call === 'server') {
    return route.fulfill({ json: { api: version, version: '0.2.0', models: [{ name: 'litemedsam', prompts: ['point', 'box'] }], sources: [], limits: {} } });
  }
  if (call === 'open') {
    ({ steps } = request.postDataJSON());
    const image = {
      rows: 512, columns: 512, slices: instances.length, modality: 'CT', physical: true, spacing_mm: [5, 0.6, 0.6],
      affine: [[0.6, 0, 0, 0], [0, 0.6, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]], findings: [],
      instances: instances.map(sop_uid => ({ sop_uid, frame: null })),
    };
    return route.fulfill({ status: 201, json: { session: 's', lease: 'l', lease_seconds: 120, model: 'litemedsam', image, answer: answer() } });
  }
  if (call === 'steps') {
    steps = [...steps, request.postDataJSON()];
    return route.fulfill({ json: answer() });
  }
  return call === 'save' ? route.fulfill({ status: 201, json: { objects: [], timing_ms: {} } }) : route.fulfill({ status: 204 });
}

const NAMES = { server: /\/server$/, open: /\/sessions$/, steps: /\/steps$/, save: /\/save$/ };
const nameOf = url => Object.keys(NAMES).find(name => NAMES[name].test(url)) ?? 'other';

async function note(name, phase) {
  await viewer.page.waitForSelector('.oncoseg-error');
  await viewer.page.waitForSelector(`.oncoseg-state[data-phase="${phase}"]`);
  const { error, code } = await viewer.panel();
  seen.faults[name] = { error, code, phase };
  if (plan.pictures) {
    await viewer.page.locator('.oncoseg-panel').screenshot({ path: `${plan.pictures}/fault-${name}.png` });
  }
}

async function during(next, act, name, phase = 'ready') {
  fault = next;
  const before = await viewer.answers();
  await act();
  await viewer.oneMore(before);
  await note(name, phase);
  fault = null;
}

const failure = (on, status, code, message) => ({ on, status, body: { code, message } });
const again = () => viewer.press('Open again');
const isReady = async () => {
  await viewer.ready();
  await viewer.page.waitForSelector('.oncoseg-error', { state: 'detached' });
};
const click = () => viewer.click(PIXEL);

try {
  // Really: the wrong token, on the study list, where there is no panel.
  await viewer.open('/#token=wrong');
  const banner = viewer.page.locator('.oncoseg-banner');
  await banner.waitFor();
  seen.faults.wrong_token = { error: await banner.textContent(), code: 'unauthorized' };
  if (plan.pictures) {
    await viewer.page.screenshot({ path: `${plan.pictures}/fault-wrong_token.png` });
  }

  await viewer.page.route('**/api/v1/**', route => reply(route, nameOf(new URL(route.request().url()).pathname)));
  fault = failure('open', 424, 'source_unreachable', 'the source `pacs` does not answer: connection refused; check that the archive runs');
  await viewer.page.evaluate(token => sessionStorage.setItem('oncoseg-token', token), plan.token);
  await viewer.openStudy(plan.source, plan.study);
  await note('pacs_down', 'failed');
  instances = await viewer.page.evaluate(() =>
    window.services.displaySetService
      .getActiveDisplaySets()
      .find(({ Modality }) => Modality === 'CT')
      .images.map(({ SOPInstanceUID }) => SOPInstanceUID)
  );

  await during(failure('open', 404, 'not_found', 'the archive has no such series'), again, 'series_gone', 'failed');
  await during(failure('open', 503, 'model_unavailable', 'the weights of `litemedsam` are not there'), again, 'model_missing', 'failed');
  version = 2;
  await during(null, again, 'version_mismatch', 'failed');
  version = 1;
  const right = instances;
  instances = right.map((uid, index) => (index === 5 ? '1.2.3.4' : uid));
  await during(null, again, 'other_image', 'failed');
  instances = right;
  await again();
  await isReady();

  await viewer.tool('include');
  await during(failure('steps', 503, 'out_of_memory', 'the GPU ran out of memory: try again, or close other series'), click, 'gpu_out_of_memory');
  await viewer.answered(click);
  await during(failure('save', 507, 'disk_full', "the server's disk is full: free some space and try again"), () => viewer.press('Save'), 'full_disk');
  await during(failure('steps', 409, 'lease_taken', 'the session belongs to somebody else'), click, 'lease_taken', 'failed');
  await again();
  await isReady();

  // Nothing answers: then it does again, and the session is opened with its steps by itself.
  const before = steps.length;
  await during({ abort: true }, click, 'wrong_port', 'lost');
  await isReady();
  await viewer.page.waitForFunction(() => document.querySelector('.oncoseg-notice'));
  seen.back = { notice: (await viewer.panel()).notice, before, steps: steps.length };

  // The list of structures: rename one that has steps, add one, hide it, take the first away.
  await viewer.page.locator('.oncoseg-name').first().dblclick();
  await viewer.page.locator('.oncoseg-structures input[type="text"]').fill('GTV primary');
  await viewer.page.keyboard.press('Enter');
  await viewer.page.waitForFunction(() => document.querySelector('.oncoseg-name')?.textContent === 'GTV primary');
  await viewer.phase();
  seen.renamed = [...new Set(steps.map(({ structure }) => structure))];
  await viewer.page.keyboard.press('g');
  await viewer.page.keyboard.press('s');
  await viewer.page.waitForFunction(() => document.querySelector('.oncoseg-structures [title="Show (S)"]'));
  seen.added = (await viewer.panel()).structures;
  await viewer.page.keyboard.press('x');
  await viewer.page.waitForSelector('[data-tool="box"].oncoseg-on');
  await viewer.answered(() => viewer.drag([300.5, 310.5], [340.5, 360.5]));
  seen.box = steps.at(-1);
  await viewer.answered(() => viewer.page.locator('.oncoseg-structures [title="Remove"]').first().click());
  seen.removed = { step: steps.at(-1), structures: (await viewer.panel()).structures };
} catch (error) {
  seen.failed = error.message;
  seen.panel = await viewer.panel().catch(() => null);
  await viewer.page.screenshot({ path: `${plan.pictures ?? '.'}/failed.png` }).catch(() => undefined);
}
seen.problems = viewer.problems.filter(problem => problem.startsWith('error:'));
await viewer.close();
console.log(JSON.stringify(seen));
