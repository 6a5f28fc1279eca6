import { describe, expect, test, vi } from 'vitest';

import { encodeMask } from '../../src/oncoseg_server/viewer/modules/bits.js';
import { ServerError } from '../../src/oncoseg_server/viewer/modules/failures.js';
import { Session } from '../../src/oncoseg_server/viewer/modules/session.js';

// A server of 4 x 4 pixels whose masks say how many steps there are: step n sets pixel n of slice 0.
class FakeApi {
  opened = [];
  closed = [];
  failing = {};
  version = 1;
  #count = 0;

  async server() {
    this.#fail('server');
    return { api: this.version, version: '9.9', models: [{ name: 'toy' }, { name: 'other' }] };
  }

  async open(request) {
    this.#fail('open');
    this.opened.push(structuredClone(request));
    this.steps = [...request.steps];
    this.undone = [...request.undone];
    return {
      session: `s${++this.#count}`, lease: `l${this.#count}`, lease_seconds: 90, model: request.model ?? 'toy',
      image: { rows: 4, columns: 4, slices: 1, instances: [], findings: [] },
      answer: await this.#answer(),
    };
  }

  async step(_, step) {
    this.#fail('step');
    this.steps.push(step);
    this.undone = [];
    return this.#answer();
  }

  async follow(_, step, onProgress) {
    this.#fail('follow');
    onProgress({ done: 1, total: 2 });
    return this.step(_, step);
  }

  async undo() {
    this.#fail('undo');
    this.undone.push(this.steps.pop());
    return this.#answer();
  }

  async redo() {
    this.#fail('redo');
    this.steps.push(this.undone.pop());
    return this.#answer();
  }

  async save(_, request) {
    this.#fail('save');
    return { objects: request.formats.map(format => ({ format })), timing_ms: {} };
  }

  async heartbeat() {
    this.#fail('heartbeat');
  }

  async close(handle) {
    this.closed.push(handle.session);
  }

  async cancel() {}

  /** The next call of this name fails. */
  failOnce(name, code, status = 400) {
    (this.failing[name] ??= []).push(new ServerError(code, '', status));
  }

  #fail(name) {
    const error = this.failing[name]?.shift();
    if (error) {
      throw error;
    }
  }

  async #answer() {
    const names = [...new Set(this.steps.map(({ structure }) => structure))];
    const mask = Uint8Array.from({ length: 16 }, (_, index) => (index < this.steps.length ? 1 : 0));
    const whole = { ...(await encodeMask(new Uint8Array(16).fill(1), 4)) };
    const bits = await packed(mask, whole);
    return {
      steps: this.steps.length, undone: this.undone.length, findings: [], timing_ms: {},
      structures: names.map(name => ({ name, slices: [0] })),
      changes: names.map(structure => ({ structure, slice: 0, mask: bits })),
    };
  }
}

async function packed(mask, { x, y, width, height }) {
  const { deflateSync } = await import('node:zlib');
  const bytes = new Uint8Array(2);
  mask.forEach((value, index) => value && (bytes[index >> 3] |= 128 >> (index & 7)));
  return { x, y, width, height, bits: deflateSync(bytes).toString('base64') };
}

async function opened(options = {}) {
  const api = new FakeApi();
  const session = new Session(api, { source: 'pacs', studyUid: '1.1', seriesUid: '1.2', retryMs: 1, ...options });
  const notices = [];
  session.addEventListener('notice', event => notices.push(event.detail));
  await session.open();
  return { api, session, notices };
}

const click = (session, structure = 'Lesion') =>
  session.prompt(structure, 0, [{ kind: 'point', points: [[1.5, 1.5]], positive: true }]);
const count = (session, structure = 'Lesion') => session.masks.get(structure, 0)?.reduce((sum, value) => sum + value, 0) ?? 0;

test('a prompt is a step, its answer the mask', async () => {
  const { api, session } = await opened();
  await click(session);
  expect(api.steps).toHaveLength(1);
  expect(count(session)).toBe(1);
  expect(session.phase).toBe('ready');
});

test('undo and redo go to any depth, and a new step ends redo', async () => {
  const { session } = await opened();
  await click(session);
  await click(session);
  await click(session);
  await session.undo();
  await session.undo();
  expect([count(session), session.steps.length, session.undone.length]).toEqual([1, 1, 2]);
  await session.redo();
  expect([count(session), session.steps.length, session.undone.length]).toEqual([2, 2, 1]);
  await click(session);
  expect(session.undone).toEqual([]);
  await session.redo();
  expect(session.steps).toHaveLength(3);
});

test('undo takes the structure away that has no step left', async () => {
  const { session } = await opened();
  const changed = [];
  await click(session);
  session.addEventListener('change', event => changed.push(...event.detail.slices));
  await session.undo();
  expect(session.structures).toEqual([]);
  expect(count(session)).toBe(0);
  expect(changed).toEqual([0]);
});

test('calls wait for each other', async () => {
  const { session } = await opened();
  await Promise.all([click(session), click(session), session.undo(), click(session)]);
  expect(session.steps).toHaveLength(2);
  expect(count(session)).toBe(2);
});

test('a refused prompt leaves everything as it was and is named', async () => {
  const { api, session } = await opened();
  await click(session);
  api.failOnce('step', 'prompt_refused', 422);
  await expect(click(session)).rejects.toMatchObject({ code: 'prompt_refused' });
  expect([session.phase, session.error.code, session.steps.length, count(session)]).toEqual(['ready', 'prompt_refused', 1, 1]);
  await click(session);
  expect(session.error).toBeNull();
});

