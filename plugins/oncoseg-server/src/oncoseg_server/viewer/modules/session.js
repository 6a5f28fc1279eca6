// One session of the server and all that is needed to open it again: the series, the model, the steps.
//
// The state is the list of steps. It is kept here too, so that a lost server costs nothing: the session is opened
// again with them, and the user is told in one line.

import { API_VERSION } from './api.js';
import { decodeMask, encodeMask } from './bits.js';
import { ServerError, isLost, isUnreachable } from './failures.js';
import { Masks } from './masks.js';

// After these nobody knows whether the server took the step: the session is opened again with the steps of this page.
const UNSURE = new Set(['timed_out', 'internal', 'no_reason']);
const RESUMED = { lease_expired: 'The session had expired', unknown_session: 'The server had lost the session' };

/**
 * A session on one series. Its listeners are told of `change` (masks of slices), `state` and `notice`.
 *
 * `phase`: `closed`, `opening`, `ready`, `busy`, `lost` (nothing answers), `failed` (open it again by hand).
 */
export class Session extends EventTarget {
  phase = 'closed';
  error = null;
  progress = null;
  answered = 0; // calls that ended, well or not
  steps = [];
  undone = [];
  structures = [];
  findings = [];
  timing = {};
  image = null;
  masks = null;
  #handle = null;
  #queue = Promise.resolve();
  #timer = null;

  constructor(api, { source, studyUid, seriesUid, model = null, retryMs = 2_000 }) {
    super();
    this.api = api;
    this.series = { source, study_uid: studyUid, series_uid: seriesUid };
    this.model = model;
    this.retryMs = retryMs;
  }

  /** Open it, with the steps there are. `check(image)` returns a ServerError where the image is not the one shown. */
  open(check = this.check) {
    this.check = check;
    return this.#exclusive('opening', () => this.#open());
  }

  prompt(structure, slice, hints, { text = null, replace = false } = {}) {
    return this.#step({ step: 'prompt', structure, slice, hints, text, units: 'pixel', replace });
  }

  /** The mask of a structure as a hand drew it. */
  async edit(structure, slice, mask) {
    const encoded = await encodeMask(mask, this.image.columns);
    return this.#step({ step: 'edit', structure, slice, mask: encoded });
  }

  /** Follow a structure from the slices that have a prompt or an edit. */
  propagate(structure) {
    return this.#step({ step: 'propagate', structure });
  }

  remove(structure) {
    return this.#step({ step: 'remove', structure });
  }

