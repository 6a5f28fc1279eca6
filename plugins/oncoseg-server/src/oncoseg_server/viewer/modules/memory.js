// The steps of a series in this tab's storage, until they are saved: a reload of the page loses no work.

/** What a tab remembers of one series. */
export class Memory {
  constructor(storage, key) {
    this.storage = storage;
    this.key = `oncoseg-steps ${key}`;
  }

  /** `{model, steps, undone}` as they were remembered; undefined where there are none, or none that can be read. */
  recall() {
    try {
      const { model, steps, undone } = JSON.parse(this.storage.getItem(this.key));
      return Array.isArray(steps) && Array.isArray(undone) && steps.length ? { model, steps, undone } : undefined;
    } catch {
      return undefined;
    }
  }

  remember({ model, steps, undone }) {
    try {
      if (steps.length) {
        this.storage.setItem(this.key, JSON.stringify({ model, steps, undone }));
        return;
      }
    } catch {
      // The storage is full: an older list of steps must not be taken for the present one.
    }
    this.forget();
  }

  forget() {
    this.storage.removeItem(this.key);
  }
}