describe('a session that the server lost', () => {
  test.each([
    ['unknown_session', 'The server had lost the session'],
    ['lease_expired', 'The session had expired'],
  ])('%s: is opened again with its steps, and the call repeated', async (code, words) => {
    const { api, session, notices } = await opened();
    await click(session);
    await click(session);
    await session.undo();
    api.failOnce('step', code, 410);
    await click(session);
    expect(api.opened).toHaveLength(2);
    expect(api.opened[1].steps).toHaveLength(1);
    expect(api.opened[1].undone).toHaveLength(1);
    expect(session.steps).toHaveLength(2);
    expect(count(session)).toBe(2);
    expect(notices).toHaveLength(1);
    expect(notices[0]).toMatch(words);
    expect(notices[0]).toContain('its one prompt or edit');
  });

  test('comes back when the server answers again', async () => {
    const { api, session, notices } = await opened();
    await click(session);
    api.failOnce('step', 'unreachable', 0);
    api.failOnce('server', 'unreachable', 0);
    await expect(click(session)).rejects.toMatchObject({ code: 'unreachable' });
    expect(session.phase).toBe('lost');
    await vi.waitFor(() => expect(session.phase).toBe('ready'));
    expect(session.steps).toHaveLength(1);
    expect(api.opened.at(-1).steps).toHaveLength(1);
    expect(notices.join()).toContain('answers again');
  });

  test.each(['timed_out', 'internal'])('is opened again where nobody knows what it did (%s)', async code => {
    const { api, session } = await opened();
    await click(session);
    api.failOnce('step', code, 503);
    await expect(click(session)).rejects.toMatchObject({ code });
    await vi.waitFor(() => expect(session.phase).toBe('ready'));
    expect(api.opened.at(-1).steps).toHaveLength(1);
    expect(session.steps).toHaveLength(1);
  });

  test('the heartbeat notices it', async () => {
    vi.useFakeTimers();
    try {
      const { api, session } = await opened();
      api.failOnce('heartbeat', 'lease_expired', 410);
      await vi.advanceTimersByTimeAsync(30_500);
      vi.useRealTimers();
      await vi.waitFor(() => expect(api.opened).toHaveLength(2));
      await vi.waitFor(() => expect(session.phase).toBe('ready'));
    } finally {
      vi.useRealTimers();
    }
  });
});

test('a session that another page took stops until it is opened again', async () => {
  const { api, session } = await opened();
  await click(session);
  api.failOnce('step', 'lease_taken', 409);
  await expect(click(session)).rejects.toMatchObject({ code: 'lease_taken' });
  expect(session.phase).toBe('failed');
  await session.open();
  expect([session.phase, session.steps.length]).toEqual(['ready', 1]);
});

test('another version of the API is refused before anything is opened', async () => {
  const api = new FakeApi();
  api.version = 2;
  const session = new Session(api, { source: 'pacs', studyUid: '1', seriesUid: '2' });
  await expect(session.open()).rejects.toMatchObject({ code: 'version_mismatch' });
  expect(session.error.message).toContain('version 2');
  expect(api.opened).toEqual([]);
});

test('another image is closed at once', async () => {
  const api = new FakeApi();
  const session = new Session(api, { source: 'pacs', studyUid: '1', seriesUid: '2' });
  await expect(session.open(() => new ServerError('other_image'))).rejects.toMatchObject({ code: 'other_image' });
  expect(api.closed).toEqual(['s1']);
  expect(session.phase).toBe('failed');
});

test('a server that counts other steps is not believed', async () => {
  const { api, session } = await opened();
  await click(session);
  api.steps.push({ structure: 'Lesion' });
  await expect(click(session)).rejects.toMatchObject({ code: 'out_of_step' });
  expect(session.phase).toBe('failed');
});

test('a new name is in every step, and the session is opened with it', async () => {
  const { api, session } = await opened();
  await click(session);
  await click(session, 'node');
  await session.rename('Lesion', 'GTV 1');
  expect(api.opened.at(-1).steps.map(({ structure }) => structure)).toEqual(['GTV 1', 'node']);
  expect(session.masks.get('Lesion', 0)).toBeUndefined();
});

test('a name that the server refuses is taken back', async () => {
  const { api, session } = await opened();
  await click(session);
  api.failOnce('open', 'bad_request');
  await expect(session.rename('Lesion', 'GTV')).rejects.toThrow();
  expect(session.steps[0].structure).toBe('Lesion');
});

test('another model answers the same steps', async () => {
  const { api, session } = await opened();
  await click(session);
  await session.useModel('other');
  expect(api.opened.at(-1)).toMatchObject({ model: 'other', steps: [{ structure: 'Lesion' }] });
});

test('a propagation says how far it is', async () => {
  const { session } = await opened();
  await click(session);
  const seen = [];
  session.addEventListener('state', () => session.progress && seen.push(session.progress.done));
  await session.propagate('Lesion');
  expect(seen).toContain(1);
  expect(session.progress).toBeNull();
});

test('an edit carries the mask that was drawn', async () => {
  const { api, session } = await opened();
  const mask = new Uint8Array(16);
  mask[5] = mask[6] = 1;
  await session.edit('Lesion', 0, mask);
  expect(api.steps[0]).toMatchObject({ step: 'edit', structure: 'Lesion', slice: 0, mask: { x: 1, y: 1, width: 2, height: 1 } });
});

test('a closed session keeps its steps', async () => {
  const { api, session } = await opened();
  await click(session);
  await session.close();
  expect(api.closed).toEqual(['s1']);
  await session.open();
  expect(api.opened.at(-1).steps).toHaveLength(1);
  expect(count(session)).toBe(1);
});