  /** Cancel the propagation that runs; its step then fails with `cancelled`. */
  async cancel() {
    if (this.progress && this.#handle) {
      await this.api.cancel(this.#handle);
    }
  }

  undo() {
    return this.#move('undo', this.steps, this.undone);
  }

  redo() {
    return this.#move('redo', this.undone, this.steps);
  }

  /** Give a structure another name: the steps say it, so the session is opened again with them. */
  rename(from, to) {
    const renamed = step => (step.structure === from ? { ...step, structure: to } : step);
    return this.#exclusive('opening', async () => {
      const before = [this.steps, this.undone];
      [this.steps, this.undone] = [this.steps.map(renamed), this.undone.map(renamed)];
      try {
        await this.#reopen();
      } catch (error) {
        [this.steps, this.undone] = before;
        throw error;
      }
    });
  }

  /** Go on with another model: every step is answered again. */
  useModel(model) {
    return this.#exclusive('opening', async () => {
      const before = this.model;
      this.model = model;
      try {
        await this.#reopen();
      } catch (error) {
        this.model = before;
        throw error;
      }
    });
  }

  save(request) {
    return this.#exclusive('busy', () => this.#withResume(() => this.api.save(this.#handle, request)));
  }

  /** What is looked at; nobody waits for it. */
  view(slice, hover) {
    if (this.#handle && this.phase === 'ready') {
      this.api.view(this.#handle, hover === undefined ? { slice } : { slice, hover }).catch(() => undefined);
    }
  }

  /** Give the session back; its steps stay. */
  async close() {
    this.#stopHeartbeat();
    const handle = this.#handle;
    this.#handle = null;
    this.#set('closed');
    if (handle) {
      await this.api.close(handle).catch(() => undefined);
    }
  }

  // One call after the other: an answer says what the step before it left.
  #exclusive(phase, work) {
    const run = this.#queue.then(async () => {
      this.#set(phase);
      try {
        const result = await work();
        this.answered += 1;
        this.#set('ready');
        return result;
      } catch (error) {
        this.answered += 1;
        this.#failed(error);
        throw error;
      }
    });
    this.#queue = run.catch(() => undefined);
    return run;
  }

  #step(step) {
    return this.#exclusive('busy', async () => {
      const answer = await this.#withResume(() => this.#send(step));
      this.steps = [...this.steps, step];
      this.undone = [];
      await this.#take(answer);
      return answer;
    });
  }

  async #send(step) {
    if (step.step !== 'propagate') {
      return this.api.step(this.#handle, step);
    }
    this.progress = { done: 0, total: 0 };
    try {
      return await this.api.follow(this.#handle, step, progress => {
        this.progress = progress;
        this.#emit('state');
      });
    } finally {
      this.progress = null;
    }
  }

  #move(call, from, to) {
    return this.#exclusive('busy', async () => {
      const isUndo = call === 'undo';
      const source = isUndo ? this.steps : this.undone;
      if (!source.length) {
        return null;
      }
      const answer = await this.#withResume(() => this.api[call](this.#handle));
      const step = (isUndo ? this.steps : this.undone).at(-1);
      if (isUndo) {
        [this.steps, this.undone] = [this.steps.slice(0, -1), [...this.undone, step]];
      } else {
        [this.steps, this.undone] = [[...this.steps, step], this.undone.slice(0, -1)];
      }
      await this.#take(answer);
      return answer;
    });
  }

  // A call on a session that the server lost is repeated on the one that is opened in its place.
  async #withResume(call) {
    if (!this.#handle) {
      await this.#reopen();
    }
    try {
      return await call();
    } catch (error) {
      if (!isLost(error)) {
        throw error;
      }
      await this.#resume(error);
      return call();
    }
  }

  async #resume(error) {
    await this.#reopen();
    const count = this.steps.length;
    const steps = count === 1 ? 'its one prompt or edit' : `its ${count} prompts and edits`;
    const why = error ? RESUMED[error.code] : 'The server answers again';
    this.#notice(`${why}; the session was opened again with ${steps}.`);
  }

  async #reopen() {
    const old = this.#handle;
    this.#handle = null;
    this.#stopHeartbeat();
    if (old) {
      await this.api.close(old).catch(() => undefined);
    }
    await this.#open();
  }

  async #open() {
    const info = await this.api.server();
    if (info.api !== API_VERSION) {
      throw new ServerError(
        'version_mismatch',
        `This page speaks version ${API_VERSION} of the API and the server (${info.version ?? 'unknown'}) version ` +
          `${info.api}; reload the page (Ctrl+Shift+R).`
      );
    }
    const request = { ...this.series, steps: this.steps, undone: this.undone };
    if (this.model) {
      request.model = this.model;
    }
    const opened = await this.api.open(request);
    const handle = { session: opened.session, lease: opened.lease };
    const wrong = this.check?.(opened.image);
    if (wrong) {
      await this.api.close(handle).catch(() => undefined);
      throw wrong;
    }
    this.#handle = handle;
    this.info = info;
    this.model = opened.model;
    this.image = opened.image;
    const before = this.masks?.slices() ?? new Set();
    this.masks = new Masks(opened.image.rows, opened.image.columns);
    await this.#take(opened.answer, before);
    this.#startHeartbeat(opened.lease_seconds);
  }

  async #take(answer, alsoChanged = new Set()) {
    const changed = new Set(alsoChanged);
    for (const { structure, slice, mask } of answer.changes) {
      this.masks.change(structure, slice, mask, await decodeMask(mask));
      changed.add(slice);
    }
    const names = new Set(answer.structures.map(({ name }) => name));
    for (const { name } of this.structures) {
      if (!names.has(name)) {
        this.masks.slices().forEach(slice => this.masks.get(name, slice) && changed.add(slice));
        this.masks.remove(name);
      }
    }
    this.structures = answer.structures;
    this.findings = answer.findings;
    this.timing = answer.timing_ms;
    if (answer.steps !== this.steps.length) {
      // Never go on with a list that says something else than the masks do.
      throw new ServerError(
        'out_of_step',
        `The server counts ${answer.steps} steps and this page ${this.steps.length}; open the session again.`
      );
    }
    this.dispatchEvent(new CustomEvent('change', { detail: { slices: [...changed] } }));
  }

  #failed(error) {
    this.error = error;
    if (isUnreachable(error) || UNSURE.has(error.code)) {
      this.#set('lost', error);
      this.#waitForServer();
    } else if (isLost(error) || ['lease_taken', 'out_of_step', 'version_mismatch', 'other_image'].includes(error.code)) {
      this.#stopHeartbeat();
      this.#handle = null;
      this.#set('failed', error);
    } else {
      this.#set(this.#handle ? 'ready' : 'failed', error);
    }
  }

  #waitForServer() {
    this.#stopHeartbeat();
    this.#timer = setTimeout(async () => {
      try {
        await this.api.server();
      } catch {
        this.#waitForServer();
        return;
      }
      if (this.phase === 'lost') {
        this.#exclusive('opening', () => this.#resume(null)).catch(() => undefined);
      }
    }, this.retryMs);
  }

  #startHeartbeat(seconds) {
    this.#stopHeartbeat();
    this.#timer = setTimeout(async () => {
      const handle = this.#handle;
      try {
        await this.api.heartbeat(handle);
      } catch (error) {
        if (this.#handle === handle && this.phase === 'ready') {
          if (isLost(error)) {
            this.#exclusive('opening', () => this.#resume(error)).catch(() => undefined);
            return;
          }
          this.#failed(error);
          if (this.phase !== 'ready') {
            return;
          }
        }
      }
      if (this.#handle === handle) {
        this.#startHeartbeat(seconds);
      }
    }, (seconds * 1000) / 3);
  }

  #stopHeartbeat() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #set(phase, error = null) {
    this.phase = phase;
    this.error = error;
    this.#emit('state');
  }

  #notice(text) {
    this.dispatchEvent(new CustomEvent('notice', { detail: text }));
  }

  #emit(name) {
    this.dispatchEvent(new Event(name));
  }
}
